"""The connection to an MQTT broker, by paho-mqtt (the extra ``mqtt``), in a thread of its own.

MQTT 5, QoS 1 both ways and a persistent session, so that the broker keeps what comes while we are away.
"""

import os
import random
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ._errors import DataError, EdgeaeError
from ._extras import import_extra

RECEIVE_MAXIMUM = 64
"""Readings that the broker may send without an acknowledgement."""
SESSION_SECONDS = 7 * 24 * 3600
"""So long the broker keeps readings for a watch that is away."""
KEEPALIVE_SECONDS = 30
FIRST_DELAY = (0.5, 1.5)
"""Seconds until the first attempt to reconnect, drawn at random so that a fleet does not come back at once;
then twice as long each time…"""
LONGEST_DELAY = (30.0, 60.0)
"""…up to this, drawn likewise."""
_TEMPORARY = {136, 137, 151, 159}  # server unavailable or busy, quota or connection rate exceeded


class Broker(NamedTuple):
    """Where to connect, and as whom."""

    host: str
    port: int
    tls: bool
    ca_file: Path | None = None
    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        """Never show a password, not even by accident."""
        return f"{self.host}:{self.port}"


class Events(NamedTuple):
    """What to call, from the network's thread, when something happens."""

    up: Callable[[bool], object]
    """Connected; whether the broker still had the session."""
    down: Callable[[str], object]
    """The connection was lost, or could not be made; why."""
    failed: Callable[[EdgeaeError], object]
    """It makes no sense to go on."""
    message: Callable[[bytes, int, bool, int], object]
    """Payload, message id, whether it may have been delivered before, number of the connection."""
    published: Callable[[int], object]
    """The broker has taken the message of this id."""


def parse_broker(url: str, ca_file: Path | None, credentials: Path | None) -> Broker:
    """Read ``mqtt://host[:port]`` or ``mqtts://``, and the credentials from a file or the environment.

    Args:
        url: without user and password.
        ca_file: certificates to trust instead of the system's, PEM.
        credentials: a file with one line ``user:password``; else ``EDGEAE_MQTT_USERNAME`` and
            ``EDGEAE_MQTT_PASSWORD``.

    Raises:
        DataError: what is wrong with one of them, without a secret.
    """
    parts = urlsplit(url)
    if "@" in url:
        raise DataError(
            "--mqtt: user and password do not belong on the command line, which everybody can see; use "
            "--credentials, or EDGEAE_MQTT_USERNAME and EDGEAE_MQTT_PASSWORD"
        )
    try:
        port = parts.port
    except ValueError:
        port = 0
    if (
        parts.scheme not in ("mqtt", "mqtts")
        or not parts.hostname
        or port == 0
        or parts.path not in ("", "/")
    ):
        raise DataError(f"--mqtt: expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT], found {url!r}")
    tls = parts.scheme == "mqtts"
    if ca_file is not None and not tls:
        raise DataError("--ca-file: is for a TLS connection; name the broker as mqtts://…")
    username = os.environ.get("EDGEAE_MQTT_USERNAME")
    password = os.environ.get("EDGEAE_MQTT_PASSWORD")
    if credentials is not None:
        try:
            text = credentials.read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{credentials}: cannot be read ({_reason(error)})") from None
        username, colon, password = text.partition(":")
        if not colon or "\n" in text:
            raise DataError(f"{credentials}: expected one line, user:password")
    if password is not None and username is None:
        raise DataError("EDGEAE_MQTT_PASSWORD is set without EDGEAE_MQTT_USERNAME; set both")
    return Broker(parts.hostname, port or (8883 if tls else 1883), tls, ca_file, username, password)


class Mqtt:
    """A connection that comes back by itself."""

    def __init__(
        self,
        broker: Broker,
        *,
        client_id: str,
        topic: str | None,
        status_topic: str | None,
        retained: dict[str, bytes],
        events: Events,
    ) -> None:
        """Prepare it; `start` connects.

        Args:
            broker: where.
            client_id: names the session.
            topic: to subscribe to.
            status_topic: says ``online`` or ``offline``, retained; the broker says the latter for us when
                we are gone.
            retained: what else to publish, retained, by topic, on every connection.
            events: see there.

        Raises:
            EdgeaeError: paho-mqtt is not installed.
            DataError: the certificates cannot be read.
        """
        client = import_extra("paho.mqtt.client")
        self._properties = import_extra("paho.mqtt.properties").Properties
        self._packets = import_extra("paho.mqtt.packettypes").PacketTypes
        self._subscribe_options = import_extra("paho.mqtt.subscribeoptions").SubscribeOptions
        self._broker, self._topic, self._status, self._events = broker, topic, status_topic, events
        self._retained = retained
        self.connections = 0
        self._was_up = self._is_down = False
        self._client: Any = client.Client(
            client.CallbackAPIVersion.VERSION2, client_id, protocol=client.MQTTv5, manual_ack=True
        )
        self._client.suppress_exceptions = False
        if broker.username is not None:
            self._client.username_pw_set(broker.username, broker.password)
        if broker.tls:
            try:
                context = ssl.create_default_context(cafile=broker.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise DataError(
                    f"{broker.ca_file}: no certificates can be read ({_reason(error)}); want a PEM file"
                ) from None
            self._client.tls_set_context(context)
        if status_topic is not None:
            self._client.will_set(status_topic, b"offline", qos=1, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_publish = lambda client, data, mid, reason, properties: events.published(mid)

    def start(self) -> None:
        """Connect in the background, now or when the broker is there."""
        properties = self._properties(self._packets.CONNECT)
        properties.SessionExpiryInterval = SESSION_SECONDS
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        self._draw_delays()
        self._client.connect_async(
            self._broker.host,
            self._broker.port,
            KEEPALIVE_SECONDS,
            clean_start=False,
            properties=properties,
        )
        self._client.loop_start()

    def publish(self, topic: str, payload: bytes) -> int:
        """Hand a message over; return its id, which `Events.published` tells when the broker has it.

        When the connection breaks before that, it is sent again on the next one, in order.
        """
        mid: int = self._client.publish(topic, payload, qos=1).mid
        return mid

    def acknowledge(self, mid: int, connection: int) -> None:
        """Tell the broker that it may forget a reading; one of an earlier connection it sends again."""
        if connection == self.connections:
            self._client.ack(mid, 1)

    def stop(self) -> None:
        """Say that we are going, and go."""
        if self._status is not None and self._client.is_connected():
            info = self._client.publish(self._status, b"offline", qos=1, retain=True)
            with suppress(RuntimeError, ValueError):  # the connection went meanwhile: the will says it for us
                info.wait_for_publish(2)
        self._client.disconnect()
        self._client.loop_stop()

    def _draw_delays(self) -> None:
        self._client.reconnect_delay_set(random.uniform(*FIRST_DELAY), random.uniform(*LONGEST_DELAY))

    def _on_connect(self, client: Any, data: object, flags: Any, reason: Any, properties: object) -> None:
        if reason.is_failure:
            self._refused(f"the broker refuses the connection: {reason}", reason.value not in _TEMPORARY)
            return
        self.connections += 1
        self._was_up, self._is_down = True, False
        if self._topic is not None:
            # retained messages are old readings, and would come again with each subscription
            options = self._subscribe_options(qos=1, retainHandling=2)
            client.subscribe(self._topic, options=options)
        for topic, payload in self._retained.items():
            client.publish(topic, payload, qos=1, retain=True)
        if self._status is not None:
            client.publish(self._status, b"online", qos=1, retain=True)
        self._events.up(flags.session_present)

    def _on_connect_fail(self, client: object, data: object) -> None:
        error = sys.exc_info()[1]  # paho calls this while it handles the error
        is_final = isinstance(error, ssl.SSLCertVerificationError)
        self._refused(_reason(error), is_final)

    def _refused(self, why: str, is_final: bool) -> None:
        """Give up on what was wrong from the start, such as a password; later it may pass."""
        if is_final and not self._was_up:
            self._events.failed(EdgeaeError(f"{self._broker}: {why}"))
        elif not self._is_down:
            self._is_down = True
            self._events.down(why)

    def _on_disconnect(self, client: object, data: object, flags: Any, reason: Any, props: object) -> None:
        self._draw_delays()
        if not self._is_down:
            self._is_down = True
            self._events.down(str(reason))

    def _on_subscribe(self, client: object, data: object, mid: int, reasons: Any, properties: object) -> None:
        if reasons[0].is_failure:
            self._events.failed(
                EdgeaeError(f"{self._broker}: the broker refuses to subscribe to {self._topic}: {reasons[0]}")
            )

    def _on_message(self, client: object, data: object, message: Any) -> None:
        if message.qos == 0:
            self._events.message(message.payload, 0, False, 0)
        else:
            self._events.message(message.payload, message.mid, message.dup, self.connections)


def check_topic(option: str, topic: str) -> None:
    """Refuse what is no single topic.

    Raises:
        DataError: it is empty, a pattern, or too long.
    """
    if not topic or {"+", "#", "\0"} & set(topic) or len(topic.encode()) > 65535:
        raise DataError(f"{option}: expected one topic, without + or #, found {topic!r}")


def _reason(error: BaseException | None) -> str:
    if isinstance(error, ssl.SSLError):
        return getattr(error, "verify_message", "") or error.reason or str(error)
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
