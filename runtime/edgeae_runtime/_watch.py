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

from ._errors import EdgeaeError
from ._intake import Intake, Log
from ._manifest import Threshold
from ._metrics import Metrics
from ._notify import Notifier
from ._sources import Lines
from ._spool import Spool

if TYPE_CHECKING:
    from ._autoencoder import Autoencoder
    from ._mqtt import Mqtt

BATCH_EVENTS = 256
"""Handled before results are put on the disk together; fewer where no more are there."""
SETTLE_SECONDS = 1.0
"""A reading that completes no window is on the disk, and acknowledged, at the latest after this…"""
SETTLE_READINGS = 16
"""…or after so many; fewer than a broker sends without an acknowledgement."""
CHUNKS_AHEAD = 4
PUBLISHED_AHEAD = 20
"""Results handed to the connection and not yet acknowledged."""
CURSOR_RESULTS = 100
"""Where no reading comes, delivery is noted on the disk after so many results."""
LAST_WORDS_SECONDS = 2.0
DRAIN_SECONDS = 30.0


class Watch:
    """Scores readings and delivers results; `run` is its main loop, all else may be called by any thread."""

    def __init__(
        self,
        intake: Intake,
        *,
        spool: Spool | None,
        write: Callable[[bytes], object],
        log: Log,
        metrics: Metrics,
    ) -> None:
        """Prepare it.

        Args:
            intake: makes results of readings.
            spool: what they go through; None to remember nothing.
            write: where lines of results go, unless there is a `link` and a topic to `publish` to.
            log: told of events.
            metrics: what to count in.
        """
        self.link: Mqtt | None = None
        self.publish: str | None = None
        self._intake, self._spool, self._write = intake, spool, write
        self._log, self._metrics = log, metrics
        self._inbox: queue.SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]] = queue.SimpleQueue()
        self._slots = threading.Semaphore(CHUNKS_AHEAD)
        self._notifier = Notifier()
        self._receipts: list[tuple[int, int]] = []
        self._unsettled: float | None = None
        self._flying: dict[int, int] = {}
        self._landed: set[int] = set()
        self._up = self._was_up = self._stopping = self._ended = False

    # --- for other threads: what they see is put into the queue

    def deliver(self, lines: Lines) -> None:
        """Take lines; waits while there are many already."""
        self._slots.acquire()
        self._post(self._take_lines, lines)

    def deliver_message(self, payload: bytes, mid: int, is_repeat: bool, connection: int) -> None:
        """Take an MQTT message; see `_mqtt.Events`."""
        self._post(self._take_message, payload, mid, is_repeat, connection)

    def finish(self) -> None:
        """There will be no more readings: deliver what there is, and stop."""
        self._post(self._finish)

    def fail(self, error: BaseException) -> None:
        """Stop with an error."""
        self._post(self._raise, error)

    def stop(self, *_: object) -> None:
        """Stop; a handler of signals, too."""
        self._post(self._stop)

    def link_up(self, has_session: bool) -> None:
        """The broker is there; whether it knew us."""
        self._post(self._link_up, has_session)

    def link_down(self, reason: str) -> None:
        """The broker is gone."""
        self._post(self._link_down, reason)

    def landed(self, mid: int) -> None:
        """The broker has taken a message of ours."""
        self._post(self._land, mid)

    def swap(self, autoencoder: "Autoencoder", threshold: float | Threshold) -> None:
        """Go on with another bundle or threshold, from the next reading on."""
        self._post(self._swap, autoencoder, threshold)

    def refuse(self, reason: str) -> None:
        """A new bundle or threshold is not used."""
        self._post(self._refuse, reason)

    def _post(self, handler: Callable[..., object], *arguments: object) -> None:
        self._inbox.put((handler, arguments))

    # --- the main thread

    def run(self) -> None:
        """Handle what comes until it is over, by `finish`, `fail`, SIGTERM or SIGINT.

        Raises:
            EdgeaeError: what was given to `fail`, or the disk refuses the spool.
        """
        before = {number: signal.signal(number, self.stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._notifier.tell("READY=1")
            deadline = None
            while not self._stopping:
                self._handle()
                if self._ended:
                    deadline = deadline or time.monotonic() + DRAIN_SECONDS
                    if not self._backlog() or time.monotonic() > deadline:
                        break
            self._notifier.tell("STOPPING=1")
            self._take_leave()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, longest: float = 1.0) -> None:
        """Wait for something, handle it and what else is there, and settle."""
        if self._notifier.interval is not None:
            longest = min(longest, self._notifier.interval / 2)
        if self._unsettled is not None:
            longest = min(longest, max(0.0, self._unsettled + SETTLE_SECONDS - time.monotonic()))
        with suppress(queue.Empty):
            handler, arguments = self._inbox.get(timeout=longest)
            handler(*arguments)
            for _ in range(BATCH_EVENTS):
                handler, arguments = self._inbox.get_nowait()
                handler(*arguments)
        self._settle()
        self._notifier.alive()

    def _settle(self) -> None:
        """Put on the disk what is due, then acknowledge, then deliver."""
        is_due = self._unsettled is not None and time.monotonic() - self._unsettled >= SETTLE_SECONDS
        is_far = self._spool is not None and self._spool.sent - self._spool.committed >= CURSOR_RESULTS
        if self._intake.results or is_due or is_far or len(self._receipts) >= SETTLE_READINGS:
            self._commit()
        self._send()
        self._count()

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

    def _send(self) -> None:
        spool = self._spool
        if spool is None:
            return
        if self.publish is None:
            waiting = list(iter(spool.take, None))
            self._write(b"".join(result.payload + b"\n" for result in waiting))
            if waiting:
                spool.mark_sent(waiting[-1].sequence)
        elif self.link is not None:
            while self._up and len(self._flying) < PUBLISHED_AHEAD and (result := spool.take()):
                self._flying[self.link.publish(self.publish, result.payload)] = result.sequence

    def _land(self, mid: int) -> None:
        if mid not in self._flying:
            return
        self._landed.add(mid)
        while self._flying and (first := next(iter(self._flying))) in self._landed:
            self._landed.remove(first)
            sequence = self._flying.pop(first)
            if self._spool is not None:
                self._spool.mark_sent(sequence)

    def _backlog(self) -> bool:
        return self._spool is not None and self.publish is not None and self._spool.depth > 0

    def _take_leave(self) -> None:
        self._settle()
        until = time.monotonic() + LAST_WORDS_SECONDS
        while self._up and self._flying and time.monotonic() < until:
            self._handle(0.1)
        spool = self._spool
        if spool is None or self._unsettled is not None or spool.sent != spool.committed:
            self._commit()
        if spool is not None and self._backlog():
            self._log(f"{spool.depth} results are left in {spool.folder}; the next start sends them")

    def _take_lines(self, chunk: Lines) -> None:
        self._slots.release()
        self._touch()
        self._intake.take_lines(chunk, self._notifier.alive)

    def _take_message(self, payload: bytes, mid: int, is_repeat: bool, connection: int) -> None:
        self._touch()
        self._intake.take_message(payload, mid, is_repeat)
        if mid:
            self._receipts.append((mid, connection))

    def _touch(self) -> None:
        """Note that there is something to settle."""
        if self._unsettled is None:
            self._unsettled = time.monotonic()

    def _count(self) -> None:
        self._intake.count()
        if self._spool is not None:
            metrics, spool = self._metrics, self._spool
            if spool.dropped > metrics.dropped_total:
                self._log.now_and_then(
                    f"the spool is full: {spool.dropped} results, the oldest, were given up so far"
                )
            metrics.dropped_total, metrics.spool_results = spool.dropped, spool.depth

    def _link_up(self, has_session: bool) -> None:
        is_lost = self._was_up and not has_session
        self._metrics.reconnects_total += self._was_up
        self._up = self._was_up = True
        self._metrics.connected = 1
        self._log(f"connected{' to a broker that kept nothing for us meanwhile' if is_lost else ''}")

    def _link_down(self, reason: str) -> None:
        self._up = False
        self._metrics.connected = 0
        self._log(f"no connection: {reason}; trying again")

    def _swap(self, autoencoder: "Autoencoder", threshold: float | Threshold) -> None:
        try:
            what = self._intake.swap(autoencoder, threshold)
        except EdgeaeError as error:
            self._refuse(str(error))
            return
        if what is not None:
            self._metrics.swaps_total += what.startswith("bundle")
            self._log(f"goes on with the new {what}")

    def _refuse(self, reason: str) -> None:
        self._metrics.refused_total += 1
        self._log(f"refused, the old one goes on: {reason}")

    def _finish(self) -> None:
        self._ended = True

    def _stop(self) -> None:
        self._stopping = True

    @staticmethod
    def _raise(error: BaseException) -> None:
        raise error
