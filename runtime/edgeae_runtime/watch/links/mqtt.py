"""The connection to an MQTT broker, by paho-mqtt (the extra ``mqtt``), in a thread of its own.

MQTT 5, QoS 1 both ways and a persistent session, so that the broker keeps what comes while we are away.
"""

import os
import random
import re
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import Argument, DataError, EdgeaeError
from ...extras import import_extra
from ..events import Connected, Disconnected, Failed, Post
from .secure import read_secret, reason, tls_context

RECEIVE_MAXIMUM = 64
"""Most readings that the broker may send without an acknowledgement."""
SESSION_SECONDS = 7 * 24 * 3600
"""Seconds for which the broker keeps readings for a watch that is away."""
KEEPALIVE_SECONDS = 30
FIRST_DELAY = (0.5, 1.5)
"""Seconds until the first attempt to reconnect, drawn at random so that a fleet does not come back at once;
the delay doubles with each attempt, up to `LONGEST_DELAY`."""
LONGEST_DELAY = (30.0, 60.0)
"""Longest seconds between two attempts to reconnect, drawn likewise."""
_TEMPORARY = {136, 137, 151, 159}  # server unavailable or busy, quota or connection rate exceeded


class Connection:
    """A connection that comes back by itself; a source and a sink may share it.

    They set those callbacks of ``client`` that are theirs, and add to the two lists what else is to be called
    in its thread.
    """

    def __init__(
        self, url: str, client_id: str, *, limit: int, ca_file: Path | None, credentials: Path | None
    ) -> None:
        """Prepare it; `start` connects.

        Args:
            url: of the broker.
            client_id: names the session.
            limit: largest message that the broker may send, in bytes.
            ca_file: see `tls_context`.
            credentials: a file with a line ``user:password``; None looks at the environment.

        Raises:
            EdgeaeError: paho-mqtt is not installed.
            DataError: what is wrong with one of the settings, without a secret.
        """
        host, port, is_tls = _parse(url)
        client = import_extra("paho.mqtt.client")
        self.client_id, self.limit = client_id, limit
        self.connections = 0
        """Number of the connection, from 1 on."""
        self.on_up: list[Callable[[Any], None]] = []
        """What to call on each connection, with the properties of the broker's answer."""
        self.on_down: list[Callable[[], None]] = []
        """What to call when a connection is lost."""
        self.client: Any = client.Client(
            client.CallbackAPIVersion.VERSION2, client_id, protocol=client.MQTTv5, manual_ack=True
        )
        self.client.suppress_exceptions = False
        self.client.username_pw_set(*_user(credentials))
        if is_tls:
            self.client.tls_set_context(tls_context(ca_file))
        self.client.on_connect = self._on_connect
        self.client.on_connect_fail = self._on_connect_fail
        self.client.on_disconnect = self._on_disconnect
        self._address = host, port
        self._post: Post
        self._other_hook: Any = None
        self._is_running = False

    def start(self, post: Post) -> None:
        """Connect in the background, now or when the broker is there; once, however many ask."""
        if self._is_running:
            return
        self._is_running, self._post = True, post
        # paho's thread may end with an error that is not ours to catch, and leave a watch of nothing
        self._other_hook, threading.excepthook = threading.excepthook, self._on_thread_error
        packets = import_extra("paho.mqtt.packettypes").PacketTypes
        properties = import_extra("paho.mqtt.properties").Properties(packets.CONNECT)
        properties.SessionExpiryInterval = SESSION_SECONDS
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = self.limit
        self.client.reconnect_delay_set(random.uniform(*FIRST_DELAY), random.uniform(*LONGEST_DELAY))
        self.client.connect_async(*self._address, KEEPALIVE_SECONDS, clean_start=False, properties=properties)
        self.client.loop_start()

    def stop(self) -> None:
        """Disconnect, once; the will is published, without a place in the queue."""
        if not self._is_running:
            return
        self._is_running = False
        code = import_extra("paho.mqtt.reasoncodes").ReasonCode
        self.client.disconnect(code(14, identifier=4))  # DISCONNECT with will message
        self.client.loop_stop()
        if threading.excepthook == self._on_thread_error:
            threading.excepthook = self._other_hook

    def fail(self, why: str) -> None:
        """End the watch with what will not pass by itself."""
        self._post(Failed(EdgeaeError(f"{self._address[0]}:{self._address[1]}: {why}")))

    def _on_connect(self, client: Any, data: object, flags: Any, code: Any, properties: Any) -> None:
        if code.is_failure:
            self._refused(f"the broker refuses the connection: {code}", code.value not in _TEMPORARY)
            return
        self.connections += 1
        for call in self.on_up:
            call(properties)
        is_read = client.on_message is not None
        self._post(Connected(bool(flags.session_present), self.limit if is_read else None))

    def _on_connect_fail(self, client: object, data: object) -> None:
        error = sys.exc_info()[1]  # paho calls this while it handles the error
        self._refused(reason(error), isinstance(error, ssl.SSLCertVerificationError))

    def _refused(self, why: str, is_final: bool) -> None:
        """Give up on what was wrong from the start, such as a password; later it may pass."""
        if is_final and not self.connections:
            self.fail(why)
        else:
            self._post(Disconnected(why))

    def _on_disconnect(self, client: object, data: object, flags: Any, code: Any, props: object) -> None:
        for call in self.on_down:
            call()
        self._post(Disconnected(str(code)))

    def _on_thread_error(self, hook: Any) -> None:
        if hook.thread is not None and self.client_id in hook.thread.name:
            self._post(Failed(EdgeaeError(repr(hook.exc_value))))
        else:
            self._other_hook(hook)


def _parse(url: str) -> tuple[str, int, bool]:
    """Return host, port and whether it is TLS."""
    if "@" in url:
        raise DataError(
            Argument("mqtt"),
            ": user and password do not belong in the address, which everybody can see; use ",
            Argument("credentials"),
            ", or EDGEAE_MQTT_USERNAME and EDGEAE_MQTT_PASSWORD",
        )
    found = re.fullmatch(
        r"mqtt(s?)://([\w-]{1,63}(?:\.[\w-]{1,63})*\.?|\[[0-9a-fA-F:.]+\])(?::(\d{1,5}))?/?", url
    )
    if found is None or not 0 < int(found[3] or 1) < 65536:
        raise DataError(
            Argument("mqtt"), f": expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT], found {url!r}"
        )
    return found[2].strip("[]"), int(found[3] or (8883 if found[1] else 1883)), bool(found[1])


def _user(credentials: Path | None) -> tuple[str | None, str | None]:
    """Return user and password."""
    if credentials is None:
        user, password = (os.environ.get(f"EDGEAE_MQTT_{name}") for name in ("USERNAME", "PASSWORD"))
        if password is not None and user is None:
            raise DataError("EDGEAE_MQTT_PASSWORD is set without EDGEAE_MQTT_USERNAME; set both")
        return user, password
    user, colon, password = read_secret(credentials).partition(":")
    if not colon or "\n" in password:
        raise DataError(f"{credentials}: expected one line, user:password")
    return user, password
