"""Results by HTTP POST: batches of them as a JSON array, tried again until the server has them.

The status of an answer decides. No batch overtakes another one, so results arrive in order; a batch may
arrive twice, where the answer got lost.
"""

import random
import socket
import ssl
import threading
import time
from collections import deque
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection, IncompleteRead
from pathlib import Path
from typing import NamedTuple

from ...errors import Argument, EdgeaeError
from ...names import VERSION
from ..events import Delivered, Event, Failed, Post, Rejected, Retried
from ..links.http import Address, bearer_token, retry_after
from ..links.secure import reason, tls_context
from ..log import Line
from .sink import Sink

BATCH_RESULTS = 100
BATCH_BYTES = 256_000
"""Most bytes of a batch of more than one result."""
FIRST_DELAY = (0.5, 1.5)
"""Seconds until the first attempt to deliver a batch again, drawn at random so that a fleet does not come
back at once; the delay doubles with each attempt, up to `LONGEST_DELAY`."""
LONGEST_DELAY = (30.0, 60.0)
"""Longest seconds between two attempts, drawn likewise; ``Retry-After`` may ask for more."""
IDLE_SECONDS = 30.0
"""After which a connection is not used again: a router may have forgotten it, and nobody would say so."""
ANSWER_BYTES = 65_536
"""Most bytes of an answer that are read, so that the connection can be used again."""
EXCERPT_BYTES = 100
"""Of an answer that refuses something, for the log."""
_TEMPORARY = {408, 425, 429}  # time-out, too early, too many requests
_OF_REQUEST = {401, 403, 407}  # about who asks, and not about the results


class _Outcome(NamedTuple):
    """What came of an attempt."""

    status: int
    """That of HTTP, or 0 where there was no answer."""
    reason: str = ""
    delay: float = 0.0
    """Seconds until the next attempt, as the server wants it."""
    is_distrusted: bool = False
    """Whether it was the server's certificate."""

    @property
    def is_delivered(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_of_request(self) -> bool:
        """Whether it would be the same for any results: where it goes, and who sends it."""
        return 300 <= self.status < 400 or self.status in _OF_REQUEST or self.is_distrusted

    @property
    def is_rejected(self) -> bool:
        """Whether these results will never be taken."""
        return 400 <= self.status < 500 and self.status not in _TEMPORARY and not self.is_of_request


class HttpSink(Sink):
    """Posts from a thread of its own, over one connection that is kept open."""

    ready = True
    ahead = 2 * BATCH_RESULTS

    def __init__(
        self, url: str, client_id: str, *, token_file: Path | None, ca_file: Path | None, timeout: float
    ) -> None:
        """Prepare it; the first result connects.

        Args:
            url: where to post to.
            client_id: by which the server may tell watches apart.
            token_file: see `bearer_token`.
            ca_file: see `tls_context`.
            timeout: seconds after which an answer is not waited for any longer.

        Raises:
            DataError: what is wrong with one of the settings, without a secret.
        """
        self._address, self._token_file, self._timeout = Address.parse(url), token_file, timeout
        bearer_token(token_file, self._address)
        self._tls = tls_context(ca_file) if self._address.is_tls else None
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": f"edgeae-runtime/{VERSION}",
            "Edgeae-Watch": client_id,
        }
        self._post: Post
        self._tickets = 0
        self._published: list[tuple[int, bytes]] = []
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._is_filled = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgeae-post", daemon=True)
        self._connection: HTTPConnection | None = None
        self._socket: socket.socket | None = None
        """Of the connection, which may give its own away to the answer."""
        self._last_used = 0.0
        self._since: float | None = None
        """When the request that runs was begun, by `time.monotonic`."""
        self._is_overdue = self._was_accepted = False

    def start(self, post: Post) -> None:
        """Start the thread."""
        self._post = post
        self._thread.start()

    def publish(self, result: bytes) -> int:
        """Take a result for the next batch."""
        self._tickets += 1
        self._published.append((self._tickets, result))
        return self._tickets

    def flush(self) -> None:
        """Let the thread have what was published, and end a request that takes too long."""
        if self._published:
            with self._is_filled:
                self._waiting.extend(self._published)
                self._is_filled.notify()
            self._published = []
        since = self._since
        if since is not None and time.monotonic() - since > self._timeout:
            self._is_overdue = True  # the socket's own limit is one for each of its steps
            self._interrupt()

    def stop(self) -> None:
        """End the thread, whatever it waits for."""
        self._stopped.set()
        with self._is_filled:
            self._is_filled.notify()
        self._interrupt()
        if self._thread.ident is not None:
            self._thread.join(1)

    def _interrupt(self) -> None:
        """Let the thread wait for the server no longer."""
        sock = self._socket
        if sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # below TLS, whose state is the thread's

    # --- the thread

    def _run(self) -> None:
        try:
            while batch := self._next():
                body = b"[" + b",\n".join(result for _, result in batch) + b"]"
                event = self._deliver(tuple(ticket for ticket, _ in batch), body)
                if event is not None:
                    self._post(event)
        except Exception as error:  # else a watch would go on whose results stay where they are
            self._post(Failed(EdgeaeError(f"{self._address}: {type(error).__name__}: {error}")))
        finally:
            self._close()

    def _next(self) -> list[tuple[int, bytes]]:
        """Wait for results, and return as many as make a batch; none at the end."""
        batch: list[tuple[int, bytes]] = []
        with self._is_filled:
            self._is_filled.wait_for(lambda: self._waiting or self._stopped.is_set())
            size = 0
            while self._waiting and len(batch) < BATCH_RESULTS and not self._stopped.is_set():
                size += len(self._waiting[0][1])
                if batch and size > BATCH_BYTES:
                    break
                batch.append(self._waiting.popleft())
        return batch

    def _deliver(self, tickets: tuple[int, ...], body: bytes) -> Event | None:
        """Post a batch until it is known what becomes of it; return that, or None at the end."""
        delay, longest = random.uniform(*FIRST_DELAY), random.uniform(*LONGEST_DELAY)
        while not self._stopped.is_set():
            outcome = self._attempt(body)
            if outcome.is_delivered or outcome.is_rejected:
                self.ready = self._was_accepted = True
                return Delivered(tickets) if outcome.is_delivered else Rejected(tickets, outcome.reason)
            if outcome.is_of_request and not self._was_accepted:  # wrong from the start; later it may pass
                more = ("; see ", Argument("token_file")) if outcome.status in _OF_REQUEST else ()
                return Failed(EdgeaeError(outcome.reason, *more))
            if not self._stopped.is_set():
                self.ready = False
                self._post(Retried(outcome.reason))
            self._stopped.wait(max(delay, outcome.delay))
            delay = min(2 * delay, longest)
        return None

    def _attempt(self, body: bytes) -> _Outcome:
        """Post once, or once more where the connection had been kept open and is closed meanwhile."""
        try:
            token = bearer_token(self._token_file, self._address)  # which may have been renewed
            headers = self._headers | ({} if token is None else {"Authorization": f"Bearer {token}"})
            if time.monotonic() - self._last_used > IDLE_SECONDS:
                self._close()
            if self._connection is not None:
                with suppress(ConnectionError, ssl.SSLEOFError):
                    return self._request(body, headers)
            return self._request(body, headers)
        except EdgeaeError as error:
            return _Outcome(0, str(error))
        except OSError as error:
            is_distrusted = isinstance(error, ssl.SSLCertVerificationError)
            return _Outcome(0, f"{self._address}: {reason(error)}", is_distrusted=is_distrusted)
        except HTTPException as error:
            return _Outcome(0, f"{self._address}: the answer cannot be read ({error!r})")

    def _request(self, body: bytes, headers: dict[str, str]) -> _Outcome:
        """Post over the connection, or a new one, and read the answer.

        Raises:
            OSError: there is no connection, or none any more.
            HTTPException: what came is no whole answer.
        """
        self._is_overdue, self._since = False, time.monotonic()
        is_kept = False
        try:
            connection = self._connection or self._connect()
            connection.request("POST", self._address.path, body, headers)
            answer = connection.getresponse()
            announced = answer.length
            content = answer.read(ANSWER_BYTES)
            is_interrupted = self._is_overdue or self._stopped.is_set()  # which looks like an end
            if is_interrupted or answer.msg.defects or len(content) < min(announced or 0, ANSWER_BYTES):
                raise IncompleteRead(content)
            is_kept = answer.isclosed() and not answer.will_close
        except (OSError, HTTPException):
            if self._is_overdue:
                raise TimeoutError(f"no answer within {self._timeout:g} s") from None
            raise
        finally:
            self._since, self._last_used = None, time.monotonic()
            if not is_kept:
                self._close()
        text = f"{self._address}: the answer is {answer.status} {answer.reason}"
        if 300 <= answer.status < 400:
            text += f" ({answer.getheader('Location')}), and redirections are not followed"
        elif answer.status >= 400 and content:
            text += f" ({content[:EXCERPT_BYTES].decode(errors='replace').strip()})"
        return _Outcome(answer.status, str(Line(text)), retry_after(answer.getheader("Retry-After")))

    def _connect(self) -> HTTPConnection:
        host, port = self._address.host, self._address.port
        if self._tls is None:
            self._connection = HTTPConnection(host, port, timeout=self._timeout)
        else:
            self._connection = HTTPSConnection(host, port, timeout=self._timeout, context=self._tls)
        self._connection.connect()
        self._socket = self._connection.sock
        return self._connection

    def _close(self) -> None:
        connection, self._connection, self._socket = self._connection, None, None
        if connection is not None:
            connection.close()
