"""Notifications to systemd: ready, alive, stopping."""

import os
import socket
import time
from contextlib import suppress


class Notifier:
    """Notifies systemd of our state, by sd_notify(3); silent where nobody listens."""

    def __init__(self) -> None:
        """Read ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``."""
        name = os.environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        own = str(os.getpid())
        microseconds = os.environ.get("WATCHDOG_USEC", "0")
        # half of the time that is allowed, as sd_watchdog_enabled(3) advises
        self.interval = int(microseconds) / 2e6 if os.environ.get("WATCHDOG_PID", own) == own else 0
        self._last = time.monotonic()

    def notify(self, what: str) -> None:
        """Send a state such as ``READY=1``."""
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(what.encode(), self._address)

    def alive(self) -> None:
        """Reset the watchdog, if there is one and it is time."""
        if self.interval and time.monotonic() - self._last >= self.interval / 2:
            self._last = time.monotonic()
            self.notify("WATCHDOG=1")
