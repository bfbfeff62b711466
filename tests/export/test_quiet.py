import os
import subprocess
import sys

import pytest

from edgeae_export.quiet import quiet


def chatter():
    print("from print")
    print("to stderr", file=sys.stderr)
    os.write(2, b"from native code\n")
    subprocess.run([sys.executable, "-S", "-c", "import os; os.write(2, b'from a child')"], check=True)


def test_what_python_and_native_code_print_is_swallowed(capfd):
    with quiet():
        chatter()
    assert capfd.readouterr() == ("", "")


def test_what_is_printed_before_and_after_is_not(capfd):
    print("before", file=sys.stderr, end="")
    with quiet():
        chatter()
    print("after", file=sys.stderr)
    os.write(2, b"after too\n")
    print("and this")
    captured = capfd.readouterr()
    assert captured.err.startswith("before")
    assert sorted(captured.err.removeprefix("before").split("\n")) == ["", "after", "after too"]
    assert captured.out == "and this\n"


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_when_something_goes_wrong_all_of_it_is_shown(kind, capfd):
    with pytest.raises(kind, match="what went wrong"), quiet():
        chatter()
        raise kind("what went wrong")
    sys.stderr.flush()
    shown = capfd.readouterr().err
    for text in ("from print", "to stderr", "from native code", "from a child"):
        assert text in shown
    os.write(2, b"still there")
    assert capfd.readouterr().err == "still there"


def test_no_file_descriptor_is_lost():
    def count():
        return len(os.listdir("/proc/self/fd"))

    before = count()
    for _ in range(3):
        with quiet():
            pass
        with pytest.raises(ValueError), quiet():
            raise ValueError
    assert count() == before
