import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from watching import COLUMNS, one_by_one, wait_for

from edgeae_runtime.watch.events import Lines, Position
from edgeae_runtime.watch.sources.lines import follow, read_lines


class Follower:
    """`follow` in a thread; the lines that it gave."""

    def __init__(self, path: Path, position: Position | None = None, **more: int) -> None:
        self.chunks: list[Lines] = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.read, args=(path, position), kwargs=more)
        self.thread.start()

    def read(self, path: Path, position: Position | None, **more: int) -> None:
        for chunk in follow(path, position, self.stop, **more):
            self.chunks.append(chunk)

    def has(self, *lines: bytes) -> None:
        try:
            wait_for(lambda: self.lines == list(lines), f"{lines}, not {self.lines}", 5)
        except AssertionError:
            self.end()
            raise

    @property
    def lines(self) -> list[bytes]:
        return [line for chunk in self.chunks for line in chunk.lines]

    def end(self) -> Position | None:
        self.stop.set()
        self.thread.join()
        return self.chunks[-1].position if self.chunks else None


def test_a_file_is_followed_through_rotation_truncation_and_restarts(tmp_path) -> None:
    path = tmp_path / "pump.csv"
    follower = Follower(path)  # that is not there yet
    path.write_bytes(b"head\n1\n2\n3")
    follower.has(b"head", b"1", b"2")
    with path.open("ab") as file:
        file.write(b"33\n4\n")
    follower.has(b"head", b"1", b"2", b"333", b"4")
    assert [chunk.is_new for chunk in follower.chunks] == [True, False]
    path.rename(tmp_path / "pump.csv.1")
    with (tmp_path / "pump.csv.1").open("ab") as file:
        file.write(b"5\n")  # whoever writes has not noticed yet
    time.sleep(0.4)
    path.write_bytes(b"head2\n6\n")
    follower.has(b"head", b"1", b"2", b"333", b"4", b"5", b"head2", b"6")
    assert follower.chunks[-1].is_new
    position = follower.end()
    with path.open("ab") as file:
        file.write(b"7\n")
    path.rename(tmp_path / "pump.csv.1")
    path.write_bytes(b"head3\n8\n")
    follower = Follower(path, position)
    follower.has(b"7", b"head3", b"8")
    assert [chunk.is_new for chunk in follower.chunks] == [False, True]
    os.truncate(path, 0)
    time.sleep(0.4)
    with path.open("ab") as file:
        file.write(b"9\n")
    follower.has(b"7", b"head3", b"8", b"9")
    follower.end()


def test_the_lines_of_a_pipe(tmp_path) -> None:
    inward, outward = os.pipe()
    os.write(outward, b"1\n2\n3")
    os.close(outward)
    with open(inward, "rb", buffering=0) as file:
        found = list(read_lines(file, None, None, threading.Event()))
    assert found == [Lines([b"1", b"2"], True), Lines([b"3"])]


def test_a_watch_of_a_file_goes_on_where_it_was_killed(start, tiny, own, rows, tmp_path) -> None:
    source = tmp_path / "pump.jsonl"
    source.touch()
    options = (tiny, "--follow", source, "--state", tmp_path / "state")
    for part in np.array_split(rows[:90], 3):
        running = start(*options)
        with source.open("a") as file:
            file.writelines(f"{json.dumps(row.tolist())}\n" for row in part)
        last = b'{"sequence":%d,' % source.read_bytes().count(b"\n")
        wait_for(lambda r=running, last=last: last in r.out.read_bytes(), "results")
        running.process.kill()
        running.process.wait()
    results = [json.loads(line) for line in running.out.read_text().splitlines()]
    unique = {result["sequence"]: result["error"] for result in results}
    np.testing.assert_array_equal(np.float32(list(unique.values())), one_by_one(own, rows[:90]))
    assert list(unique) == list(range(1, 91))


def test_the_header_of_a_truncated_file_outlives_a_restart(start, tiny, own, rows, tmp_path) -> None:
    source = tmp_path / "pump.csv"
    lines = [",".join(map(repr, row.tolist())).ljust(200 - 9 * n, ",") for n, row in enumerate(rows[:4])]
    source.write_text("\n".join(["", ",".join(COLUMNS), "1,\r,2", lines[0], ""]))
    options = (tiny, "--follow", source, "--state", tmp_path / "state")
    running = start(*options)
    running.has(1)
    for number, line in enumerate(lines[1:], 2):
        source.write_text(f"{line}\n")  # shorter than before, so that it shows whenever it is looked at
        running.has(number)
        assert running.end() == 0
        running = start(*options)
    running.end()
    assert running.err.read_text().count("a reading is left out: is not CSV") == 1
    np.testing.assert_array_equal(np.float32(running.errors), one_by_one(own, rows[:4]))


@pytest.mark.parametrize("size", [101, 40_000, 3_000_000])
@pytest.mark.parametrize("place", ["first", "middle", "last", "unfinished"])
def test_a_line_that_is_too_long_is_left_out_wherever_it_is(tmp_path, size, place) -> None:
    long = b"x" * size
    lines = {
        "first": [long, b"1", b"2"],
        "middle": [b"1", long, b"2"],
        "last": [b"1", b"2", long],
        "unfinished": [b"1", b"2", long],
    }[place]
    path = tmp_path / "pump.csv"
    path.write_bytes(b"\n".join(lines) + b"\n" * (place != "unfinished"))
    with path.open("rb", buffering=0) as file:
        found = list(read_lines(file, None, None, threading.Event(), 100))
    assert [line for lines in found for line in lines.lines] == [b"1", b"2"]
    assert sum(lines.too_long for lines in found) == 1
    follower = Follower(path, limit=100)
    follower.has(b"1", b"2")
    with path.open("ab") as file:
        file.write(b"\n3\n" if place == "unfinished" else b"3\n")
    follower.has(b"1", b"2", b"3")
    position = follower.end()
    assert sum(lines.too_long for lines in follower.chunks) == 1
    assert position.offset == path.stat().st_size


def test_a_pipe_without_a_newline_does_not_fill_the_memory(start, tiny, own, rows) -> None:
    running = start(tiny)
    running.feed(rows[:2])
    running.has(2)
    for _ in range(300):
        running.process.stdin.write(b"[" * 1_000_000)
    running.process.stdin.write(b"\n")
    running.feed(rows[2:4])
    running.has(4)
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0])
    assert peak < 150_000
    assert running.end() == 0
    assert running.err.read_text() == (
        "edgeae watch: a reading is left out: a line is longer than --max-reading allows\n"
    )
    np.testing.assert_array_equal(np.float32(running.errors), one_by_one(own, rows[:4]))
