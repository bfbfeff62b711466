"""A live series, one sample at a time: windows, verdicts, the alarm, and whether the model still fits.

The windows are those that `edgeae_runtime.series.windows` makes of the same readings in a file. Memory is
fixed when the stream starts.
"""

import math
import struct
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..bundle.manifest import Floats, Threshold
from ..errors import DataError
from ..named import by_name
from ..series.clock import GAP
from ..series.stream_clock import CUT, CUT_BEFORE, DOUBT, LATE, ON, StreamClock
from .alarm import Alarm, AlarmState
from .detector import WindowDetector
from .drift import Drift, DriftState
from .result import StreamResult
from .state import Open, State

LIST_PATH_MAX_VALUES = 32
"""Most values of a sample that is faster handled as a list than as an array."""

_EPOCH = datetime(1970, 1, 1)


class Stream:
    """Takes samples in order of time; made by `Detector.stream`. For one thread at a time."""

    def __init__(
        self,
        autoencoder: WindowDetector,
        *,
        threshold: float | Threshold | None = None,
        alarm: Alarm | None = None,
        drift: Drift | None = None,
        hold: int = 0,
        step: float | None = None,
        state: bytes | None = None,
    ) -> None:
        """See `Detector.stream`; there ``drift`` has another default, here None means none."""
        wanted = autoencoder.manifest.input
        own = threshold if isinstance(threshold, Threshold) else autoencoder.threshold
        value = own.value if threshold is None or isinstance(threshold, Threshold) else float(threshold)
        if not (hold >= 0 and value >= 0 and (step is None or 0 < step < math.inf)):
            raise DataError(
                f"stream: hold {hold}, step {step} s, threshold {value:g}; want hold and threshold of at "
                "least 0, and a step above 0"
            )
        if drift is not None and not {"0.5", "0.9"} <= own.quantiles.keys():
            raise DataError("stream: the threshold has no quantiles 0.5 and 0.9; recalibrate, or drift=None")
        self.threshold = value
        self.artifact = autoencoder.artifact
        """The file of the bundle whose errors these are, for `write_threshold`."""
        self.late = 0
        """Samples dropped because their time was not after the one before."""
        self.doubted = 0
        """Samples that were taken without their time, because it was not believed."""
        self.missing = 0
        """Samples with a value that was None, NaN or infinite, held or not."""
        self.interruptions = 0
        """Times that a begun segment of readings was cut, by a gap, a missing sample or a clock set back."""

        self._autoencoder, self._alarm, self._drift = autoencoder, alarm or Alarm(), drift
        self._quantiles = own.quantiles
        self._shape, self._hold, self._step = wanted.shape, hold, step
        self._features = wanted.features
        self._window = wanted.window or 1
        self._stride = wanted.stride or 1
        self._values = wanted.size // self._window
        # Rows go in one behind the other, and at the end the last window is moved to the front: so any
        # window lies in one piece, and a sample is written once.
        self._rows = np.zeros((2 * self._window, self._values), np.float32)
        self._bytes = self._rows.data.cast("B")
        self._pack = struct.Struct(f"={self._values}f").pack_into
        self._ones = np.ones(self._values, np.float32)
        self._held = np.zeros(self._values, np.int64)
        self._is_holding = False
        self._position = self._count = 0
        self._due = self._window
        self._given_up: tuple[int, int] | None = None

        self._clock = StreamClock()
        if step is not None:
            self._clock = StreamClock(limit=timedelta(seconds=GAP * step), steps=None, is_given=True)
        self._timed: bool | None = None
        self._samples = self._sequence = 0
        self._alarm_state, self._drift_state = AlarmState(), DriftState()
        if state is not None:
            self._restore(state)

    def __repr__(self) -> str:
        """Show the artifact, the threshold, and how much was seen."""
        seen = f"samples={self._samples}, windows={self._sequence}"
        return f"<{type(self).__name__} of {self.artifact!r}, threshold={self.threshold:.6g}, {seen}>"

    def push(
        self, sample: float | Sequence[float | None] | NDArray[Any] | None, time: datetime | None = None
    ) -> StreamResult | None:
        """Take the next sample; return a result where it completes a window.

        Args:
            sample: one reading of all channels, in raw units: a list, tuple or array, or a number where
                there is one channel; of a bundle without a window a whole sample. What has names (a dict, a
                pandas Series, a named tuple) is taken by name where the bundle has features. None as a whole,
                or a value that is None, NaN or not finite as float32, is missing.
            time: of the reading; once one has it, for every further one. With an offset it is taken as
                UTC, without one as it stands.

        Raises:
            DataError: another number of values than the bundle wants, one of its features is not there, or
                a value is no number; no time where others had one. The sample is not taken.
            BundleError, EngineError: as for `Detector.detect`.
        """
        if (time is not None) is not self._timed:
            self._settle(time)
        position = self._position
        values: Any = sample
        if type(sample) is float:
            values = (sample,)
        elif type(sample) is np.ndarray and sample.size <= LIST_PATH_MAX_VALUES:
            values = sample.ravel().tolist()
        if type(values) is list or type(values) is tuple:
            try:
                self._pack(self._bytes, position * 4 * self._values, *values)
                is_whole = math.isfinite(sum(values))
            except (struct.error, TypeError, OverflowError):
                is_whole = self._write(sample, position)
        else:
            is_whole = self._write(sample, position)
        if time is not None:
            verdict = self._clock.take(time)
            if verdict != ON:
                if verdict == LATE:
                    self.late += 1
                    return None
                if verdict == DOUBT:
                    self.doubted += 1
                    time = None
                else:
                    self._cut(verdict)
        self._samples += 1
        if is_whole:
            if self._is_holding:
                self._held[:] = 0
                self._is_holding = False
        elif not self._fill(position):
            return None
        position += 1
        if position == len(self._rows):
            self._rows[: self._window] = self._rows[self._window :]
            position = self._window
        self._position = position
        self._count += 1
        if self._count < self._due:
            return None
        self._due += self._stride
        return self._judge(self._rows[position - self._window : position], time)

    def state(self, *, window: bool = False) -> bytes:
        """Return what the stream remembers, as JSON, for `Detector.stream` after a restart.

        Args:
            window: whether the samples of the open window are part of it, so that no reading is lost where
                the new stream is given the very next one.
        """
        states = self._alarm_state, self._drift_state, self._quantiles, self._clock
        opened = self._open() if window else None
        return msgspec.json.encode(State(self._sequence, self._samples, *states, opened))

    def _restore(self, content: bytes) -> None:
        try:
            state = msgspec.json.decode(content, type=State)
        except (msgspec.DecodeError, ValueError) as error:
            raise DataError(f"stream: the state cannot be read ({error}); start without it") from error
        self._sequence, self._alarm_state, self._samples = state.sequence, state.votes, state.samples
        if state.quantiles == self._quantiles:  # else of another model or threshold
            self._drift_state = state.shares
        if self._step is None:
            self._clock = state.ticks
        else:  # holds, whatever the usual one was
            self._clock.last = state.ticks.last
        if state.open is not None:
            self._reopen(state.open)

    def _open(self) -> Open:
        rows = self._rows[self._position - min(self._count, self._window) : self._position]
        return Open(rows.astype("<f4").tobytes(), self._due - self._count, self._held.tolist())

    def _reopen(self, kept: Open) -> None:
        """Take over an open window, unless it is of a bundle with other samples."""
        count, rest = divmod(len(kept.rows), 4 * self._values)
        if rest or count > self._window or len(kept.held) != self._values:
            return
        self._rows[:count] = np.frombuffer(kept.rows, "<f4").reshape(-1, self._values)
        self._position = self._count = count
        self._due = max(self._window, count + kept.left)
        self._held[:] = kept.held
        self._is_holding = bool(self._held.any())

    def _settle(self, time: datetime | None) -> None:
        """Note whether samples have times: none, or all from some sample on (a clock may be set late)."""
        if self._timed:
            raise DataError("stream: give every sample a time, or none; this one has none")
        if time is None and self._alarm.refractory and self._step is None:
            raise DataError("stream: a refractory time needs samples with times, or step=SECONDS")
        self._timed = time is not None

    def _write(self, sample: Any, position: int) -> bool:
        """Write any kind of sample into a row, slowly; return whether all of its values are there."""
        row = self._rows[position]
        if sample is None:
            row[:] = np.nan
            return False
        try:
            named = by_name(sample, self._features, where="stream")
            found = len(named) if isinstance(named, list | tuple) else 0
            # as objects, or one long text would have numpy make all values as long
            values = np.asarray(named if found <= self._values else (), object if found else None).reshape(-1)
            if values.dtype.kind not in "biufO":
                raise TypeError(f"{values.dtype}")
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is missing
                if values.dtype.kind == "O" and any(isinstance(v, str | bytes) for v in values):
                    raise TypeError("text")
                if values.size == self._values:
                    row[:] = values  # None becomes NaN
                    return math.isfinite(row.dot(self._ones)) or bool(np.isfinite(row).all())
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"stream: a sample holds something that is no number ({error})") from error
        problem = f"expected {self._values} values a sample, found {max(found, values.size)}"
        raise DataError(f"stream: {problem}; give all channels at once")

    def _interrupt(self) -> None:
        """Let no later window reach back beyond here."""
        if self._count:
            self.interruptions += 1
        self._count, self._due, self._given_up = 0, self._window, None

    def _cut(self, verdict: int) -> None:
        """Interrupt the series where the clock finds a gap, or take it back: the rows are still there."""
        if verdict == CUT:
            before = self._count, self._due
            self._interrupt()
            self._given_up = before
        elif verdict == CUT_BEFORE:
            last = min(1, self._count)
            self.interruptions += self._count > last
            self._count, self._due, self._given_up = last, self._window, None
        elif self._given_up is not None:
            count, due = self._given_up
            self.interruptions -= count > 0
            self._count += count
            self._due = max(due, due + -(-(self._count + 1 - due) // self._stride) * self._stride)
            self._given_up = None

    @property
    def usual_step(self) -> float:
        """The usual seconds from one sample to the next; 0 where that is not known yet."""
        return self._clock.limit.total_seconds() / GAP

    @property
    def clock(self) -> datetime | None:
        """The last time that was believed, in UTC where it had an offset."""
        return self._clock.last

    def _fill(self, position: int) -> bool:
        """Put the last known values where a sample has none, if that may be; else interrupt the series."""
        self.missing += 1
        row = self._rows[position]
        gone = ~np.isfinite(row)
        self._held = np.where(gone, self._held + 1, 0)
        self._is_holding = True
        if not self._count or self._held.max() > self._hold:
            self._interrupt()
            return False
        row[gone] = self._rows[position - 1][gone]
        return True

    def _judge(self, window: Floats, time: datetime | None) -> StreamResult:
        errors, _, embedding, _ = self._autoencoder.detect(window.reshape(self._shape))
        error = float(errors)
        self._sequence += 1
        seconds = self._samples * (self._step or 0.0)
        if self._timed and self._clock.last is not None:
            seconds = (self._clock.last - _EPOCH).total_seconds()
        alarm = self._alarm_state.count(self._alarm, error, self.threshold, seconds)
        drift = self._drift_state.count(self._drift, error, self._quantiles) if self._drift else None
        anomaly = error > self.threshold
        return StreamResult(self._sequence, time, error, self.threshold, anomaly, alarm, embedding, drift)
