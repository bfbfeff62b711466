"""The loop of `edgeae watch`: readings in, results out, and nothing forgotten on the way.

Everything that happens is an event (see `events`): the thread that sees it puts it into one queue, and the
watch's own thread handles it. The order that makes a crash harmless is always the same:

1. readings are scored;
2. results, sequence number, alarm and open window are put on the disk in one record (see `Spool`);
3. only then the readings are acknowledged, and the results delivered.

Killed before 2, the readings come again and get the same numbers. Killed after it, they come again and are
known; at most results are delivered again, under the same numbers.
"""

import logging
import queue
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import assert_never

from ..errors import Argument, EdgeaeError
from .events import (
    Connected,
    Delivered,
    Disconnected,
    Event,
    Failed,
    Finished,
    Lines,
    Message,
    Receipt,
    Refused,
    Rejected,
    Retried,
    Stopped,
    Swapped,
)
from .intake import Intake
from .log import Line, RateFilter
from .metrics import Metrics
from .sinks.sink import Sink
from .sources.source import Source
from .spool import Spool
from .systemd import Notifier

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
STOP_SECONDS = 0.2
"""Seconds between two looks at whether to stop, where that is not told by a signal."""


class Watch:
    """Scores readings and delivers results; `run` is its main loop, `post` may be called by any thread."""

    def __init__(
        self,
        intake: Intake,
        *,
        spool: Spool | None,
        source: Source,
        sink: Sink,
        log: logging.Logger,
        metrics: Metrics,
    ) -> None:
        """Take what makes results, what they go through (None to remember nothing), and both ends."""
        self._intake, self._spool, self._source, self._sink = intake, spool, source, sink
        self._log, self._rate, self._metrics = log, RateFilter(log), metrics
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._slots = threading.Semaphore(CHUNKS_AHEAD)
        self._message_slots = threading.Semaphore(MESSAGES_AHEAD)
        self._notifier = Notifier()
        self._receipts: list[Receipt] = []
        self._unsettled: float | None = None
        self._flying: dict[int, int] = {}
        """Of each result on its way, by its ticket, the sequence number."""
        self._is_up: bool | None = None
        self._is_undelivered = False
        """Whether the last attempt to deliver has failed."""
        self._rejected = self._overflown = 0
        self._until: float | None = None
        self._is_over = False

    def post(self, event: Event) -> None:
        """Queue an event for the watch's thread; lines and messages wait while there are many already."""
        if isinstance(event, Lines | Message):
            slots = self._slots if isinstance(event, Lines) else self._message_slots
            while not slots.acquire(timeout=0.5) and not self._is_over:
                pass
        self._inbox.put(event)

    def run(self, stop: threading.Event | None = None) -> None:
        """Handle what comes until it is over: finished, failed, stopped.

        Args:
            stop: ends it when it is set; so do SIGTERM and SIGINT, where this is the main thread.

        Raises:
            EdgeaeError: what was posted as failed, or the disk refuses the spool.
        """
        try:
            with self._signals():
                self._notifier.notify("READY=1")
                while self._until is None or (self._backlog() and time.monotonic() < self._until):
                    if stop is not None and stop.is_set() and self._until is None:
                        self._stop()
                    self._handle(STOP_SECONDS if stop is not None else 1.0)
                self._notifier.notify("STOPPING=1")
                self._commit()
        finally:
            self._is_over = True  # who waits to post must not wait any longer
            self._rate.close()
        if self._spool is not None and (left := self._backlog()):
            self._log.warning(
                Line(f"{left} results are left in {self._spool.folder}; the next start sends them")
            )

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT stop the watch meanwhile, where they can be taken."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = [signal.signal(number, lambda *_: self.post(Stopped())) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def _handle(self, longest: float) -> None:
        """Wait for something for so many seconds, handle it and what else is there, and settle."""
        longest = min(longest, (self._notifier.interval or 2.0) / 2)
        if self._unsettled is not None:
            longest = min(longest, max(0.0, self._unsettled + SETTLE_SECONDS - time.monotonic()))
        with suppress(queue.Empty):
            for number in range(BATCH_EVENTS):
                self._take(self._inbox.get(number == 0, longest))
        self._settle()
        self._look_around()
        self._notifier.alive()

    def _take(self, event: Event) -> None:
        match event:
            case Lines():
                self._slots.release()
                self._touch()
                self._intake.take_lines(event, self._notifier.alive)
            case Message(payload, receipt, is_repeat):
                self._message_slots.release()
                self._touch()
                self._intake.take_message(payload, receipt.id if receipt else 0, is_repeat)
                if receipt is not None:
                    self._receipts.append(receipt)
            case Connected():
                self._connected(event)
            case Disconnected(reason):
                if self._is_up is not False:
                    self._log.warning(Line(f"no connection: {reason}; trying again"))
                self._is_up, self._metrics.connected = False, 0
            case Delivered(tickets):
                self._metrics.delivered_total += self._land(tickets)
            case Rejected(tickets, reason):
                count = self._land(tickets)
                self._rejected += count
                text = f"{count} results are given up, {self._rejected} so far: {reason}"
                self._log.error(Line(text), extra={"kind": "given up"})
            case Retried(reason):
                self._metrics.retried_total += 1
                if not self._is_undelivered:
                    text = f"results do not arrive: {reason}; trying again"
                    self._log.warning(Line(text), extra={"kind": "undelivered"})
                self._is_undelivered = True
            case Swapped(autoencoder, threshold):
                try:
                    renewed = self._intake.swap(autoencoder, threshold)
                except EdgeaeError as error:
                    self._refuse(error)
                    return
                if renewed is not None:
                    self._metrics.swaps_total += renewed == "bundle"
                    text = f"goes on with the new {renewed}; the threshold is {self._intake.threshold:.6g}"
                    self._log.info(Line(text))
            case Refused(error):
                self._refuse(error)
            case Finished():
                self._until = time.monotonic() + DRAIN_SECONDS
            case Stopped():
                self._stop()
            case Failed(error):
                raise error
            case _:
                assert_never(event)

    def _connected(self, event: Connected) -> None:
        is_again = self._intake.connected > 0
        self._is_up, self._intake.connected = True, time.monotonic()
        self._metrics.connected = 1
        self._metrics.reconnects_total += is_again
        parts: list[object] = ["connected"]
        if is_again and not event.has_session:
            parts.append(" to a broker that kept nothing for us meanwhile")
        elif not is_again and event.limit is not None:
            parts += [
                f"; the broker drops messages above {event.limit:,} bytes, see ",
                Argument("max_reading"),
            ]
        self._log.info(Line(*parts))

    def _refuse(self, error: EdgeaeError) -> None:
        self._metrics.refused_total += 1
        self._log.error(Line("refused, the old one goes on: ", error))

    def _stop(self) -> None:
        self._until = time.monotonic() + (LAST_WORDS_SECONDS if self._sink.ready else 0)

    def _land(self, tickets: tuple[int, ...]) -> int:
        """Note that these results need not be delivered any more; return how many of them were known."""
        landed = [ticket for ticket in tickets if self._flying.pop(ticket, None) is not None]
        if landed:
            if self._spool is not None:
                self._spool.mark_sent(min(self._flying.values(), default=self._spool.taken + 1) - 1)
                self._touch()
            if self._is_undelivered:
                self._log.info(Line("results arrive again"), extra={"kind": "delivered again"})
            self._is_undelivered = False
        return len(landed)

    def _look_around(self) -> None:
        """See whether readings still come, and let others know."""
        self._rate.flush()
        silence = self._intake.silence
        if self._until is None:
            silence.check()
        self._sink.inform("stale" if silence.is_stale else "online", silence.expiry)

    def _settle(self) -> None:
        """Put on the disk what is due, then acknowledge, then deliver."""
        is_due = self._unsettled is not None and time.monotonic() - self._unsettled >= SETTLE_SECONDS
        if self._intake.results or is_due or len(self._receipts) >= SETTLE_READINGS:
            self._commit()
        self._intake.count()
        sink, spool, metrics = self._sink, self._spool, self._metrics
        if spool is not None:
            while sink.ready and len(self._flying) < sink.ahead and (result := spool.take()):
                self._flying[sink.publish(result[1])] = result[0]
            if spool.dropped > self._overflown:
                text = f"the spool is full: {spool.dropped} results, the oldest, were given up so far"
                self._log.error(Line(text), extra={"kind": "dropped"})
                self._overflown = spool.dropped
            metrics.spool_results = spool.depth
        metrics.dropped_total = self._rejected + self._overflown
        sink.flush()

    def _commit(self) -> None:
        results, self._intake.results, self._unsettled = self._intake.results, [], None
        if self._spool is not None:
            self._spool.append(results, self._intake.state())
        else:
            for result in results:
                self._flying[self._sink.publish(result)] = 0
            self._sink.flush()
        receipts, self._receipts = self._receipts, []
        for receipt in receipts:
            self._source.acknowledge(receipt)

    def _backlog(self) -> int:
        return 0 if self._spool is None else self._spool.depth

    def _touch(self) -> None:
        """Note that there is something to settle."""
        self._unsettled = self._unsettled or time.monotonic()
