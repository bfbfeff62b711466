"""Tell systemd how we are (sd_notify(3)): a few words to the socket that it names, if it does."""

import os
import socket
import time
from contextlib import suppress


class Notifier:
    """Silent where no service manager listens."""

    def __init__(self) -> None:
        """Read ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``."""
        name = os.environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        is_ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = os.environ.get("WATCHDOG_USEC", "") if is_ours else ""
        # half of the time that is allowed, as sd_watchdog_enabled(3) advises
        self.interval = int(microseconds) / 2e6 if microseconds.isdigit() and int(microseconds) else None
        self._last = time.monotonic()

    def tell(self, what: str) -> None:
        """Send a state such as ``READY=1``."""
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(self._address)
            sender.sendall(what.encode())

    def alive(self) -> None:
        """Reset the watchdog, if there is one and it is time."""
        if self.interval is not None and time.monotonic() - self._last >= self.interval / 2:
            self._last = time.monotonic()
            self.tell("WATCHDOG=1")
