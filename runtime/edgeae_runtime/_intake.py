"""From lines and messages to results, and all that `edgeae watch` has to remember of it.

A reading that is delivered twice is scored once. It is known by its ``seq``, by its time (to the stream it is
late), or, where it has neither, by what the broker says of the message.

What must not be forgotten, results until they are delivered and the state, is in an SQLite database. Both are
of one transaction, flushed to the disk: they cannot disagree, whenever the power fails.
"""

import math
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ._clock import FAR, Numbers
from ._errors import DataError, OutputError
from ._manifest import Threshold
from ._readings import Lines, Parser, Position, Reading
from ._service import Log
from ._silence import Silence
from ._stream import Stream, StreamResult

if TYPE_CHECKING:
    from ._autoencoder import Autoencoder

_TABLES = """
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS result (sequence INTEGER PRIMARY KEY, payload BLOB);
CREATE TABLE IF NOT EXISTS kept (
    id INTEGER PRIMARY KEY, last DEFAULT 0, sent DEFAULT 0, state BLOB,
    client DEFAULT (lower(hex(randomblob(6))))
);
INSERT OR IGNORE INTO kept (id) VALUES (1);
"""
RESENT_SECONDS = 60.0
"""So long after a connection was made, a time not after the last one is of a reading that was sent again. The
stream alone would take a hundred such for a clock that was set back."""
RECENT = 64
"""Messages remembered, to know those that the broker delivers again; see `_mqtt.RECEIVE_MAXIMUM`."""


class Spool:
    """A folder with a database, for one process at a time.

    When the results that wait grow beyond ``limit`` (bytes), the oldest go.
    """

    last: int
    """Sequence number of the last result."""
    sent: int
    """All up to this one are delivered; up to `taken`, on their way."""
    state: bytes | None
    """As it was appended last; also by the process before."""
    client: str
    """Made at random once."""

    def __init__(self, folder: Path, *, limit: int = 64 << 20) -> None:
        """Open the folder, or make it, and read where the last process came to.

        Raises:
            OutputError: another process uses it, or it cannot be written to.
        """
        self.folder, self._limit = folder, limit
        self.dropped = 0
        """Results that were given up undelivered, because there were too many."""
        with self._named_errors():
            folder.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(folder / "spool.db", timeout=0)
            try:
                self._base.executescript(_TABLES)
                found = self._base.execute("SELECT last, sent, state, client FROM kept").fetchone()
                (self._bytes,) = self._base.execute("SELECT total(length(payload)) FROM result").fetchone()
            except sqlite3.Error:
                self._base.close()
                raise
        self.last, self.sent, self.state, self.client = found
        self.taken = self.sent

    @property
    def depth(self) -> int:
        """Results that wait to be delivered."""
        return self.last - self.sent

    def append(self, results: list[bytes], state: bytes) -> None:
        """Put results, numbered from `last` + 1, and a state on the disk; they are there on return.

        Raises:
            OutputError: the disk refuses it; what was there before stays.
        """
        last, sent, size = self.last + len(results), self.sent, self._bytes + sum(map(len, results))
        with self._named_errors(), self._base as base:
            base.executemany("INSERT INTO result VALUES (?, ?)", enumerate(results, self.last + 1))
            for number, length in base.execute(
                "SELECT sequence, length(payload) FROM result ORDER BY sequence"
            ):
                if number > sent and size <= self._limit:
                    break
                sent, size = max(sent, number), size - length
            base.execute("DELETE FROM result WHERE sequence <= ?", (sent,))
            base.execute("UPDATE kept SET last = ?, sent = ?, state = ?", (last, sent, state))
        self.dropped += sent - self.sent
        self.last, self.sent, self.state, self._bytes = last, sent, state, size
        self.taken = max(self.taken, sent)

    def take(self) -> tuple[int, bytes] | None:
        """Return number and JSON of the next result to deliver, in order, each once, or None."""
        if self.taken >= self.last:
            return None
        query = "SELECT sequence, payload FROM result WHERE sequence > ? ORDER BY sequence"
        with self._named_errors():
            sequence, payload = self._base.execute(query, (self.taken,)).fetchone()
        self.taken = sequence
        return sequence, payload

    def mark_sent(self, sequence: int) -> None:
        """Note that all up to this one have been delivered; it is on the disk after the next `append`."""
        self.sent = max(self.sent, sequence)

    def close(self) -> None:
        """Let another process use the folder."""
        self._base.close()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            why = "another edgeae watch is using it; stop that one, or choose another --state"
            why = why if "locked" in str(error) else f"cannot be written ({error})"
            raise OutputError(f"{self.folder}: {why}") from None


class _Kept(msgspec.Struct):
    """What outlives a restart."""

    stream: msgspec.Raw = msgspec.Raw()
    numbers: Numbers = msgspec.field(default_factory=Numbers)
    recent: list[int] = []
    """The last messages: id and checksum of the payload."""
    position: Position | None = None
    """In the followed file, of what was taken so far."""
    header: bytes | None = None
    """See `Parser`."""


class Intake:
    """Takes readings; for one thread."""

    def __init__(
        self,
        autoencoder: "Autoencoder",
        threshold: float | Threshold,
        settings: dict[str, Any],
        *,
        embedding: bool,
        metrics: dict[str, float],
        log: Log,
        stale_after: float | None = None,
    ) -> None:
        """Start with nothing remembered; see `restore`. The first three are of `Autoencoder.stream`.

        Raises:
            DataError: a setting is out of range.
        """
        self._settings, self._embedding, self._metrics, self._log = settings, embedding, metrics, log
        self.results: list[bytes] = []
        """JSON, to be taken away by the caller."""
        self.connected = -math.inf
        """When the last connection to a broker was made, by `time.monotonic`."""
        wanted = autoencoder.manifest.input
        self._parser = Parser(wanted)
        self.silence = Silence(
            wanted, lambda: self._stream.usual_step, seconds=stale_after, log=log, metrics=metrics
        )
        self._kept = _Kept()
        self._drift: str | None = None
        self._run(autoencoder, threshold, None)

    def _run(self, autoencoder: "Autoencoder", threshold: float | Threshold, state: bytes | None) -> None:
        self._stream: Stream = autoencoder.stream(threshold=threshold, state=state, **self._settings)
        self._running = autoencoder, threshold
        self._counted = {
            name: self._metrics[f"{name}_total"] for name in ("late", "doubted", "missing", "interruptions")
        }

    def state(self) -> bytes:
        """Return all that outlives a restart, as JSON: also the open window."""
        self._kept.stream = msgspec.Raw(self._stream.state(window=True))
        self._kept.header = self._parser.header
        return msgspec.json.encode(self._kept)

    @property
    def position(self) -> Position | None:
        """Return where in the followed file the lines so far end."""
        return self._kept.position

    def restore(self, state: bytes, sequence: int, *, keep_window: bool) -> None:
        """Go on from another one's `state`; if it cannot be read, at least from the number ``sequence``.

        ``keep_window``: whether even a reading without a time continues the open window.
        """
        try:
            kept = msgspec.json.decode(state, type=_Kept)
            stream = msgspec.json.decode(kept.stream)
            if not keep_window and stream["ticks"]["last"] is None:
                stream["open"] = None
            if kept.header is not None:
                self._parser.begin(kept.header)
            self._run(*self._running, msgspec.json.encode(stream))
            self._kept = kept
        except (ValueError, LookupError, TypeError, DataError) as error:
            self._log.tell(f"starts anew, but for the sequence number ({error})")
            stream = {**msgspec.json.decode(self._stream.state()), "sequence": sequence}
            self._run(*self._running, msgspec.json.encode(stream))

    def swap(self, autoencoder: "Autoencoder", threshold: float | Threshold) -> str | None:
        """Go on with another bundle or threshold, open window and all; return what is new.

        Raises:
            EdgeaeError: it does not fit, and nothing has changed.
        """
        before, own = self._running
        if autoencoder is before and threshold == own:
            return None
        self.count()
        self._run(autoencoder, threshold, self._stream.state(window=True))
        what = "threshold" if autoencoder is before else "bundle"
        return f"{what}; the threshold is {self._stream.threshold:.6g}"

    def take_lines(self, chunk: Lines, between: Callable[[], object]) -> None:
        """Take lines of a file or pipe, and call ``between`` after each.

        Raises:
            DataError: a first line that is neither JSON nor a header that fits.
        """
        is_new = chunk.is_new or self._parser.header is None
        for line in chunk.lines:
            if line.strip():
                if is_new:
                    self._parser.begin(line)
                    is_new = False
                if line != self._parser.header:
                    self._take(line)
            between()
        for _ in range(chunk.too_long):
            self._reject("a line is longer than --max-reading allows")
        self._kept.position = chunk.position

    def take_message(self, payload: bytes, mid: int, is_repeat: bool) -> None:
        """Take an MQTT message: its payload, its id, and whether it may have been delivered before."""
        key = mid << 32 | zlib.crc32(payload)
        if is_repeat and key in self._kept.recent:
            self._metrics["repeated_total"] += 1
            return
        self._take(payload)
        self._kept.recent = [*self._kept.recent[1 - RECENT :], key]

    def _take(self, line: bytes) -> None:
        metrics, log = self._metrics, self._log
        reading = None
        try:
            reading = self._parser.parse(line)
            missing = self._missing(reading)
            if missing is None:
                metrics["repeated_total"] += 1
                log.now_and_then(f"a reading is left out: it came before ({_told(reading)})", "repeated")
                return
            if reading.time is None:  # else the stream sees it by the time
                for _ in range(min(missing, self._settings["hold"] + 1)):
                    self._note(self._stream.push(None))
            self._push(reading)
        except DataError as error:
            self._reject(str(error), reading)
        except (MemoryError, RecursionError) as error:
            self._reject(f"is too much to take ({type(error).__name__})", reading)

    def _push(self, reading: Reading) -> None:
        """Give it to the stream, and tell where its time is not believed or it is not taken."""
        log, stream = self._log, self._stream
        late, doubted, whole, clock = stream.late, stream.doubted, stream.missing, stream.clock
        result = stream.push(reading.values, reading.time)
        self._metrics["samples_total"] += 1
        if stream.late > late:
            why = f"its time, {reading.time}, is not after the last one, {clock}"
            more = "set the sender's clock, or send finer times or none"
            log.now_and_then(f"a reading is left out: {why}; {more}", "late")
            self.silence.note(reading.values, is_full=False, why="late")
            return
        if stream.doubted > doubted:
            log.now_and_then(
                f"a reading is taken without its time, {reading.time}, so far from the last one, {clock}, "
                "that it is believed only if the next agrees",
                "doubted",
            )
        self._note(result)
        is_full = stream.missing == whole
        self.silence.note(reading.values, is_full=is_full, has_result=result is not None)

    def _reject(self, why: str, reading: Reading | None = None) -> None:
        self._metrics["rejected_total"] += 1
        self._log.now_and_then(f"a reading is left out: {why}", "rejected")
        values = None if reading is None else reading.values
        self.silence.note(values, is_full=False, why="left out, as told")

    def _missing(self, reading: Reading) -> int | None:
        """Return how many readings never came before this one, as ``seq`` tells, or None for one known."""
        numbers, seq = self._kept.numbers, reading.sequence
        last, when = self._stream.clock, reading.time
        is_later = is_earlier = False
        if last is not None and when is not None and abs(when - last) <= FAR:
            is_later, is_earlier = when > last, when <= last
        is_new_link = time.monotonic() - self.connected < RESENT_SECONDS
        if is_earlier and is_new_link and (seq is None or not numbers.ranges):
            return None
        return 0 if seq is None else numbers.take(seq, is_later=is_later)

    def _note(self, result: StreamResult | None) -> None:
        if result is None:
            return
        metrics = self._metrics
        metrics["windows_total"] += 1
        metrics["anomalies_total"] += result.anomaly
        metrics["error"], metrics["threshold"] = result.error, result.threshold
        metrics["alarm"], metrics["drift"] = int(result.alarm), int(result.drift is not None)
        if (result.drift is None) != (self._drift is None):
            self._log.tell(f"drift: {result.drift or 'no more'}")
        self._drift = result.drift
        said = result._asdict()
        if self._embedding:
            said["embedding"] = result.embedding.tolist()
        else:
            del said["embedding"]
        self.results.append(msgspec.json.encode(said))

    def count(self) -> None:
        """Bring the metrics up to date."""
        for name, before in self._counted.items():
            self._metrics[f"{name}_total"] = before + getattr(self._stream, name)


def _told(reading: Reading) -> str:
    if reading.sequence is None:
        return f"time {reading.time}"
    return f"seq {reading.sequence}"
