"""From lines and messages to results, and all that `edgeae watch` has to remember of it.

A reading that is delivered twice is scored once. It is known by its ``seq``, by its time (to the stream it is
late), or, where it has neither, by what the broker says of the message.
"""

import math
import time
import zlib
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from ._errors import DataError
from ._manifest import Threshold
from ._metrics import Metrics
from ._readings import Parser, Reading
from ._sources import Lines, Position
from ._stream import Stream, StreamResult

if TYPE_CHECKING:
    from ._autoencoder import Autoencoder

REPEATS = 10_000
"""A ``seq`` not above the last one is of a reading that was sent again, unless so many come in a row: brokers
were seen to send a thousand again after a restart…"""
ANEW = 1000
"""…and unless it is 0 or 1, so far behind: who sends it has been restarted and counts anew."""
QUIET_SECONDS = 10.0
RECENT = 64
"""Messages remembered, to know those that the broker delivers again; see `_mqtt.RECEIVE_MAXIMUM`."""


class Log:
    """Tells of events, a line each."""

    def __init__(self, write: Callable[[str], object]) -> None:
        """Write lines to where ``write`` does."""
        self._write = write
        self._last, self._count = -math.inf, 0

    def __call__(self, text: str) -> None:
        """Tell of an event."""
        self._write(text)

    def now_and_then(self, text: str) -> None:
        """Tell of something that may come with every reading, but not each time."""
        self._count += 1
        if time.monotonic() - self._last >= QUIET_SECONDS:
            more = f" ({self._count} such since the last line)" if self._count > 1 else ""
            self._write(f"{text}{more}")
            self._last, self._count = time.monotonic(), 0


class _Kept(msgspec.Struct, kw_only=True):
    """What outlives a restart."""

    stream: msgspec.Raw
    seq: int | None = None
    """Of the last reading."""
    time: datetime | None = None
    """Of the last reading that had one."""
    recent: list[int] = []
    """The last messages: id and checksum of the payload."""
    position: Position | None = None
    """In the followed file."""


class Intake:
    """Takes readings; for one thread."""

    def __init__(
        self,
        autoencoder: "Autoencoder",
        *,
        threshold: float | Threshold,
        settings: dict[str, Any],
        embedding: bool,
        metrics: Metrics,
        log: Log,
    ) -> None:
        """Start with nothing remembered; see `restore`.

        Args:
            autoencoder: what scores.
            threshold: see `Autoencoder.stream`.
            settings: the other arguments of `Autoencoder.stream`.
            embedding: whether it is part of a result.
            metrics: what to count in.
            log: told of events.

        Raises:
            DataError: a setting is out of range.
        """
        self._autoencoder, self._threshold, self._settings = autoencoder, threshold, settings
        self._embedding, self._metrics, self._log = embedding, metrics, log
        self.results: list[bytes] = []
        """JSON, to be taken away by the caller."""
        self.position: Position | None = None
        """In the followed file, of what was taken so far."""
        self._parser = Parser(autoencoder.manifest.input)
        self._stream = self._new_stream(None)
        self._seq: int | None = None
        self._repeats = 0
        self._time: datetime | None = None
        self._recent: deque[int] = deque(maxlen=RECENT)
        self._counted = (0, 0, 0)
        self._drift: str | None = None

    def _new_stream(self, state: bytes | None) -> Stream:
        return self._autoencoder.stream(threshold=self._threshold, state=state, **self._settings)

    def state(self) -> bytes:
        """Return all that outlives a restart, as JSON: also the open window."""
        return msgspec.json.encode(
            _Kept(
                stream=msgspec.Raw(self._stream.state(window=True)),
                seq=self._seq,
                time=self._time,
                recent=list(self._recent),
                position=self.position,
            )
        )

    def restore(self, state: bytes, sequence: int, *, keep_window: bool) -> None:
        """Go on where another one was. If its state cannot be read, at least the numbers go on.

        Args:
            state: from `state`.
            sequence: the number of the last result.
            keep_window: whether even a reading without a time continues the open window.
        """
        try:
            kept = msgspec.json.decode(state, type=_Kept)
            stream = bytes(kept.stream)
            if not keep_window and kept.time is None:
                stream = msgspec.json.encode({**msgspec.json.decode(stream), "open": None})
            self._stream = self._new_stream(stream)
        except (msgspec.DecodeError, ValueError, DataError) as error:
            self._log(f"starts anew, but for the sequence number ({error})")
            fresh = msgspec.json.decode(self._stream.state())
            self._stream = self._new_stream(msgspec.json.encode({**fresh, "sequence": sequence}))
            return
        self._seq, self._time, self.position = kept.seq, kept.time, kept.position
        self._recent.extend(kept.recent)

    def swap(self, autoencoder: "Autoencoder", threshold: float | Threshold) -> str | None:
        """Go on with another bundle or threshold, open window and all; return what is new.

        Raises:
            EdgeaeError: it does not fit, and nothing has changed.
        """
        if autoencoder is self._autoencoder and threshold == self._threshold:
            return None
        self.count()
        what = "threshold" if autoencoder is self._autoencoder else "bundle"
        before = self._autoencoder, self._threshold
        self._autoencoder, self._threshold = autoencoder, threshold
        try:
            self._stream = self._new_stream(self._stream.state(window=True))
        except Exception:
            self._autoencoder, self._threshold = before
            raise
        self._counted = (0, 0, 0)
        return f"{what}; the threshold is {self._stream.threshold:.6g}"

    def take_lines(self, chunk: Lines, between: Callable[[], object]) -> None:
        """Take lines of a file or pipe, and call ``between`` after each.

        Raises:
            DataError: a first line that is neither JSON nor a header that fits.
        """
        lines = chunk.lines
        if chunk.first is not None and self._parser.begin(chunk.first) and chunk.is_start:
            lines = lines[1:]
        for line in lines:
            if line.strip():
                self._take(line)
            between()
        self.position = chunk.position

    def take_message(self, payload: bytes, mid: int, is_repeat: bool) -> None:
        """Take an MQTT message: its payload, its id, and whether it may have been delivered before."""
        key = mid << 32 | zlib.crc32(payload)
        if is_repeat and key in self._recent:
            self._metrics.repeated_total += 1
            return
        self._take(payload)
        self._recent.append(key)

    def _take(self, line: bytes) -> None:
        try:
            reading = self._parser.parse(line)
            if self._is_repeated(reading):
                self._metrics.repeated_total += 1
                return
            self._bridge(reading)
            result = self._stream.push(reading.values, reading.time)
        except DataError as error:
            self._metrics.rejected_total += 1
            self._log.now_and_then(f"a reading is left out: {error}")
            return
        self._metrics.samples_total += 1
        self._seq = self._seq if reading.sequence is None else reading.sequence
        self._time = reading.time or self._time
        if result is not None:
            self._note(result)

    def _is_repeated(self, reading: Reading) -> bool:
        if reading.sequence is None or self._seq is None:
            return False
        is_later = reading.time is not None and self._time is not None and reading.time > self._time
        is_anew = reading.sequence <= 1 and self._seq >= ANEW
        if reading.sequence > self._seq or is_later or is_anew:
            self._repeats = 0
            return False
        self._repeats += 1
        return self._repeats <= REPEATS

    def _bridge(self, reading: Reading) -> None:
        """Count readings that never came, as a jump of ``seq`` tells; by the time the stream sees it."""
        if reading.time is not None or reading.sequence is None or self._seq is None:
            return
        lost = reading.sequence - self._seq - 1
        for _ in range(min(max(lost, 0), self._settings.get("hold", 0) + 1)):
            if (result := self._stream.push(None)) is not None:
                self._note(result)

    def _note(self, result: StreamResult) -> None:
        metrics = self._metrics
        metrics.windows_total += 1
        metrics.anomalies_total += result.anomaly
        metrics.error, metrics.threshold = result.error, result.threshold
        metrics.alarm, metrics.drift = int(result.alarm), int(result.drift is not None)
        if (result.drift is None) != (self._drift is None):
            self._log(f"drift: {result.drift or 'no more'}")
        self._drift = result.drift
        said = result._asdict()
        if self._embedding:
            said["embedding"] = result.embedding.tolist()
        else:
            del said["embedding"]
        self.results.append(msgspec.json.encode(said))

    def count(self) -> None:
        """Bring the metrics up to date."""
        stream, metrics = self._stream, self._metrics
        now = stream.late, stream.missing, stream.interruptions
        late, missing, interruptions = (new - old for new, old in zip(now, self._counted, strict=True))
        metrics.late_total += late
        metrics.missing_total += missing
        metrics.interruptions_total += interruptions
        self._counted = now
