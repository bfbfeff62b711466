"""The loop of `edgeae watch`: readings in, results out, and nothing forgotten on the way.

Everything that happens (lines, messages, acknowledgements, a new bundle) is put into one queue by the thread
that sees it, and handled by the main thread. The order that makes a crash harmless is always the same:

1. readings are scored;
2. results, sequence number, alarm and open window are put on the disk in one record (see `Spool`);
3. only then the readings are acknowledged, and the results delivered.

Killed before 2, the readings come again and get the same numbers. Killed after it, they come again and are
known; at most results are delivered again, under the same numbers.
"""

import queue
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..bundle.manifest import Threshold
from ..errors import EdgeaeError
from .intake import Intake
from .log import Log
from .sources.lines import Lines
from .spool import Spool
from .systemd import Notifier

if TYPE_CHECKING:
    from ..autoencoder import Autoencoder
    from .mqtt import Mqtt

BATCH_EVENTS = 256
"""Most events that are handled before their results are put on the disk together."""
SETTLE_SECONDS = 1.0
"""Seconds after which a reading that completes no window, or a delivery, is on the disk at the latest."""
SETTLE_READINGS = 16
"""Readings after which they are on the disk at the latest; fewer than a broker sends unacknowledged."""
CHUNKS_AHEAD = 4
"""Most chunks of lines that are read and not yet taken, so that a fast file does not fill the memory."""
MESSAGES_AHEAD = 64
"""Most messages that are not yet taken: those of QoS 0 the broker sends without waiting for anything."""
LAST_WORDS_SECONDS = 2.0
"""Seconds to deliver what is there after a signal."""
DRAIN_SECONDS = 30.0
"""Seconds to deliver what is there after the last reading."""


class Watch:
    """Scores readings and delivers results; `run` is its main loop, `post` may be called by any thread."""

    def __init__(
        self,
        intake: Intake,
        *,
        spool: Spool | None,
        write: Callable[[bytes], object],
        log: Log,
        metrics: dict[str, float],
    ) -> None:
        """Take what makes results, what they go through (None to remember nothing) and to.

        ``write`` gets lines of results unless there is a `link`, which is to be set, that `publishes` them.
        """
        self.link: Mqtt | None = None
        self.publishes = False
        self._intake, self._spool, self._write = intake, spool, write
        self._log, self._metrics = log, metrics
        self._inbox: queue.SimpleQueue[tuple[str, tuple[Any, ...]]] = queue.SimpleQueue()
        self._slots = threading.Semaphore(CHUNKS_AHEAD)
        self._message_slots = threading.Semaphore(MESSAGES_AHEAD)
        self._notifier = Notifier()
        self._receipts: list[tuple[int, int]] = []
        self._unsettled: float | None = None
        self._flying: dict[int, int] = {}
        self._up: bool | None = None
        self._until: float | None = None

    def post(self, what: str, *details: Any) -> None:
        """Queue an event for the main thread; lines and messages wait while there are many already.

        Args:
            what: names one of the methods ``_on_…`` below.
            details: what that takes.
        """
        if what == "lines":
            self._slots.acquire()
        elif what == "message":
            while not self._message_slots.acquire(timeout=0.5) and self._until is None:
                pass
        self._inbox.put((what, details))

    def run(self) -> None:
        """Handle what comes until it is over: finished, failed, SIGTERM or SIGINT.

        Raises:
            EdgeaeError: what was posted as failed, or the disk refuses the spool.
        """
        signals = (signal.SIGTERM, signal.SIGINT)
        before = [signal.signal(number, lambda *_: self.post("stop")) for number in signals]
        try:
            self._notifier.notify("READY=1")
            while self._until is None or (self._backlog() and time.monotonic() < self._until):
                self._handle()
            self._notifier.notify("STOPPING=1")
            self._commit()
            self._log.flush(now=True)
            if self._spool is not None and (left := self._backlog()):
                self._log.write(f"{left} results are left in {self._spool.folder}; the next start sends them")
        finally:
            if self._until is None:  # it failed: who waits to post must not wait any longer
                self._until = time.monotonic()
            for number, handler in zip(signals, before, strict=True):
                signal.signal(number, handler)

    def _handle(self) -> None:
        """Wait for something, handle it and what else is there, and settle."""
        longest = min(1.0, (self._notifier.interval or 2.0) / 2)
        if self._unsettled is not None:
            longest = min(longest, max(0.0, self._unsettled + SETTLE_SECONDS - time.monotonic()))
        with suppress(queue.Empty):
            for number in range(BATCH_EVENTS):
                what, details = self._inbox.get(number == 0, longest)
                getattr(self, f"_on_{what}")(*details)
        self._settle()
        self._look_around()
        self._notifier.alive()

    def _look_around(self) -> None:
        """See whether readings still come, and inform the broker."""
        self._log.flush()
        silence = self._intake.silence
        if self._until is None:
            silence.check()
        if self.link is not None and self.publishes:
            self.link.say("stale" if silence.is_stale else "online", silence.expiry)

    def _settle(self) -> None:
        """Put on the disk what is due, then acknowledge, then deliver."""
        spool = self._spool
        is_due = self._unsettled is not None and time.monotonic() - self._unsettled >= SETTLE_SECONDS
        if self._intake.results or is_due or len(self._receipts) >= SETTLE_READINGS:
            self._commit()
        self._intake.count()
        if spool is None:
            return
        if self.link is not None and self.publishes:
            link = self.link
            while link.ready and len(self._flying) < link.ahead and (result := spool.take()):
                self._flying[link.publish(result[1])] = result[0]
        elif spool.depth:
            self._write(b"".join(payload + b"\n" for _, payload in iter(spool.take, None)))
            spool.mark_sent(spool.last)
            self._touch()
        if spool.dropped > self._metrics["dropped_total"]:
            self._log.rate_limited(
                f"the spool is full: {spool.dropped} results, the oldest, were given up so far", "dropped"
            )
        self._metrics["dropped_total"], self._metrics["spool_results"] = spool.dropped, spool.depth

    def _commit(self) -> None:
        results, self._intake.results, self._unsettled = self._intake.results, [], None
        if self._spool is None:
            self._write(b"".join(result + b"\n" for result in results))
        else:
            self._spool.append(results, self._intake.state())
        receipts, self._receipts = self._receipts, []
        if self.link is not None:
            for mid, connection in receipts:
                self.link.acknowledge(mid, connection)

    def _backlog(self) -> int:
        return self._spool.depth if self._spool is not None and self.publishes else 0

    def _touch(self) -> None:
        """Note that there is something to settle."""
        self._unsettled = self._unsettled or time.monotonic()

    # --- events from `post`

    def _on_lines(self, chunk: Lines) -> None:
        self._slots.release()
        self._touch()
        self._intake.take_lines(chunk, self._notifier.alive)

    def _on_message(self, payload: bytes, mid: int, is_repeat: bool, connection: int) -> None:
        """MQTT: payload, id (0 for QoS 0), whether it may have come before, number of the connection."""
        self._message_slots.release()
        self._touch()
        self._intake.take_message(payload, mid, is_repeat)
        if mid:
            self._receipts.append((mid, connection))

    def _on_up(self, has_session: bool) -> None:
        is_again = self._intake.connected > 0
        self._up, self._intake.connected = True, time.monotonic()
        self._metrics["connected"] = 1
        self._metrics["reconnects_total"] += is_again
        lost = " to a broker that kept nothing for us meanwhile" if is_again and not has_session else ""
        self._log.write(f"connected{lost}")

    def _on_down(self, reason: str) -> None:
        if self._up is not False:
            self._log.write(f"no connection: {reason}; trying again")
        self._up, self._metrics["connected"] = False, 0

    def _on_published(self, mid: int) -> None:
        if self._flying.pop(mid, None) is not None and self._spool is not None:
            self._spool.mark_sent(min(self._flying.values(), default=self._spool.taken + 1) - 1)
            self._touch()

    def _on_swap(self, autoencoder: "Autoencoder", threshold: float | Threshold) -> None:
        """What is to run from the next reading on."""
        try:
            what = self._intake.swap(autoencoder, threshold)
        except EdgeaeError as error:
            self._on_refuse(str(error))
            return
        if what is not None:
            self._metrics["swaps_total"] += what.startswith("bundle")
            self._log.write(f"goes on with the new {what}")

    def _on_refuse(self, reason: str) -> None:
        """Why a new bundle or threshold is not used."""
        self._metrics["refused_total"] += 1
        self._log.write(f"refused, the old one goes on: {reason}")

    def _on_finish(self) -> None:
        """There will be no more readings: deliver what there is, and stop."""
        self._until = time.monotonic() + DRAIN_SECONDS

    def _on_stop(self) -> None:
        self._until = time.monotonic() + (LAST_WORDS_SECONDS if self._up else 0)

    def _on_fail(self, error: BaseException) -> None:
        raise error
