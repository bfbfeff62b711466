"""What the processor is called, and how it multiplies int8, as /proc/cpuinfo tells."""

import pytest

from edgeae_runtime.machine.processor import kind, make

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 7763
flags\t\t: fpu sse4_2 avx avx2{}
bugs\t\t: avx512_vnni

processor\t: 1
model name\t: another
flags\t\t: avx512_vnni
"""
ARM = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32{}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (X86.format(""), "avx2"),
        (X86.format(" avx_vnni"), "avx_vnni"),
        (X86.format(" avx512bw avx512_vnni avx_vnni"), "avx512_vnni"),
        (X86.format(" avx512bw"), "avx512bw"),
        (X86.replace(" avx avx2", "").format(""), "sse4_2"),
        (ARM.format(""), "asimd"),
        (ARM.format(" asimddp"), "asimddp"),
        (ARM.format(" asimddp i8mm"), "i8mm"),
        ("", ""),
        ("processor: 0\n\u00fc\nisa\t: rv64imafdc\n", ""),
    ],
)
def test_the_best_int8_instructions_of_the_first_core_are_named(tmp_path, text, expected):
    path = tmp_path / "cpuinfo"
    path.write_text(text, encoding="utf-8")
    assert kind(path) == expected


def test_its_make_is_what_the_kernel_says_on_x86_and_on_arm(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text(X86)
    assert make(path) == "AMD EPYC 7763"
    path.write_text(ARM)
    assert make(path) == "0x41 0xd08 3 0x0"
    assert make(tmp_path / "none") == kind(tmp_path / "none") == ""
