import csv
import gzip
import io
import pickle
import re
import struct
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from edgeae_runtime.arrays import as_samples
from edgeae_runtime.errors import DataError
from edgeae_runtime.readers.open import read, read_pieces
from edgeae_runtime.readers.table import Table

IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
FORMATS = ["pump.csv", "pump.npy", "pump.npz", "pump-idx2-float", "pump.idx.gz"]

unhurried = settings(deadline=None)  # files on a busy disk may take their time

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
tables = st_np.arrays(np.float32, st_np.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=finite)


def idx_bytes(array: np.ndarray, kind: int = 0x0D) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, kind, array.ndim]) + sizes + array.astype(IDX_TYPES[kind]).tobytes()


def npz_bytes(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def csv_bytes(names: list[str], rows: np.ndarray, quoting: int = csv.QUOTE_MINIMAL) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting)
    writer.writerow(names)
    writer.writerows(rows.tolist())
    return text.getvalue().encode()


def file_bytes(name: str, table: np.ndarray) -> bytes:
    """The table in the format that the name tells, written without the code under test."""
    if name.endswith(".csv"):
        return csv_bytes([f"c{index}" for index in range(table.shape[1])], table)
    if name.endswith(".npy"):
        return npy_bytes(table)
    if name.endswith(".npz"):
        return npz_bytes(table=table)
    return gzip.compress(idx_bytes(table)) if name.endswith(".gz") else idx_bytes(table)


def read_bytes(name: str, content: bytes, columns: list[str] | None = None) -> Table:
    with TemporaryDirectory() as folder:  # not tmp_path, which Hypothesis' examples would share
        path = Path(folder, name)
        path.write_bytes(content)
        return read(path, columns=columns)


def message(name: str, content: bytes | str, columns: list[str] | None = None) -> str:
    """The error's text without the folder; one line, whatever went wrong."""
    with pytest.raises(DataError) as caught:
        read_bytes(name, content.encode() if isinstance(content, str) else content, columns)
    text = str(caught.value)
    assert "\n" not in text
    assert re.match(rf"/\S*/{re.escape(name)}: ", text), text
    return text[text.index(f"/{name}: ") + 1 :]


# --- what is written comes back ------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
@unhurried
@given(table=tables)
def test_a_float32_table_comes_back_bit_for_bit(name: str, table: np.ndarray) -> None:
    data = read_bytes(name, file_bytes(name, table))
    assert data.values.dtype == np.float32
    np.testing.assert_array_equal(data.values, table)
    assert (data.features is not None) == name.endswith(".csv")


header_names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).map(
    lambda text: f"n{text}".strip()  # a name that cannot be a number
)


@unhurried
@given(
    table=tables,
    data=st.data(),
    newline=st.sampled_from(["\r\n", "\n", "\r"]),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_a_csv_may_quote_have_a_mark_and_any_line_end(table, data, newline, mark, quoting) -> None:
    width = table.shape[1]
    names = data.draw(st.lists(header_names, min_size=width, max_size=width, unique=True))
    content = csv_bytes(names, table, quoting).replace(b"\r\n", newline.encode())
    found = read_bytes("pump.csv", mark + content)
    assert found.features == tuple(names)
    np.testing.assert_array_equal(found.values, table)


@unhurried
@given(table=tables, data=st.data())
def test_chosen_columns_come_in_the_order_chosen_and_others_may_hold_text(table, data) -> None:
    names = [f"c{index}" for index in range(table.shape[1])]
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*names, "when"])
    writer.writerows([*row, 'pump "A", basement\nleft'] for row in table.tolist())
    found = read_bytes("pump.csv", text.getvalue().encode(), chosen)
    assert found.features == tuple(chosen)
    np.testing.assert_array_equal(found.values, table[:, [names.index(name) for name in chosen]])


def test_blank_lines_and_spaces_around_cells_do_not_count() -> None:
    found = read_bytes("pump.csv", b"\n\ntemp , volt\n\n 1, 2\n\n\n3 ,4\n\n")
    assert found.features == ("temp", "volt")
    assert found.values.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("kind", IDX_TYPES)
@pytest.mark.parametrize(
    "name", ["train-images.idx3-ubyte", "t10k-images-idx3-ubyte.gz", "a.idx", "a-idx3-x"]
)
def test_idx_of_every_type_and_name_comes_back_in_native_byte_order(kind: int, name: str) -> None:
    images = np.arange(24).reshape(2, 3, 4)
    content = idx_bytes(images, kind)
    values = read_bytes(name, gzip.compress(content) if name.endswith(".gz") else content).values
    np.testing.assert_array_equal(values, images)
    expected = np.float32 if kind >= 0x0D else np.dtype(IDX_TYPES[kind]).newbyteorder("=")
    assert values.dtype == expected
    assert values.dtype.isnative
    assert values.flags.writeable


def test_the_suffix_goes_before_an_idx_like_name_and_may_be_in_capitals() -> None:
    assert read_bytes("a-idx3-float.NPY", npy_bytes(np.ones((2, 3)))).values.shape == (2, 3)


def test_images_in_npy_keep_shape_and_type() -> None:
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    found = read_bytes("images.npy", npy_bytes(images))
    assert found.features is None
    assert found.values.dtype == np.uint8
    np.testing.assert_array_equal(found.values, images)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_one_dimension_is_samples_of_one_value(name: str) -> None:
    content = npy_bytes(np.arange(3.0)) if name == "x.npy" else npz_bytes(any=np.arange(3.0))
    assert read_bytes(name, content).values.tolist() == [[0], [1], [2]]


def test_npz_of_several_arrays_gives_data_then_x() -> None:
    ones, twos, threes = (np.full((2, 2), value) for value in (1.0, 2.0, 3.0))
    assert read_bytes("a.npz", npz_bytes(y=ones, x=twos)).values[0, 0] == 2
    assert read_bytes("a.npz", npz_bytes(x=twos, data=threes)).values[0, 0] == 3


def test_columns_are_of_no_consequence_to_files_without_names() -> None:
    assert read_bytes("x.npy", npy_bytes(np.ones((1, 2))), ["temp", "volt"]).values.tolist() == [[1, 1]]


# --- arrays that the caller already has ----------------------------------------------------------


@unhurried
@given(
    st_np.arrays(
        st.one_of(
            st_np.floating_dtypes(endianness="?"),
            st_np.integer_dtypes(endianness="?"),
            st_np.unsigned_integer_dtypes(endianness="?"),
            st_np.boolean_dtypes(),
        ),
        st_np.array_shapes(min_dims=2, max_dims=4, max_side=3),
        elements={"allow_nan": False, "allow_infinity": False, "min_value": 0, "max_value": 100},
    )
)
def test_floats_become_float32_and_integers_keep_their_type(array: np.ndarray) -> None:
    samples = as_samples(array)
    expected = {"f": np.dtype(np.float32), "b": np.dtype(np.uint8)}.get(array.dtype.kind, array.dtype)
    assert samples.dtype == expected.newbyteorder("=")
    np.testing.assert_array_equal(samples, array.astype(samples.dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8, np.bool_])
def test_what_needs_no_conversion_is_not_copied(dtype: type) -> None:
    array = np.ones((3, 2), dtype)
    assert np.shares_memory(as_samples(array), array)


def test_nested_lists_will_do() -> None:
    assert as_samples([[1, 2.5]]).tolist() == [[1, 2.5]]


def test_the_largest_and_smallest_float32_fit() -> None:
    limits = np.finfo(np.float32)
    assert as_samples(np.array([[limits.max, limits.min, limits.smallest_subnormal]], float)).shape == (1, 3)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.ones(3), "input: has shape (3,), expected (samples, values), none 0; reshape it"),
        (np.float32(1), "input: has shape (), expected (samples, values), none 0; reshape it"),
        (np.ones((0, 3)), "input: has shape (0, 3), expected (samples, values), none 0; reshape it"),
        (np.ones((3, 0)), "input: has shape (3, 0), expected (samples, values), none 0; reshape it"),
        ([["a"]], "input: holds <U1, expected real numbers; convert it to a numeric type"),
        ([[None]], "input: holds object, expected real numbers; convert it to a numeric type"),
        ([[1j]], "input: holds complex128, expected real numbers; convert it to a numeric type"),
        ([[1, 2], [3]], "input: does not make an array; give numbers, in samples of one shape"),
        ([[1.0], [np.nan]], "input: row 2 holds nan; every value must be finite"),
        ([[[1.0], [-np.inf]]], "input: row 1 holds -inf; every value must be finite"),
        (
            [[1.0], [1e300], [np.nan]],
            "input: row 2 holds 1e+300, which does not fit float32; rescale it or remove the row",
        ),
    ],
)
def test_an_array_that_cannot_be_samples_is_refused(values: object, told: str) -> None:
    with pytest.raises(DataError) as caught:
        as_samples(values)
    assert str(caught.value) == told


def test_the_first_bad_row_is_told_whatever_the_memory_order() -> None:
    array = np.ones((5, 4), np.float32, order="F")
    array[3, 0] = array[2, 3] = np.nan
    with pytest.raises(DataError, match=r"^pump: row 3 holds nan; every value must be finite$"):
        as_samples(array, where="pump")


# --- CSV: errors name the place ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "temp\n1\n2\nn/a\n",
            "row 3 (line 4), column 'temp': 'n/a' is not a number; remove or repair the row",
        ),
        ("temp\n1_000\n", "row 1 (line 2), column 'temp': '1_000' is not a number; remove or repair the row"),
        ("temp\n٣\n", "row 1 (line 2), column 'temp': '٣' is not a number; remove or repair the row"),
        ("a,b\n1,2\n\n3\n", "row 2 (line 4) has 1 column, the header names 2; repair the row"),
        ("a,b\n1,2,3\n1,2,3\n", "row 1 (line 2) has 3 columns, the header names 2; repair the row"),
        ("a,b\n1,2\n  \n", "row 2 (line 3) has 1 column, the header names 2; repair the row"),
        (
            "a,b\n1,\n",
            "row 1 (line 2), column 'b' is empty; remove or repair the row",
        ),
        (
            'a\n1\n""\n',
            "row 2 (line 3), column 'a' is empty; remove or repair the row",
        ),
        ("a,b\n1,2\n3,nan\n", "row 2 (line 3), column 'b' is nan; every value must be finite"),
        ("a,b\n1,2\n-Infinity,4\n", "row 2 (line 3), column 'a' is -inf; every value must be finite"),
        (
            "a\n1e300\n",
            "row 1 (line 2), column 'a' is 1e+300, which does not fit float32; rescale it or remove the row",
        ),
    ],
)
def test_a_bad_cell_or_row_of_a_csv_is_named(text: str, told: str) -> None:
    assert message("pump.csv", text) == f"pump.csv: {told}"


def test_a_number_fits_if_it_rounds_to_a_float32() -> None:
    # Halfway between the largest float32 and the next that there would be, ties go up to infinity.
    limit = 2.0**128 - 2.0**103
    below = float(np.nextafter(limit, 0))
    assert read_bytes("pump.csv", f"a\n{below!r}\n".encode()).values == np.finfo(np.float32).max
    told = message("pump.csv", f"a\n{below!r}\n{-limit!r}\n")
    assert told.startswith(f"pump.csv: row 2 (line 3), column 'a' is {-limit!r}, which does not fit float32;")


def test_lines_are_counted_as_an_editor_does_across_quoted_line_breaks() -> None:
    text = '"a\nb",note\r\n1,"x\r\ny"\r\n\r\noops,z\r\n'
    told = message("pump.csv", text, ["a\nb"])
    assert (
        told == "pump.csv: row 2 (line 6), column 'a\\nb': 'oops' is not a number; remove or repair the row"
    )


def test_a_row_of_the_wrong_length_is_refused_when_columns_are_chosen_too() -> None:
    told = message("pump.csv", "a,b,c\n1,2,3\n1,2,3,4\n", ["a"])
    assert told == "pump.csv: row 2 (line 3) has 4 columns, the header names 3; repair the row"


@pytest.mark.parametrize(
    ("text", "columns", "told"),
    [
        ("a,b\n", None, "has no rows; give at least one sample"),
        ("a,b\n\n\n", None, "has no rows; give at least one sample"),
        ("\n\n", None, "the first line must name the columns, found none; add them"),
        ("1,2.5\n3,4\n", None, "the first line must name the columns, found '1', '2.5'; add them"),
        ("a,b,a\n1,2,3\n", None, "the header names column 'a' twice; rename one"),
        (",a\n0,1\n", None, "column 1 has no name; name it or choose the others"),
        ("a,b\n1,2\n", ["c", "a", "d"], "has no column 'c', 'd', found 'a', 'b'; choose of these"),
        ("a,b\n1,2\n", [], "chosen columns are none; name at least one, and none twice"),
        ("a,b\n1,2\n", ["b", "b"], "chosen columns are 'b', 'b'; name at least one, and none twice"),
    ],
)
def test_a_header_that_cannot_serve_is_refused(text: str, columns: list[str] | None, told: str) -> None:
    assert message("pump.csv", text, columns) == f"pump.csv: {told}"


def test_a_wide_file_without_header_does_not_flood_the_terminal() -> None:
    told = message("mnist.csv", ",".join(map(str, range(784))) + "\n")
    assert told.startswith("mnist.csv: the first line must name the columns, found '0', '1', ")
    assert told.endswith(" …; add them")
    assert len(told) < 400


def test_a_quote_that_never_ends_does_not_flood_the_terminal_either() -> None:
    told = message("pump.csv", 'a\n1\n"2\n' + "3\n" * 50_000)
    assert told.startswith("pump.csv: row 2 (line 3), column 'a': '2\\n3\\n3\\n3")
    assert told.endswith("' is not a number; remove or repair the row")
    assert len(told) < 250


def test_text_in_another_encoding_is_told_to_be_saved_as_utf8() -> None:
    told = message("pump.csv", "temp °C\n1\n".encode("latin-1"))
    assert told.startswith("pump.csv: cannot be read (UnicodeDecodeError: 'utf-8' codec")
    assert told.endswith("; save it as UTF-8 text")
    late = b"a\n" + b"1\n" * 100_000 + b"\xff\n"
    assert message("pump.csv", late).endswith("; save it as UTF-8 text")


def test_a_cell_beyond_all_limits_is_an_error_like_others() -> None:
    told = message("pump.csv", 'a\n1\n"' + "x" * csv.field_size_limit() + "x\n")
    assert told.startswith("pump.csv: cannot be read (Error: field larger than field limit")


# --- files that are not what they should be ------------------------------------------------------


def test_a_file_that_is_not_there_a_folder_and_an_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path / "missing.csv")
    assert str(caught.value) == f"{tmp_path}/missing.csv: no such file"
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert str(caught.value) == f"{tmp_path}: is a folder; name a file"
    assert message("pump.txt", b"1 2") == (
        "pump.txt: unknown kind of file, expected .csv, .jsonl, .ndjson, .wav, .parquet, .npy, .npz, "
        "…-ubyte, .idx or …-idx[0-9]-…; convert or rename it"
    )


def test_a_path_that_the_system_refuses(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(OSError: .*File name too long"):
        read(tmp_path / f"{'x' * 300}.csv")


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_file(name: str) -> None:
    assert message(name, b"") == f"{name}: is empty (0 bytes); write it again"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            npz_bytes(a=np.ones(2), b=np.ones(2)),
            "expected one array, 'data' or 'x', found 'a', 'b'; rename one",
        ),
        (npz_bytes(), "expected one array, 'data' or 'x', found none; rename one"),
        (npz_bytes(x=np.array([[None]])), "holds Python objects, expected numbers; save it as float32"),
        (npz_bytes(x=np.array([["a"]])), "holds <U1, expected real numbers; convert it to a numeric type"),
        (
            b"a,b\n1,2\n",
            "cannot be read (BadZipFile: File is not a zip file); write it again or rename it",
        ),
    ],
)
def test_an_npz_that_cannot_serve_is_refused(content: bytes, told: str) -> None:
    assert message("x.npz", content) == f"x.npz: {told}"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (npy_bytes(np.array([[1], [np.nan]])), "row 2 holds nan; every value must be finite"),
        (npy_bytes(np.array([1, np.nan])), "row 2 holds nan; every value must be finite"),
        (npy_bytes(np.array([[None]])), "holds Python objects, expected numbers; save it as float32"),
        (npy_bytes(np.array(1.0)), "has shape (), expected (samples, values), none 0; reshape it"),
        (
            npy_bytes(np.ones((1, 1))) * 2,
            "cannot be read (ValueError: more bytes follow the array); write it again or rename it",
        ),
    ],
)
def test_an_npy_that_cannot_serve_is_refused(content: bytes, told: str) -> None:
    assert message("x.npy", content) == f"x.npy: {told}"


def test_a_pickle_under_the_name_of_an_array_is_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    bomb = f"cos\nmkdir\n(V{trace}\ntR.".encode()
    pickle.loads(bomb)
    trace.rmdir()  # so it would go off
    for name in ("x.npy", "x.npz"):
        assert "cannot be read (" in message(name, bomb)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            idx_bytes(np.arange(10), 0x08),
            "holds labels (one dimension), not samples; name the file of the images",
        ),
        (idx_bytes(np.ones((0, 3))), "has shape (0, 3), expected (samples, values), none 0; reshape it"),
        (idx_bytes(np.array([[1], [np.inf]])), "row 2 holds inf; every value must be finite"),
        (
            idx_bytes(np.ones((2, 3)))[:-5],
            "cannot be read (EOFError: 5 of 24 bytes are missing); write it again or rename it",
        ),
        (
            idx_bytes(np.ones((2, 3))) + b"\0",
            "cannot be read (ValueError: more bytes follow the array); write it again or rename it",
        ),
        (
            b"\x89PNG\r\n",
            "cannot be read (ValueError: its first bytes are not those of an IDX file); "
            "write it again or rename it",
        ),
    ],
)
def test_an_idx_that_cannot_serve_is_refused(content: bytes, told: str) -> None:
    assert message("x-ubyte", content) == f"x-ubyte: {told}"
    assert message("x-ubyte.gz", gzip.compress(content)) == f"x-ubyte.gz: {told}"


@pytest.mark.parametrize("start", [b"\0\1\x08\2", b"\1\0\x08\2", b"\0\0\x0a\2"])
def test_an_idx_starts_with_zeros_and_a_known_type(start: bytes) -> None:
    assert "its first bytes are not those of an IDX file" in message("x.idx", start + b"\0\0\0\1" * 2 + b"7")


def test_a_plain_idx_under_the_name_of_a_gzipped_one() -> None:
    assert "(BadGzipFile: Not a gzipped file" in message("x-ubyte.gz", idx_bytes(np.ones((2, 3))))


@pytest.mark.parametrize("name", ["pump.npz", "pump.idx.gz"])
def test_a_wrong_checksum_is_noticed(name: str) -> None:
    content = bytearray(file_bytes(name, np.ones((2, 3), np.float32)))
    # The CRC-32: in gzip's trailer, and in the zip's directory 16 bytes after its signature.
    place = len(content) - 8 if name.endswith(".gz") else content.index(b"PK\x01\x02") + 16
    content[place] ^= 1
    assert re.search(r"CRC", message(name, bytes(content)))


# --- damage of every kind ------------------------------------------------------------------------

tables_to_damage = {name: file_bytes(name, np.arange(12, dtype=np.float32).reshape(4, 3)) for name in FORMATS}


def read_or_data_error(name: str, content: bytes) -> None:
    try:
        values = read_bytes(name, content).values
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert values.ndim >= 2
        assert values.size
        assert np.isfinite(values).all()


@pytest.mark.parametrize("name", FORMATS)
@unhurried
@given(data=st.data())
def test_damaged_bytes_give_samples_or_a_data_error(name: str, data: st.DataObject) -> None:
    content = bytearray(tables_to_damage[name])
    places = st.integers(0, len(content) - 1)
    for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=5)):
        content[place] = byte
    read_or_data_error(name, bytes(content))


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_anywhere_gives_a_data_error(name: str) -> None:
    content = tables_to_damage[name]
    for length in range(len(content)):
        if name.endswith(".csv"):  # text that ends early may still be a table
            read_or_data_error(name, content[:length])
        else:
            message(name, content[:length])


@pytest.mark.parametrize("name", FORMATS)
@unhurried
@given(content=st.binary(max_size=60))
def test_garbage_gives_samples_or_a_data_error(name: str, content: bytes) -> None:
    read_or_data_error(name, content)


@unhurried
@given(text=st.text(st.sampled_from('01.e-_,"\n\r nainf\ufeff\0é'), max_size=40))
def test_any_text_as_csv_gives_samples_or_a_data_error(text: str) -> None:
    read_or_data_error("pump.csv", f"a,b\n{text}".encode())
    read_or_data_error("pump.csv", text.encode())


likely = st.sampled_from(["1", "-2.5e3", " 3 ", '"4"', '" 5\n"'])
tricky = st.sampled_from(
    ["", '""', "1_0", "0x1", "nan", "1e39", '6"', '"7"8', "'9'", "1;2", "٣", "\xa010", "1 2"]
)
rows_of_cells = st.lists(
    st.lists(st.one_of(likely, likely, likely, tricky), min_size=2, max_size=2), min_size=1
)


@unhurried
@given(rows=rows_of_cells, columns=st.sampled_from([None, ["b"]]))
def test_what_the_csv_module_reads_is_read_the_same_or_refused_by_row(rows, columns) -> None:
    text = "\n".join(["a,b", *map(",".join, rows)])
    try:
        values = read_bytes("pump.csv", text.encode(), columns).values
    except DataError as error:
        assert re.search(r"pump\.csv: row \d+ \(line \d+\)", str(error))
        return
    expected = [row if columns is None else row[1:] for row in csv.reader(io.StringIO(text, newline=""))]
    np.testing.assert_array_equal(values, np.array(expected[1:], float).astype(np.float32))


# --- in pieces -----------------------------------------------------------------------------------


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("csv", "npy"):
        monkeypatch.setattr(f"edgeae_runtime.readers.{module}.PIECE_VALUES", 30)
    monkeypatch.setattr("edgeae_runtime.readers.csv.LEAST_PIECE_ROWS", 10)
    monkeypatch.setattr("edgeae_runtime.readers.npy.MOST_AT_ONCE", 100)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("name", FORMATS)
def test_the_pieces_of_a_file_are_the_file(name: str, tmp_path: Path) -> None:
    table = np.float32(np.random.default_rng(0).normal(size=(95, 3)))
    (tmp_path / name).write_bytes(file_bytes(name, table))
    pieces = [piece.values for piece in read_pieces(tmp_path / name)]
    np.testing.assert_array_equal(np.concatenate(pieces), table)
    if name.endswith((".csv", ".npy")):
        assert [len(piece) for piece in pieces] == [10] * 9 + [5]


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("pump.csv", "row 72 (line 73), column 'c1' is nan; every value must be finite"),
        ("pump.npy", "row 72 holds nan; every value must be finite"),
    ],
)
def test_a_fault_in_a_later_piece_is_told_by_its_row_in_the_file(
    name: str, told: str, tmp_path: Path
) -> None:
    table = np.ones((95, 3), np.float32)
    table[71, 1] = np.nan
    (tmp_path / name).write_bytes(file_bytes(name, table))
    with pytest.raises(DataError) as caught:
        list(read_pieces(tmp_path / name))
    assert str(caught.value) == f"{tmp_path / name}: {told}"


@pytest.mark.usefixtures("small_pieces")
def test_quoted_line_breaks_and_blank_lines_may_lie_anywhere_between_pieces(tmp_path: Path) -> None:
    lines = [f'{i},"x\ny"' + "\n" * (i % 4) for i in range(95)]
    (tmp_path / "a.csv").write_text("n,note\n" + "\n".join(lines) + "\n")
    pieces = [piece.values for piece in read_pieces(tmp_path / "a.csv", columns=["n"])]
    assert len(pieces) > 2
    assert np.concatenate(pieces)[:, 0].tolist() == list(range(95))
