from datetime import datetime

import numpy as np
import pytest

from edgeae_runtime.bundle.manifest import Input
from edgeae_runtime.errors import DataError
from edgeae_runtime.watch.readings import Parser, Reading

ONE = Input(shape=(3, 2), features=("a", "b"), window=3, stride=1)
NAMELESS = Input(shape=(3, 2), window=3, stride=1)
NOON = datetime(2026, 3, 4, 12)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"[1, 2.5]", Reading([1, 2.5], None, None)),
        (b"7", Reading([7], None, None)),
        (b'{"b": 2, "a": 1, "x": 0}', Reading([1, 2], None, None)),
        (b'{"a": 1}', Reading([1, None], None, None)),
        (b'{"a": NaN, "b": 2}', Reading([pytest.approx(np.nan, nan_ok=True), 2], None, None)),
        (b'{"a": 1, "b": 2, "time": "2026-03-04T13:00+01:00", "seq": 5}', Reading([1, 2], NOON, 5)),
        (b'{"values": [1, 2], "timestamp": 1772625600}', Reading([1, 2], NOON, None)),
        (b'{"values": [1, 2], "Time": 1772625600000}', Reading([1, 2], NOON, None)),
        (b'{"a": 1, "b": 2, "values": "raw"}', Reading([1, 2], None, None)),
        (b'{"a": 1, "values": [8, 9]}', Reading([1, None], None, None)),
        (b'{"a": 1, "b": 2, "seq": null, "time": null}', Reading([1, 2], None, None)),
        (b'{"date": "Thu", "a": 1, "b": 2, "time": 1772625600}', Reading([1, 2], NOON, None)),
        (b'{"a": 1, "b": 2, "time": 1772625600, "timestamp": null}', Reading([1, 2], NOON, None)),
        (b'\xef\xbb\xbf{"a": 1, "b": 2}', Reading([1, 2], None, None)),
    ],
)
def test_json_readings(line, expected) -> None:
    assert Parser(ONE).parse(line) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"hello", "is not JSON"),
        (b'"text"', "is neither a list of numbers nor an object but 'text'"),
        (b"true", "is neither a list"),
        (b'{"x": 1}', "has none of a, b, only x"),
        (b'{"a": 1, "b": 2, "time": "02/03/2026"}', "'02/03/2026' is not a time"),
        (b'{"a": 1, "b": 2, "time": 1e300}', "is not a time"),
        (b'{"a": 1, "b": 2, "seq": 1.5}', "seq is '1.5', not a whole number"),
        (
            b'{"a": 1, "b": 2, "seq": 99999999999999999999}',
            "seq is '99999999999999999999', not a whole number",
        ),
    ],
)
def test_what_is_no_reading(line, message) -> None:
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        Parser(ONE).parse(line)


def test_a_byte_order_mark_before_json_is_no_header() -> None:
    parser = Parser(ONE)
    parser.begin(b'\xef\xbb\xbf{"a": 1, "b": 2}\n')
    assert not parser.header


def test_csv_columns_may_come_in_any_order() -> None:
    parser = Parser(ONE)
    parser.begin(b"time,b,note,a,seq\n")
    assert parser.header == b"time,b,note,a,seq\n"
    assert parser.parse(b"2026-03-04 12:00,2,x,1,9\r\n") == Reading([1, 2], NOON, 9)
    assert parser.parse(b'2026-03-04 12:00,,"x,y",1,9') == Reading([1, None], NOON, 9)
    assert parser.parse(b"1772625600.0,2,x,1,9,,") == Reading([1, 2], NOON, 9)
    assert parser.parse(b"1772625600000,2,x,1,9").time == NOON
    assert parser.parse(b"20260304,2,x,1,9").time == datetime(2026, 3, 4)
    bad = [
        (b"1,2", "2 cells, the header has 5"),
        (b",2,5,,3,1", "6 cells, the header has 5"),
        (b",x,,1,9", "'x' is not a number"),
        (b",1,\r,1,9", "is not CSV"),
        (b",1," + b"x" * 200_000 + b",1,9", "is not CSV"),
    ]
    for line, message in bad:
        with pytest.raises(DataError, match=message):
            parser.parse(line)
    parser.begin(b"[1, 2]")
    assert parser.header == b""
    Parser(NAMELESS).begin(b"date,left,right")
    with pytest.raises(DataError, match="neither JSON nor the header of a CSV with b; found 'a,c'"):
        Parser(ONE).begin(b"a,c")
    with pytest.raises(DataError, match="with 2 columns of numbers"):
        Parser(NAMELESS).begin(b"date,left")


def test_a_file_that_begins_without_a_header_is_as_that_before() -> None:
    parser = Parser(ONE)
    parser.begin(b"a,time,b")
    for line in (b"1,,2", b",2026-03-04 12:00,", b"5", b"6-03-04 12:00,2"):  # the last two cut in half
        parser.begin(line)
        assert parser.header == b"a,time,b"
    with pytest.raises(DataError, match="the header of a CSV with b;"):
        parser.begin(b"a,time,c")
    parser.begin(b"b,a")
    assert parser.parse(b"2,1") == Reading([1, 2], None, None)
    parser.begin(b"[1, 2]")
    parser.begin(b'"b": 2}')
    assert parser.parse(b"[1, 2]") == Reading([1, 2], None, None)
