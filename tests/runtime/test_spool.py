import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeae_runtime._errors import OutputError
from edgeae_runtime._spool import Result, Spool


def payloads(first: int, count: int) -> list[bytes]:
    return [json.dumps({"sequence": n}).encode() for n in range(first, first + count)]


def drain(spool: Spool) -> list[int]:
    """Take all, and see that each is under its own number."""
    found: list[Result] = list(iter(spool.take, None))
    assert all(json.loads(result.payload) == {"sequence": result.sequence} for result in found)
    return [result.sequence for result in found]


def crashed(folder: Path, target: Path) -> Path:
    """What another process would find if this one ended now."""
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(folder, target)


@pytest.fixture
def opened() -> Iterator[Callable[..., Spool]]:
    """Opens spools, and closes them in the end."""
    spools: list[Spool] = []

    def call(*arguments: Any, **options: Any) -> Spool:
        spools.append(Spool(*arguments, **options))
        return spools[-1]

    yield call
    for spool in spools:
        spool.close()


def test_what_was_appended_is_there_after_a_crash(tmp_path, opened) -> None:
    spool = opened(tmp_path / "a")
    assert (spool.state, spool.last, spool.depth, spool.take()) == (None, 0, 0, None)
    spool.append(payloads(1, 3), b'{"n":1}')
    spool.append([], b'{"n":2}')
    assert drain(spool) == [1, 2, 3]
    spool.mark_sent(2)
    other = opened(crashed(tmp_path / "a", tmp_path / "b"))
    assert (other.state, other.last, other.sent) == (b'{"n":2}', 3, 0)
    assert drain(other) == [1, 2, 3]  # delivered, but that was not on the disk yet: they come again
    spool.append([], b'{"n":3}')
    other = opened(crashed(tmp_path / "a", tmp_path / "c"))
    assert (other.state, other.depth) == (b'{"n":3}', 1)
    assert drain(other) == [3]
    other.append(payloads(4, 1), b"{}")
    assert drain(other) == [4]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_results_come_in_order_and_once_through_crashes_and_deliveries(tmp_path, opened, data) -> None:
    """Against a model of three numbers: those appended, those delivered, those whose delivery is on disk."""
    folder = tmp_path / "spool"
    shutil.rmtree(folder, ignore_errors=True)
    spool = opened(folder, limit=10**6)
    spool._size = 200  # many small files
    last = sent = committed = taken = 0
    state = None
    for _ in range(data.draw(st.integers(1, 25))):
        action = data.draw(st.sampled_from(["append", "append", "take", "send", "crash", "tear"]))
        if action == "append":
            count = data.draw(st.integers(0, 5))
            state = b"%d" % data.draw(st.integers(0, 1000))
            spool.append(payloads(last + 1, count), state)
            last, committed = last + count, sent
        elif action == "take":
            for _ in range(data.draw(st.integers(1, 8))):
                result = spool.take()
                assert (result is None) == (taken == last)
                if result is not None:
                    taken += 1
                    assert result == (taken, *payloads(taken, 1))
        elif action == "send":
            sent = data.draw(st.integers(sent, max(sent, taken)))
            spool.mark_sent(sent)
        else:
            spool.close()
            if action == "tear":  # the line that was being written when the power failed
                newest = max(folder.glob("*.log"), default=folder / "00000001.log")
                whole = b'00000000 {"first":%d,"results":[{}],"sent":0,"state":7}\n' % (last + 1)
                with newest.open("ab") as file:
                    file.write(whole[: data.draw(st.integers(1, len(whole)))])
            spool = opened(folder, limit=10**6)
            spool._size = 200
            assert spool.damaged >= (action == "tear")
            assert (spool.last, spool.state) == (last, state)
            assert committed <= spool.sent <= sent  # a file whose results are all delivered is gone at once
            sent = taken = committed = spool.sent
        assert spool.depth == last - sent
    spool.close()


@pytest.mark.parametrize("cut", [1, 5, 9, 40])
def test_a_line_that_was_cut_short_counts_for_nothing(tmp_path, cut, opened) -> None:
    spool = opened(tmp_path / "a")
    spool.append(payloads(1, 2), b"1")
    spool.append(payloads(3, 2), b"2")
    copy = crashed(tmp_path / "a", tmp_path / "b")
    (file,) = copy.glob("*.log")
    os.truncate(file, file.stat().st_size - cut)
    other = opened(copy)
    assert (other.damaged, other.state, other.last) == (1, b"1", 2)
    other.append(payloads(3, 1), b"3")  # not behind the half line
    again = opened(crashed(copy, tmp_path / "c"))
    assert (again.damaged, again.state) == (1, b"3")
    assert drain(again) == [1, 2, 3]


def test_an_altered_line_is_left_out(tmp_path, opened) -> None:
    spool = opened(tmp_path)
    for n in range(3):
        spool.append(payloads(n + 1, 1), b"%d" % n)
    spool.close()
    (file,) = tmp_path.glob("*.log")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[1].replace(b'"sequence": 2', b'"sequence": 9') + lines[2])
    other = opened(tmp_path)
    assert (other.damaged, other.state, other.last) == (1, b"2", 3)
    assert drain(other) == [1, 3]


def test_a_full_spool_gives_up_the_oldest(tmp_path, opened) -> None:
    spool = opened(tmp_path, limit=4_000)
    for n in range(300):
        spool.append(payloads(n + 1, 1), b"{}")
        assert sum(file.stat().st_size for file in tmp_path.glob("*.log")) <= 4_000
    assert 0 < spool.dropped < 300
    assert spool.depth + spool.dropped == 300
    assert drain(spool) == list(range(spool.dropped + 1, 301))
    spool.mark_sent(300)
    assert (spool.depth, len(list(tmp_path.glob("*.log")))) == (0, 1)
    before = spool.dropped
    spool.append([], b"{}")
    other = opened(crashed(tmp_path, tmp_path.with_name("copy")))
    assert (other.last, other.depth, spool.dropped) == (300, 0, before)


def test_delivered_results_make_room(tmp_path, opened) -> None:
    spool = opened(tmp_path, limit=4_000)
    for n in range(300):
        spool.append(payloads(n + 1, 1), b"{}")
        assert drain(spool) == [n + 1]
        spool.mark_sent(n + 1)
    assert spool.dropped == 0
    assert len(list(tmp_path.glob("*.log"))) <= 2


def test_one_process_at_a_time(tmp_path, opened) -> None:
    first = opened(tmp_path)
    with pytest.raises(OutputError, match="another edgeae watch is using it; stop that one, or choose"):
        opened(tmp_path)
    first.close()
    opened(tmp_path).close()


def test_a_full_disk_loses_nothing_of_before(tmp_path, full_disk, opened) -> None:
    spool = opened(tmp_path / "a")
    spool.append(payloads(1, 10), b"1")
    with full_disk(), pytest.raises(OutputError, match="cannot be written"):
        spool.append(payloads(11, 1000), b"2")
    other = opened(crashed(tmp_path / "a", tmp_path / "b"))
    assert (other.state, other.last) == (b"1", 10)
    assert drain(other) == list(range(1, 11))
