"""One door for files: JSON lines, WAV, compressed files and standard input come in as others do."""

import bz2
import gzip
import io
import json
import lzma
import struct
import sys
import tracemalloc
import wave
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from edgeae_runtime.errors import DataError
from edgeae_runtime.readers import is_table, known_names, open_table, read, read_labels, read_pieces
from edgeae_runtime.readers.open import READERS, stem
from edgeae_runtime.readers.source import COMPRESSIONS

COMPRESS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}

unhurried = settings(deadline=None)  # files on a busy disk may take their time
few = settings(deadline=None, max_examples=25)  # of each of many kinds

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
tables = st_np.arrays(np.float32, st_np.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=finite)


def csv_bytes(table: np.ndarray) -> bytes:
    names = [f"c{i}" for i in range(table.shape[1])]
    return "\n".join([",".join(names), *(",".join(map(repr, row)) for row in table.tolist()), ""]).encode()


def jsonl_bytes(table: np.ndarray) -> bytes:
    lines = [json.dumps({f"c{i}": value for i, value in enumerate(row)}) for row in table.tolist()]
    return "\n".join([*lines, ""]).encode()


def wav_bytes(table: np.ndarray) -> bytes:
    return riff(fmt(3, 32, table.shape[1]), data(table.astype("<f4").tobytes()))


def riff(*chunks: bytes, name: bytes = b"RIFF") -> bytes:
    content = b"WAVE" + b"".join(chunks)
    return name + struct.pack("<I", len(content)) + content


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    head = struct.pack("<4sI", name, len(content) if size is None else size)
    return head + content + b"\0" * (len(content) % 2)


def fmt(form: int, bits: int, channels: int = 1, rate: int = 8000, extra: bytes = b"") -> bytes:
    frame = channels * bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", form, channels, rate, rate * frame, frame, bits) + extra)


def data(content: bytes, size: int | None = None) -> bytes:
    return chunk(b"data", content, size)


def idx_bytes(table: np.ndarray) -> bytes:
    return struct.pack(">HBBII", 0, 0x0D, 2, *table.shape) + table.astype(">f4").tobytes()


PLAIN = {"pump.csv": csv_bytes, "pump.jsonl": jsonl_bytes, "pump.wav": wav_bytes, "pump.idx": idx_bytes}
PIPED = ["pump.csv", "pump.jsonl", "pump.wav"]


def opened(name: str, content: bytes, **wanted: Any) -> tuple[tuple[str, ...] | None, list[Any]]:
    """The columns and the pieces of a file."""
    with TemporaryDirectory() as folder:  # not tmp_path, which Hypothesis' examples would share
        (Path(folder) / name).write_bytes(content)
        found = open_table(Path(folder) / name, **wanted)
        return found.features, list(found.pieces)


def values(name: str, content: bytes, **wanted: Any) -> np.ndarray:
    found: np.ndarray = np.concatenate([piece.values for piece in opened(name, content, **wanted)[1]])
    return found


def message(name: str, content: bytes | str, **wanted: Any) -> str:
    """The error's text without the folder; one line, whatever went wrong."""
    with pytest.raises(DataError) as caught:
        opened(name, content.encode() if isinstance(content, str) else content, **wanted)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 500
    assert f"/{name}: " in text
    return text[text.index(f"/{name}: ") + len(name) + 3 :]


# --- the table of readers ------------------------------------------------------------------------


def test_what_can_be_read_compressed_or_piped_is_what_is_tried_here() -> None:
    in_order = [reader for reader in READERS if reader.in_order]
    assert {reader.module for reader in in_order} == {name.partition(".")[2] for name in PLAIN}
    assert [name for name in PLAIN if is_table(Path(name))] == PIPED
    assert {compression.suffix for compression in COMPRESSIONS} == set(COMPRESS) - {""}


def test_what_is_known_is_listed() -> None:
    assert known_names() == (
        ".csv, .jsonl, .ndjson, .wav, .parquet, .npy, .npz, …-ubyte, .idx or …-idx[0-9]-…"
    )
    assert known_names(tables=True) == ".csv, .jsonl, .ndjson, .wav or .parquet"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("log.csv", "log"),
        ("log.csv.gz", "log"),
        ("week.1.JSONL.XZ", "week.1"),
        ("pump.parquet", "pump"),
        ("train-images.idx3-ubyte.gz", "train-images.idx3-ubyte"),
        ("notes.gz", "notes"),
    ],
)
def test_a_result_is_called_as_its_file_without_suffixes(name: str, expected: str) -> None:
    assert stem(Path("lake", name)) == expected


# --- what is written comes back ------------------------------------------------------------------


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("name", PLAIN)
@few
@given(table=tables)
def test_a_table_comes_back_bit_for_bit_compressed_or_not(name: str, suffix: str, table: np.ndarray) -> None:
    content = COMPRESS[suffix](PLAIN[name](table))
    np.testing.assert_array_equal(values(f"{name}{suffix}", content), table)
    np.testing.assert_array_equal(values(f"{name}{suffix}".upper(), content), table)


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2"])
def test_compressed_files_may_be_of_several_parts(suffix: str) -> None:
    table = np.float32(np.random.default_rng(0).normal(size=(400, 3)))
    content = csv_bytes(table)
    gap = b"\0" * 8 if suffix == ".xz" else b""
    parts = gap.join(COMPRESS[suffix](content[i : i + 999]) for i in range(0, len(content), 999))
    np.testing.assert_array_equal(values(f"pump.csv{suffix}", parts + gap), table)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("csv", "wav", "idx"):
        monkeypatch.setattr(f"edgeae_runtime.readers.{module}.PIECE_VALUES", 30)
    monkeypatch.setattr("edgeae_runtime.readers.csv.LEAST_PIECE_ROWS", 10)
    monkeypatch.setattr("edgeae_runtime.readers.jsonl._PIECE_CHARACTERS", 500)
    monkeypatch.setattr("edgeae_runtime.readers.text.BLOCK_BYTES", 100)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("suffix", ["", ".xz"])
@pytest.mark.parametrize("name", PLAIN)
def test_a_file_comes_in_pieces_that_are_the_file(name: str, suffix: str) -> None:
    table = np.float32(np.random.default_rng(0).normal(size=(95, 3)))
    _, pieces = opened(f"{name}{suffix}", COMPRESS[suffix](PLAIN[name](table)))
    assert len(pieces) > 5
    assert all(len(piece.values) <= 20 for piece in pieces)
    np.testing.assert_array_equal(np.concatenate([piece.values for piece in pieces]), table)
    shares = [piece.read for piece in pieces]
    assert shares == sorted(shares) and shares[0] > 0 and shares[-1] == 1


# --- JSON lines ----------------------------------------------------------------------------------


@unhurried
@given(st.lists(st.fixed_dictionaries({"a": finite, "b": finite}), min_size=1, max_size=8), st.data())
def test_objects_are_read_by_name_whatever_else_they_hold(rows: list[dict[str, float]], data) -> None:
    other = st.dictionaries(
        st.text(max_size=3).filter(lambda key: key not in ("a", "b")),
        st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=3), st.lists, max_leaves=3),
        max_size=3,
    )
    lines = []
    for row in rows:
        items = data.draw(st.permutations([*row.items(), *data.draw(other).items()]))
        blank = data.draw(st.sampled_from(["", "\n", "  \n"]))
        lines.append(f"{json.dumps(dict(items), ensure_ascii=data.draw(st.booleans()))}\n{blank}")
    text = "".join(lines).encode()
    features, pieces = opened(
        "pump.ndjson", b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"), columns=["b", "a"]
    )
    assert features == ("b", "a")
    expected = [[row["b"], row["a"]] for row in rows]
    np.testing.assert_array_equal(np.concatenate([piece.values for piece in pieces]), np.float32(expected))


@unhurried
@given(st.text(min_size=1), st.floats(-1e30, 1e30))
def test_a_column_may_have_any_name(name: str, value: float) -> None:
    features, (piece,) = opened("pump.jsonl", json.dumps({name: value}).encode())
    assert features == (name,)
    assert piece.values == np.float32(value)


@unhurried
@given(table=tables)
def test_arrays_are_rows_without_names(table: np.ndarray) -> None:
    content = "\n".join(map(json.dumps, table.tolist())).encode()
    features, (piece,) = opened("pump.jsonl", content, columns=["of no consequence"])
    assert features is None
    np.testing.assert_array_equal(piece.values, table)


def test_truth_values_and_whole_numbers_of_any_size_are_numbers() -> None:
    content = b'{"a": true, "b": 12345678901234567890123}\n{"a": false, "b": -1}\n'
    np.testing.assert_array_equal(
        values("x.jsonl", content), np.float32([[1, 12345678901234567890123], [0, -1]])
    )


@pytest.mark.parametrize("late", [False, True])
def test_columns_have_the_roles_that_a_csv_gives_them(late: bool) -> None:
    rows = [(f"2026-01-01 00:0{i}:00", 20.5 + i, "ok" if i else "leak") for i in range(4)]
    text = "".join(f"{when},{heat},{state}\n" for when, heat, state in rows)
    lines = [json.dumps({"when": when, "heat": heat, "state": state}) for when, heat, state in rows]
    if late:
        lines[2] = lines[2].replace("}", ', "unread": NaN}')  # which only the slower way takes
    wanted = {"columns": ["heat"], "label": "state", "times": True, "series": True}
    expected_features, (expected,) = opened("a.csv", f"when,heat,state\n{text}".encode(), **wanted)
    features, (found,) = opened("a.jsonl", "\n".join(lines).encode(), **wanted)
    assert features == expected_features == ("heat",)
    for name in ("values", "times", "labels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


NOT_JSON = "; each line holds an object or an array, repair it"
REPAIR = "; remove or repair the row"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty (0 bytes); write it again"),
        ("\n\n", "has no rows; give at least one sample"),
        ('{"a": 1}\n\n{"a": 2\n', f"line 3, column 8 is not JSON (Expecting ',' delimiter){NOT_JSON}"),
        ('{"a": 1}{"a": 2}\n', f"line 1, column 9 is not JSON (Extra data){NOT_JSON}"),
        ('[\n  {"a": 1}\n]', f"line 1, column 2 is not JSON (Expecting value){NOT_JSON}"),
        ("a,b\n1,2\n", f"line 1, column 1 is not JSON (Expecting value){NOT_JSON}"),
        ('{"a": 1}\n\n{}\n', f"row 2 (line 3), column 'a' is empty{REPAIR}"),
        ('{"a": 1}\n{"a": null}\n', f"row 2 (line 2), column 'a' is empty{REPAIR}"),
        ('{"a": 1}\n{"a": ""}\n', f"row 2 (line 2), column 'a' is empty{REPAIR}"),
        ('{"a": 1}\n{"a": "hot"}\n', f"row 2 (line 2), column 'a': 'hot' is not a number{REPAIR}"),
        ('{"a": 1}\n{"a": [1]}\n', f"row 2 (line 2), column 'a': an array is not a number{REPAIR}"),
        ('{"a": 1}\n{"a": NaN}\n', "row 2 (line 2), column 'a' is nan; every value must be finite"),
        ('{"a": 1e999}\n', "row 1 (line 1), column 'a' is inf; every value must be finite"),
        (f'{{"a": -1{"0" * 400}}}\n', "row 1 (line 1), column 'a' is -inf; every value must be finite"),
        (
            '{"a": 1}\n{"a": 1e300}\n',
            "row 2 (line 2), column 'a' is 1e+300, which does not fit float32; rescale it or remove the row",
        ),
        ('{"a": 1}\n[1]\n', "row 2 (line 2) is an array, the first is an object; write all alike"),
        ('[1]\n{"a": 1}\n', "row 2 (line 2) is an object, the first is an array; write all alike"),
        ("[1, 2]\n[3]\n", "row 2 (line 2) has 1 value, the first has 2; repair the row"),
        ("[1, 2]\n[3, 4, 5]\n", "row 2 (line 2) has 3 values, the first has 2; repair the row"),
        ('[1, 2]\n[3, "x"]\n', f"row 2 (line 2), value 2: 'x' is not a number{REPAIR}"),
        ("[[1, 2]]\n", f"row 1 (line 1), value 1: an array is not a number{REPAIR}"),
        ("[]\n", "row 1 is an array, expected an object or an array of numbers"),
        ("1.5\n", "row 1 is 1.5, expected an object or an array of numbers"),
        ('"x"\n', "row 1 is 'x', expected an object or an array of numbers"),
        ("{}\n", "chosen columns are none; name at least one, and none twice"),
        ('{"": 1}\n', "column 1 has no name; name it or choose the others"),
    ],
)
def test_bad_json_lines_are_named_by_row_and_line(text: str, told: str) -> None:
    assert message("pump.jsonl", text) == told


@pytest.mark.parametrize(
    ("text", "wanted", "told"),
    [
        ('{"a": 1}\n', {"columns": ["b"]}, "has no column 'b', found 'a'; choose of these"),
        (
            '{"a": 1, "y": "ok"}\n{"a": 1, "y": " "}',
            {"label": "y"},
            f"row 2 (line 2), column 'y' is empty{REPAIR}",
        ),
        ("[1]\n", {"label": "y"}, "has no column 'y'; labels are a column of a table"),
        (
            '{"a": 1, "meta": {"id": 3}}\n',
            {"times": True},
            "column 'meta' holds an object, neither numbers nor dates; name the columns to use with columns, "
            "or keep it as labels with label_column='meta'",
        ),
        (
            '{"when": "2026-01-01", "a": 1}\n{"when": "soon", "a": 1}\n',
            {"times": True},
            "row 2 (line 2), column 'when': 'soon' is not a date, as others of the column are; remove or "
            "repair the row, or leave the column out",
        ),
        (
            '{"when": "2026-01-01", "a": 1}\n' * 100 + '{"when": 20260102, "a": 1}\n',
            {"times": True},
            "row 101 (line 101), column 'when': 20260102 is not a date as text; remove or repair the row, or "
            "leave the column out",
        ),
    ],
)
def test_columns_of_json_lines_that_cannot_serve_are_named(text: str, wanted: Any, told: str) -> None:
    assert message("pump.jsonl", text, **wanted) == told


def test_json_nested_beyond_all_limits_is_an_error_like_others() -> None:
    told = message("pump.jsonl", b'{"a": 1}\n' + b"[" * 100_000)
    assert told.startswith("line 2 is not JSON (maximum recursion depth exceeded")
    assert message("pump.jsonl", b'{"a": "\xff"}').endswith("; save it as UTF-8 text")


# --- WAV -----------------------------------------------------------------------------------------

WIDTHS = {1: "u1", 2: "<i2", 3: "<i4", 4: "<i4"}
LIMITS = {1: (0, 2**8), 2: (-(2**15), 2**15), 3: (-(2**23), 2**23), 4: (-(2**31), 2**31)}


@pytest.mark.parametrize("width", WIDTHS)
@few
@given(data=st.data(), channels=st.integers(1, 5), rows=st.integers(1, 9))
def test_pcm_as_python_writes_it_comes_back_with_full_scale_1(width, data, channels, rows) -> None:
    low, high = LIMITS[width]
    whole = st.integers(low, high - 1)
    samples = data.draw(st_np.arrays(np.int64, (rows, channels), elements=whole))
    content = samples.astype(WIDTHS[width])
    raw = (
        content.view("u1").reshape(rows, channels, 4)[..., :3].tobytes() if width == 3 else content.tobytes()
    )
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((channels, width, 44_100, 0, "NONE", ""))
        writer.writeframes(raw)
    features, (piece,) = opened("a.wav", file.getvalue())
    expected = (samples - 128) / 128 if width == 1 else samples / high
    np.testing.assert_array_equal(piece.values, np.float32(expected))
    names = ("left", "right") if channels == 2 else tuple(f"channel{i + 1}" for i in range(channels))
    assert features == names


@pytest.mark.parametrize("kind", ["<f4", "<f8"])
def test_floats_other_chunks_and_long_headers_are_read(kind: str) -> None:
    table = np.random.default_rng(0).normal(size=(7, 3))
    bits = 8 * np.dtype(kind).itemsize
    content = table.astype(kind).tobytes()
    expected = table.astype(np.float32)
    noise = chunk(b"LIST", b"odd"), chunk(b"fact", b"1234")
    np.testing.assert_array_equal(
        values("a.wav", riff(*noise, fmt(3, bits, 3), *noise, data(content))), expected
    )
    # WAVE_FORMAT_EXTENSIBLE: size, valid bits, speakers, and a GUID that starts with the format
    guid = struct.pack("<HHIH", 22, bits, 0, 3) + bytes.fromhex("000000001000800000aa00389b71")
    long = riff(fmt(0xFFFE, bits, 3, extra=guid), data(content), *noise)
    np.testing.assert_array_equal(values("a.wav", long), expected)


def test_a_size_that_was_never_written_or_does_not_fit_32_bits_is_understood() -> None:
    table = np.float32(np.random.default_rng(0).normal(size=(7, 3)))
    content = table.tobytes()
    piped = riff(fmt(3, 32, 3), data(content + b"cut", 0xFFFFFFFF))
    np.testing.assert_array_equal(values("a.wav", piped), table)
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, len(content), 7, 0))
    large = riff(
        sizes, fmt(3, 32, 3), data(content, 0xFFFFFFFF), chunk(b"LIST", b"what follows"), name=b"RF64"
    )
    np.testing.assert_array_equal(values("a.wav", large), table)


@pytest.mark.usefixtures("small_pieces")
def test_channels_are_chosen_by_name_and_the_rate_gives_the_times() -> None:
    table = np.float32(np.random.default_rng(0).normal(size=(95, 2)))
    content = riff(fmt(3, 32, 2, rate=44_100), data(table.tobytes()))
    features, pieces = opened("a.wav", content, columns=["right"], times=True, series=True)
    assert features == ("right",)
    np.testing.assert_array_equal(np.concatenate([piece.values for piece in pieces]), table[:, 1:])
    times = np.concatenate([piece.times for piece in pieces])
    elapsed = (times - np.datetime64("1970-01-01", "us")).astype(float) / 1e6
    np.testing.assert_allclose(elapsed, np.arange(95) / 44_100, atol=1e-6)
    faster = riff(fmt(3, 32, 2, rate=2_000_000), data(table.tobytes()))  # than microseconds can say
    assert all(piece.times is None for piece in opened("a.wav", faster, times=True)[1])


CONVERT = (
    "expected PCM of 8, 16, 24 or 32 bits, or floats; convert it, as with ffmpeg -i IN -c:a pcm_s16le OUT.wav"
)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            b"RIFX\0\0\0\0WAVE",
            "cannot be read (ValueError: its first bytes are not those of a WAV file); write it again or "
            "rename it",
        ),
        (riff(fmt(0x11, 4), data(b"12")), f"its samples are IMA ADPCM, {CONVERT}"),
        (riff(fmt(7, 8), data(b"12")), f"its samples are µ-law, {CONVERT}"),
        (riff(fmt(1, 12, 2), data(b"12")), f"its samples are of format 1 with 12 bits, {CONVERT}"),
        (
            riff(fmt(1, 16, 0), data(b"12")),
            "cannot be read (ValueError: its header says 0 channels at 8000 Hz in 0 bytes); write it again "
            "or rename it",
        ),
        (
            riff(data(b"12"), fmt(1, 16)),
            "cannot be read (ValueError: its samples come before their format); write it again or rename it",
        ),
        (
            riff(fmt(1, 16), data(b"12", 99)),
            "cannot be read (EOFError: 96 of 98 bytes are missing); write it again or rename it",
        ),
        (riff(fmt(1, 16)), "cannot be read (EOFError: its header is cut off); write it again or rename it"),
        (
            riff(fmt(1, 16), chunk(b"LIST", b"", 2**32 - 1)),
            "cannot be read (EOFError: its header is cut off); write it again or rename it",
        ),
        (riff(fmt(1, 16), data(b"")), "has no samples; record it again"),
        (riff(fmt(1, 16, 2), data(b"123")), "has no samples; record it again"),
        (
            riff(fmt(3, 32), data(struct.pack("<3f", 0, 1, np.nan))),
            "row 3 holds nan; every value must be finite",
        ),
        (
            riff(fmt(3, 64), data(struct.pack("<d", 1e300))),
            "row 1 holds 1e+300, which does not fit float32; rescale it or remove the row",
        ),
    ],
)
def test_a_wav_that_cannot_serve_is_refused(content: bytes, told: str) -> None:
    assert message("a.wav", content) == told


def test_a_wav_has_its_channels_and_no_labels() -> None:
    content = wav_bytes(np.ones((3, 2)))
    assert message("a.wav", content, columns=["middle"]) == (
        "has no column 'middle', found 'left', 'right'; choose of these"
    )
    assert message("a.wav", content, label="state") == "has no column 'state'; labels are a column of a table"


# --- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", COMPRESS)
def test_labels_are_the_only_column_of_a_table(suffix: str, tmp_path: Path) -> None:
    for name, content in {"y.csv": b"y\nok\n'7'\n", "y.jsonl": b'{"y": "ok"}\n{"y": "\'7\'"}'}.items():
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(COMPRESS[suffix](content))
        assert read_labels(path).tolist() == ["ok", "'7'"]


def test_what_has_no_column_of_labels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "y.wav").write_bytes(wav_bytes(np.ones((3, 1))))
    with pytest.raises(DataError, match=r"y\.wav: holds no labels; name a table of one column, or an array"):
        read_labels(tmp_path / "y.wav")


# --- damage of every kind ------------------------------------------------------------------------

DAMAGED = [f"{name}{suffix}" for name in PLAIN for suffix in COMPRESS if suffix or name != "pump.idx"]
WHOLE = np.arange(12, dtype=np.float32).reshape(4, 3)


def content_of(name: str) -> bytes:
    suffix = next(suffix for suffix in (".gz", ".xz", ".bz2", "") if name.endswith(suffix))
    return COMPRESS[suffix](PLAIN[name.removesuffix(suffix)](WHOLE))


def values_or_error(name: str, content: bytes) -> None:
    try:
        found = values(name, content, times=True)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert found.ndim == 2 and found.size and np.isfinite(found).all()


@pytest.mark.parametrize("name", DAMAGED)
@few
@given(data=st.data())
def test_damaged_bytes_give_samples_or_a_data_error(name: str, data: st.DataObject) -> None:
    content = bytearray(content_of(name))
    places = st.integers(0, len(content) - 1)
    for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=5)):
        content[place] = byte
    values_or_error(name, bytes(content))


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_cut_anywhere_gives_a_data_error(name: str) -> None:
    content = content_of(name)
    for length in range(len(content)):
        if name in ("pump.csv", "pump.jsonl"):  # text that ends early may still be a table
            values_or_error(name, content[:length])
        else:
            message(name, content[:length])


@unhurried
@given(text=st.text(st.sampled_from('[]{}",:1.e-_ntrufalsN\n \\é\0'), max_size=40))
def test_any_text_as_json_lines_gives_samples_or_a_data_error(text: str) -> None:
    values_or_error("pump.jsonl", text.encode())
    values_or_error("pump.jsonl", f'{{"a": 1}}\n{text}'.encode())


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2"])
def test_what_is_not_compressed_or_cannot_be_is_told(suffix: str) -> None:
    assert message(f"a.csv{suffix}", b"a,b\n1,2\n").startswith("cannot be read (")
    suffixes = {".npy": ".npy", ".npz": ".npz", ".parquet": ".parquet"}
    for known in suffixes:
        assert message(f"a{known}{suffix}", b"x") == f"a {known} file is not read compressed; decompress it"
    assert message(f"a{suffix}", b"x").startswith("unknown kind of file, expected .csv, ")


# --- what is small on the disk may be large in memory --------------------------------------------


@pytest.mark.parametrize(("name", "start"), [("bomb.csv.gz", b"a\n1\n"), ("bomb.jsonl.gz", b"[1]\n[1")])
def test_a_compressed_line_without_end_is_refused_before_memory_is_full(name: str, start: bytes) -> None:
    packer = zlib.compressobj(1, wbits=31)
    content = packer.compress(start) + b"".join(packer.compress(b"0" * 2**20) for _ in range(200))
    tracemalloc.start()
    told = message(name, content + packer.flush())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert told == "holds a line of more than 16 MiB; put each row on a line of its own"
    assert peak < 100e6


def test_xz_that_asks_for_gigabytes_is_refused() -> None:
    content = bytearray(lzma.compress(csv_bytes(WHOLE)))
    assert content[14:16] == b"\x21\x01"  # in the block's header: LZMA2, with one byte for its dictionary
    content[16] = 39  # 3 GiB
    content[20:24] = zlib.crc32(content[12:20]).to_bytes(4, "little")
    told = message("pump.csv.xz", bytes(content))
    assert told == "cannot be read (LZMAError: Memory usage limit exceeded); write it again or rename it"


def test_a_sample_of_idx_that_is_too_large_is_refused() -> None:
    content = struct.pack(">HBBIII", 0, 0x08, 3, 1, 2**16, 2**16)
    assert message("a.idx.gz", gzip.compress(content)) == (
        "a sample of shape (65536, 65536) is too large; cut it into smaller ones"
    )


@pytest.fixture
def short_passages(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("csv", "text"):
        monkeypatch.setattr(f"edgeae_runtime.readers.{module}.MAX_PASSAGE_BYTES", 2**14)
    monkeypatch.setattr("edgeae_runtime.readers.text.BLOCK_BYTES", 2**10)


@pytest.mark.usefixtures("short_passages")
@pytest.mark.parametrize("piped", [False, True])
def test_text_that_nobody_reads_makes_pieces_smaller(piped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{i},{'x' * (i % 10) * 9}\n" for i in range(2000)]
    content = gzip.compress("".join(["n,note\n", *lines]).encode())
    if piped:
        pipe(monkeypatch, content)
    pieces = (
        list(open_table("-", columns=["n"]).pieces)
        if piped
        else opened("a.csv.gz", content, columns=["n"])[1]
    )
    assert np.concatenate([piece.values for piece in pieces])[:, 0].tolist() == list(range(2000))
    assert 10 < len(pieces) < 500


@pytest.mark.usefixtures("short_passages")
def test_after_one_long_row_pieces_grow_again() -> None:
    lines = [f"{i},{'x' * 15_000 * (i == 5)}\n" for i in range(2000)]
    content = bz2.compress("".join(["n,note\n", *lines]).encode())
    _, pieces = opened("a.csv.bz2", content, columns=["n"])
    assert np.concatenate([piece.values for piece in pieces])[:, 0].tolist() == list(range(2000))
    assert len(pieces) < 40


@pytest.mark.usefixtures("short_passages")
def test_a_quote_that_never_ends_is_named_before_memory_is_full() -> None:
    content = "a\n" + "1\n" * 300 + '"2\n' + "3\n" * 100_000
    told = message("pump.csv.gz", gzip.compress(content.encode()))
    assert told == "row 301 (line 302) has more than 0.0156 MiB; close its quote, or leave such text out"


# --- standard input ------------------------------------------------------------------------------


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("name", PIPED)
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\n \n"])
def test_standard_input_is_known_by_its_first_bytes(name, suffix, before, monkeypatch) -> None:
    table = np.float32(np.random.default_rng(0).normal(size=(7, 2)))
    before = b"" if name == "pump.wav" else before
    pipe(monkeypatch, COMPRESS[suffix](before.replace(b" ", b"") + PLAIN[name](table)))
    found = read(Path("-"))
    np.testing.assert_array_equal(found.values, table)
    assert found.features == opened(name, PLAIN[name](table))[0]
    assert not sys.stdin.buffer.closed


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "-"])
def test_a_fault_in_a_later_piece_is_told_by_its_place(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f'{i},"x\ny"' + "\n" * (i % 4) for i in range(95)]
    lines[71] = "hot,z"
    content = ("n,note\n" + "\n".join(lines) + "\n").encode()
    line = content[: content.index(b"hot")].count(b"\n") + 1
    told = f"row 72 (line {line}), column 'n': 'hot' is not a number; remove or repair the row"
    if name == "-":
        pipe(monkeypatch, content)
        with pytest.raises(DataError) as caught:
            list(read_pieces(Path("-"), columns=["n"]))
        assert str(caught.value) == f"standard input: {told}"
    else:
        assert message(name, gzip.compress(content) if name == "a.csv.gz" else content, columns=["n"]) == told


def test_faults_in_json_lines_that_are_piped_are_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b'{"a": 1}\n{"b": 1}\n')
    with pytest.raises(DataError, match=r"^standard input: row 2 \(line 2\), column 'a' is empty; remove"):
        read(Path("-"), columns=["a"])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty; pipe a table into it"),
        (gzip.compress(b"", mtime=0), "the first line must name the columns, found none; add them"),
        (b"\x93NUMPY\1\0", "holds a .npy file, which cannot be piped; name the file"),
        (b"PK\3\4", "holds a .npz file, which cannot be piped; name the file"),
        (b"PAR1", "holds a .parquet file, which cannot be piped; name the file"),
        (
            b"a\n1\n\xff",
            "cannot be read (UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 4: invalid "
            "start byte); save it as UTF-8 text",
        ),
        (
            gzip.compress(b"a\n" + b"1\n" * 999, mtime=0)[:-9],
            "cannot be read (EOFError: Compressed file ended before the end-of-stream marker was reached); "
            "write it again or rename it",
        ),
    ],
)
def test_standard_input_that_cannot_serve_is_refused(content, told, monkeypatch) -> None:
    pipe(monkeypatch, content)
    with pytest.raises(DataError) as caught:
        read(Path("-"))
    assert str(caught.value) == f"standard input: {told}"


def test_standard_input_that_is_closed_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match=r"^standard input: is empty; pipe a table into it$"):
        read(Path("-"))
