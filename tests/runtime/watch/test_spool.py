import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeae_runtime.errors import OutputError
from edgeae_runtime.watch.spool import Spool


def payloads(first: int, count: int) -> list[bytes]:
    return [json.dumps({"sequence": n}).encode() for n in range(first, first + count)]


def drain(spool: Spool) -> list[int]:
    """Take all, and see that each is under its own number."""
    found = list(iter(spool.take, None))
    assert all(json.loads(payload) == {"sequence": sequence} for sequence, payload in found)
    return [sequence for sequence, _ in found]


def crashed(folder: Path, target: Path) -> Path:
    """What another process would find if this one ended now."""
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(folder, target)


@pytest.fixture
def opened() -> Iterator[Callable[..., Spool]]:
    """Opens spools, and closes them in the end."""
    spools: list[Spool] = []

    def call(*arguments: Any, **options: Any) -> Spool:
        spools.append(Spool(*arguments, **{"limit": 10**6, **options}))
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


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_results_come_in_order_and_once_through_crashes_and_deliveries(tmp_path, opened, data) -> None:
    """Against a model of three numbers: those appended, those delivered, those whose delivery is on disk."""
    folder, number = tmp_path / "spool", 0
    shutil.rmtree(folder, ignore_errors=True)
    spool = opened(folder)
    last = sent = committed = taken = 0
    state = None
    for _ in range(data.draw(st.integers(1, 20))):
        action = data.draw(st.sampled_from(["append", "append", "take", "send", "crash", "stop"]))
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
            client = spool.client
            if action == "crash":
                number = 1 - number
                folder = crashed(folder, tmp_path / f"spool{number}")
            spool.close()
            spool = opened(folder)
            assert (spool.last, spool.state, spool.client) == (last, state, client)
            assert spool.sent == committed
            sent = taken = committed
        assert spool.depth == last - sent
    spool.close()


def test_what_was_being_written_when_the_power_failed_counts_for_nothing(tmp_path, opened) -> None:
    spool = opened(tmp_path / "a")
    sizes = []
    for n in range(3):
        spool.append(payloads(2 * n + 1, 2), b"%d" % n)
        sizes.append((tmp_path / "a" / "spool.db-wal").stat().st_size)
    for cut, whole in [(1, 1), (100, 1), (sizes[2] - sizes[1], 1), (sizes[2] - sizes[1] + 1, 0)]:
        copy = crashed(tmp_path / "a", tmp_path / "b")
        os.truncate(copy / "spool.db-wal", sizes[2] - cut)
        other = opened(copy)
        assert (other.state, other.last) == (b"%d" % whole, 2 * whole + 2)
        other.append(payloads(other.last + 1, 1), b"3")
        other.close()
        again = opened(copy)
        assert again.state == b"3"
        assert drain(again) == list(range(1, 2 * whole + 4))
        again.close()


def test_a_full_spool_gives_up_the_oldest(tmp_path, opened) -> None:
    spool = opened(tmp_path / "a", limit=4_000)
    for n in range(600):
        spool.append(payloads(n + 1, 1), b"{}")
    assert spool.depth + spool.dropped == 600
    assert len(payloads(600, 1)[0]) * spool.depth <= 4000 < len(payloads(600, 1)[0]) * (spool.depth + 1)
    assert drain(spool) == list(range(spool.dropped + 1, 601))
    spool.mark_sent(600)
    before = spool.dropped
    spool.append([], b"{}")
    assert (spool.depth, spool.dropped) == (0, before)
    other = opened(crashed(tmp_path / "a", tmp_path / "b"))
    assert (other.last, other.depth) == (600, 0)
    spool.close()
    assert (tmp_path / "a" / "spool.db").stat().st_size < 100_000


def test_delivered_results_make_room(tmp_path, opened) -> None:
    spool = opened(tmp_path, limit=4_000)
    for n in range(200):
        spool.append(payloads(n + 1, 1), b"{}")
        assert drain(spool) == [n + 1]
        spool.mark_sent(n + 1)
    assert spool.dropped == 0
    spool.close()
    assert (tmp_path / "spool.db").stat().st_size < 50_000


def test_one_process_at_a_time(tmp_path, opened) -> None:
    first = opened(tmp_path)
    with pytest.raises(OutputError, match=r"another edgeae watch is using it; .* choose another state$"):
        opened(tmp_path)
    first.close()
    opened(tmp_path).close()


def test_a_file_that_is_no_database_is_named(tmp_path, opened) -> None:
    (tmp_path / "spool.db").write_bytes(b"nonsense " * 100)
    with pytest.raises(OutputError, match=r"cannot be written \(file is not a database\)"):
        opened(tmp_path)


def test_a_full_disk_loses_nothing_of_before(tmp_path, full_disk, opened) -> None:
    spool = opened(tmp_path / "a")
    spool.append(payloads(1, 10), b"1")
    with full_disk(), pytest.raises(OutputError, match="cannot be written"):
        spool.append(payloads(11, 1000), b"2")
    assert (spool.last, drain(spool)) == (10, list(range(1, 11)))
    other = opened(crashed(tmp_path / "a", tmp_path / "b"))
    assert (other.state, other.last) == (b"1", 10)
    assert drain(other) == list(range(1, 11))
