"""From lines and messages to results.

A reading that is delivered twice is scored once. It is known by its ``seq``, by its time (to the stream it is
late), or, where it has neither, by what the broker flags of the message.
"""

import logging
import math
import time
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import msgspec

from ..bundle.manifest import Threshold
from ..errors import Argument, DataError
from ..series.stream_clock import LONGEST_STEP, Numbers
from ..streams.result import StreamResult
from ..streams.stream import Stream
from .config import WatchConfig
from .events import Lines, Position
from .log import Line
from .metrics import Metrics
from .readings import Parser, Reading
from .silence import Silence

if TYPE_CHECKING:
    from ..autoencoder import Autoencoder

RESENT_SECONDS = 60.0
"""Seconds after a connection was made in which a time not after the last one is of a reading that was sent
again. The stream alone would take a hundred such for a clock that was set back."""
REMEMBERED_MESSAGES = 64
"""Messages that are remembered, to recognize what a broker delivers again; as many as it may send ahead."""


class _Kept(msgspec.Struct):
    """State of the intake that survives a restart."""

    stream: msgspec.Raw = msgspec.Raw()
    numbers: Numbers = msgspec.field(default_factory=Numbers)
    recent: list[int] = []
    """The last messages: id and checksum of the payload."""
    position: Position | None = None
    """In the followed file, of what was taken so far."""
    header: bytes | None = None
    """See `Parser`."""


class _Counted(msgspec.Struct):
    """Counts of the streams before the one that runs."""

    late: int = 0
    doubted: int = 0
    missing: int = 0
    interruptions: int = 0


class Intake:
    """Takes readings; for one thread."""

    def __init__(
        self,
        autoencoder: "Autoencoder",
        threshold: float | Threshold,
        config: WatchConfig,
        *,
        metrics: Metrics,
        log: logging.Logger,
    ) -> None:
        """Start with nothing remembered; see `restore`.

        Raises:
            DataError: a setting is out of range.
        """
        self._config, self._metrics, self._log = config, metrics, log
        self.results: list[bytes] = []
        """JSON, to be taken away by the caller."""
        self.connected = -math.inf
        """When the last connection to a broker was made, by `time.monotonic`."""
        wanted = autoencoder.manifest.input
        self._parser = Parser(wanted)
        self.silence = Silence(
            wanted, lambda: self._stream.usual_step, seconds=config.stale_after, log=log, metrics=metrics
        )
        self._kept = _Kept()
        self._drifts = False
        self._run(autoencoder, threshold, None)

    def _run(self, autoencoder: "Autoencoder", threshold: float | Threshold, state: bytes | None) -> None:
        config = self._config
        self._stream: Stream = autoencoder.stream(
            threshold=threshold, state=state, alarm=config.alarm(), drift=config.drift(), hold=config.hold
        )
        self._running = autoencoder, threshold
        counts = self._metrics
        self._counted = _Counted(
            counts.late_total, counts.doubted_total, counts.missing_total, counts.interruptions_total
        )

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
            self._log.warning(Line("starts anew, but for the sequence number (", error, ")"))
            stream = {**msgspec.json.decode(self._stream.state()), "sequence": sequence}
            self._run(*self._running, msgspec.json.encode(stream))

    def swap(
        self, autoencoder: "Autoencoder", threshold: float | Threshold
    ) -> Literal["bundle", "threshold"] | None:
        """Go on with another bundle or threshold, open window and all; return which of them is new.

        Raises:
            EdgeaeError: it does not fit, and nothing has changed.
        """
        before, own = self._running
        if autoencoder is before and threshold == own:
            return None
        self.count()
        self._run(autoencoder, threshold, self._stream.state(window=True))
        return "threshold" if autoencoder is before else "bundle"

    @property
    def threshold(self) -> float:
        """The threshold in use."""
        return self._stream.threshold

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
            self._reject(Line("a line is longer than ", Argument("max_reading"), " allows"))
        self._kept.position = chunk.position

    def take_message(self, payload: bytes, mid: int, is_repeat: bool) -> None:
        """Take a message: its payload, its id (0 for none), and whether it may have been delivered before."""
        key = mid << 32 | zlib.crc32(payload)
        if is_repeat and key in self._kept.recent:
            self._metrics.repeated_total += 1
            return
        self._take(payload)
        self._kept.recent = [*self._kept.recent[1 - REMEMBERED_MESSAGES :], key]

    def _take(self, line: bytes) -> None:
        reading = None
        try:
            reading = self._parser.parse(line)
            missing = self._missing(reading)
            if missing is None:
                self._metrics.repeated_total += 1
                self._leave_out(f"it came before ({_described(reading)})", "repeated")
                return
            if reading.time is None:  # else the stream sees it by the time
                for _ in range(min(missing, self._config.hold + 1)):
                    self._note(self._stream.push(None))
            self._push(reading)
        except DataError as error:
            self._reject(error, reading)
        except (MemoryError, RecursionError) as error:
            self._reject(f"is too much to take ({type(error).__name__})", reading)

    def _push(self, reading: Reading) -> None:
        """Give it to the stream, and log where its time is not believed or it is not taken."""
        stream = self._stream
        late, doubted, whole, clock = stream.late, stream.doubted, stream.missing, stream.clock
        result = stream.push(reading.values, reading.time)
        self._metrics.samples_total += 1
        if stream.late > late:
            why = f"its time, {reading.time}, is not after the last one, {clock}"
            more = "set the sender's clock, or send finer times or none"
            self._leave_out(f"{why}; {more}", "late")
            self.silence.note(reading.values, is_full=False, why="late")
            return
        if stream.doubted > doubted:
            text = (
                f"a reading is taken without its time, {reading.time}, so far from the last one, {clock}, "
                "that it is believed only if the next agrees"
            )
            self._log.warning(Line(text), extra={"kind": "doubted"})
        self._note(result)
        is_full = stream.missing == whole
        self.silence.note(reading.values, is_full=is_full, has_result=result is not None)

    def _leave_out(self, why: object, kind: str) -> None:
        self._log.warning(Line("a reading is left out: ", why), extra={"kind": kind})

    def _reject(self, why: object, reading: Reading | None = None) -> None:
        self._metrics.rejected_total += 1
        self._leave_out(why, "rejected")
        values = None if reading is None else reading.values
        self.silence.note(values, is_full=False, why="left out, as told")

    def _missing(self, reading: Reading) -> int | None:
        """Return how many readings never came before this one, as ``seq`` shows, or None for one known."""
        numbers, seq = self._kept.numbers, reading.sequence
        last, when = self._stream.clock, reading.time
        is_later = is_earlier = False
        if last is not None and when is not None and abs(when - last) <= LONGEST_STEP:
            is_later, is_earlier = when > last, when <= last
        is_new_link = time.monotonic() - self.connected < RESENT_SECONDS
        if is_earlier and is_new_link and (seq is None or not numbers.ranges):
            return None
        return 0 if seq is None else numbers.take(seq, is_later=is_later)

    def _note(self, result: StreamResult | None) -> None:
        if result is None:
            return
        metrics, drifts = self._metrics, result.drift is not None
        metrics.windows_total += 1
        metrics.anomalies_total += result.anomaly
        metrics.error, metrics.threshold = result.error, result.threshold
        metrics.alarm, metrics.drift = int(result.alarm), int(drifts)
        if drifts != self._drifts:
            level = logging.WARNING if drifts else logging.INFO
            self._log.log(level, Line(f"drift: {result.drift or 'no more'}"))
        self._drifts = drifts
        record = result._asdict()
        if self._config.embedding:
            record["embedding"] = result.embedding.tolist()
        else:
            del record["embedding"]
        self.results.append(msgspec.json.encode(record))

    def count(self) -> None:
        """Bring the metrics up to date."""
        metrics, before, stream = self._metrics, self._counted, self._stream
        metrics.late_total = before.late + stream.late
        metrics.doubted_total = before.doubted + stream.doubted
        metrics.missing_total = before.missing + stream.missing
        metrics.interruptions_total = before.interruptions + stream.interruptions


def _described(reading: Reading) -> str:
    if reading.sequence is None:
        return f"time {reading.time}"
    return f"seq {reading.sequence}"
