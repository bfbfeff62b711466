"""The connection to an MQTT broker, by paho-mqtt (the extra ``mqtt``), in a thread of its own.

MQTT 5, QoS 1 both ways and a persistent session, so that the broker keeps what comes while we are away.
"""

import os
import random
import re
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import DataError, EdgeaeError
from ..extras import import_extra
from .sinks.home_assistant import discovery

RECEIVE_MAXIMUM = 64
"""Most readings that the broker may send without an acknowledgement."""
SESSION_SECONDS = 7 * 24 * 3600
"""Seconds for which the broker keeps readings for a watch that is away."""
PUBLISHED_AHEAD = 20
"""Most messages not yet acknowledged, if the broker takes so many."""
KEEPALIVE_SECONDS = 30
UNKNOWN_EXPIRY_SECONDS = 86_400
"""Seconds for which Home Assistant shows a result while it is not known how often one comes."""
FIRST_DELAY = (0.5, 1.5)
"""Seconds until the first attempt to reconnect, drawn at random so that a fleet does not come back at once;
the delay doubles with each attempt, up to `LONGEST_DELAY`."""
LONGEST_DELAY = (30.0, 60.0)
"""Longest seconds between two attempts to reconnect, drawn likewise."""
_TEMPORARY = {136, 137, 151, 159}  # server unavailable or busy, quota or connection rate exceeded


class Mqtt:
    """A connection that comes back by itself; it posts events to `Watch.post` from its own thread."""

    def __init__(
        self, options: dict[str, Any], client_id: str, name: str, post: Callable[..., object]
    ) -> None:
        """Prepare it; `start` connects.

        Args:
            options: those of `edgeae watch`.
            client_id: names the session.
            name: what Home Assistant may call us.
            post: see `Watch.post`.

        Raises:
            EdgeaeError: paho-mqtt is not installed.
            DataError: what is wrong with one of the options, without a secret.
        """
        host, port, is_tls = _parse(options["mqtt"])
        ca_file, publish = options["ca_file"], options["publish"]
        if ca_file is not None and not is_tls:
            raise DataError("--ca-file: is for a TLS connection; name the broker as mqtts://…")
        client = import_extra("paho.mqtt.client")
        self._address, self._topic, self._publish, self._post = (host, port), options["topic"], publish, post
        self.connections = 0
        self.ready = False
        """Whether what was published before was sent again, and is not overtaken."""
        self.ahead = 0
        """Results that may be on their way."""
        self._awaited: dict[int, str] = {}
        self._client: Any = client.Client(
            client.CallbackAPIVersion.VERSION2, client_id, protocol=client.MQTTv5, manual_ack=True
        )
        self._client.suppress_exceptions = False
        self._client.username_pw_set(*_user(options["credentials"]))
        if is_tls:
            try:
                context = ssl.create_default_context(cafile=ca_file)
            except OSError as error:
                raise DataError(
                    f"{ca_file}: no certificates can be read ({_reason(error)}); want a PEM file"
                ) from None
            self._client.tls_set_context(context)
        self._limit: int = options["max_reading"]
        self._identity = (client_id, name) if options["home_assistant"] else None
        self._expiry = UNKNOWN_EXPIRY_SECONDS
        self._retained: dict[str, bytes] = {}
        self._unconfirmed: dict[int, tuple[str, bytes]] = {}
        if publish is not None:
            self._client.will_set(f"{publish}/status", b"offline", qos=1, retain=True)
            if self._identity is not None:
                self._retained |= discovery(*self._identity, publish, self._expiry)
            self._retained[f"{publish}/status"] = b"online"
        for event in ("connect", "connect_fail", "disconnect", "subscribe", "message", "publish"):
            setattr(self._client, f"on_{event}", getattr(self, f"_on_{event}"))

    def start(self) -> None:
        """Connect in the background, now or when the broker is there."""
        packets = import_extra("paho.mqtt.packettypes").PacketTypes
        properties = import_extra("paho.mqtt.properties").Properties(packets.CONNECT)
        properties.SessionExpiryInterval = SESSION_SECONDS
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = self._limit
        self._client.reconnect_delay_set(random.uniform(*FIRST_DELAY), random.uniform(*LONGEST_DELAY))
        self._client.connect_async(
            *self._address, KEEPALIVE_SECONDS, clean_start=False, properties=properties
        )
        self._client.loop_start()

    def publish(self, payload: bytes) -> int:
        """Hand a result over; return its id, which `post` gets when the broker has it.

        When the connection breaks before that, it is sent again on the next one, in order.
        """
        mid: int = self._client.publish(self._publish, payload, qos=1).mid
        return mid

    def say(self, status: str, expiry: int | None) -> None:
        """Let all know how we are, and Home Assistant how many seconds a result counts, once it is known."""
        now = {f"{self._publish}/status": status.encode()}
        if self._identity is not None and expiry and not expiry / 2 <= self._expiry <= 2 * expiry:
            self._expiry = expiry
            now |= discovery(*self._identity, self._publish, expiry)
        for topic, payload in now.items():
            if self._retained[topic] != payload:
                self._retained[topic] = payload
                if self.ready:  # else it goes out with the next connection
                    self._retain(topic)

    def _retain(self, topic: str) -> int:
        payload = self._retained[topic]
        mid: int = self._client.publish(topic, payload, qos=1, retain=True).mid
        self._unconfirmed[mid] = topic, payload
        return mid

    def acknowledge(self, mid: int, connection: int) -> None:
        """Let the broker forget a reading; one of an earlier connection it sends again."""
        if connection == self.connections:
            self._client.ack(mid, 1)

    def stop(self) -> None:
        """Disconnect; the will is published, without a place in the queue."""
        code = import_extra("paho.mqtt.reasoncodes").ReasonCode
        self._client.disconnect(code(14, identifier=4))  # DISCONNECT with will message
        self._client.loop_stop()

    def _on_connect(self, client: Any, data: object, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._refused(f"the broker refuses the connection: {reason}", reason.value not in _TEMPORARY)
            return
        self.connections += 1
        if self._topic is not None:
            # retained messages are old readings, and would come again with each subscription
            options = import_extra("paho.mqtt.subscribeoptions").SubscribeOptions(qos=1, retainHandling=2)
            client.subscribe(self._topic, options=options)
        limit = min(PUBLISHED_AHEAD, getattr(properties, "ReceiveMaximum", PUBLISHED_AHEAD))
        self.ahead = max(1, limit - len(self._retained))
        for topic in self._retained:
            if topic not in self._awaited.values():  # else paho sends it again
                self._awaited[self._retain(topic)] = topic
        self._post("up", flags.session_present)

    def _on_connect_fail(self, client: object, data: object) -> None:
        error = sys.exc_info()[1]  # paho calls this while it handles the error
        self._refused(_reason(error), isinstance(error, ssl.SSLCertVerificationError))

    def _refused(self, why: str, is_final: bool) -> None:
        """Give up on what was wrong from the start, such as a password; later it may pass."""
        if is_final and not self.connections:
            self._fail(why)
        else:
            self._post("down", why)

    def _on_disconnect(self, client: object, data: object, flags: Any, reason: Any, props: object) -> None:
        self.ready = False
        self._post("down", str(reason))

    def _on_subscribe(self, client: object, data: object, mid: int, reasons: Any, properties: object) -> None:
        if reasons[0].is_failure:
            self._fail(f"the broker refuses to subscribe to {self._topic}: {reasons[0]}")

    def _fail(self, why: str) -> None:
        self._post("fail", EdgeaeError(f"{self._address[0]}:{self._address[1]}: {why}"))

    def _on_publish(self, client: object, data: object, mid: int, reason: Any, properties: object) -> None:
        if reason.is_failure:
            self._fail(f"the broker refuses a message: {reason}")
            return
        if self._awaited.pop(mid, None):
            self.ready = not self._awaited
        topic, payload = self._unconfirmed.pop(mid, ("", b""))
        if topic and self._retained[topic] != payload:  # an old one that came again after the new one
            self._retain(topic)
        self._post("published", mid)

    def _on_message(self, client: object, data: object, message: Any) -> None:
        mid = message.mid if message.qos else 0
        self._post("message", message.payload, mid, message.dup, self.connections)


def _parse(url: str) -> tuple[str, int, bool]:
    """Return host, port and whether it is TLS."""
    if "@" in url:
        raise DataError(
            "--mqtt: user and password do not belong on the command line, which everybody can see; use "
            "--credentials, or EDGEAE_MQTT_USERNAME and EDGEAE_MQTT_PASSWORD"
        )
    found = re.fullmatch(
        r"mqtt(s?)://([\w-]{1,63}(?:\.[\w-]{1,63})*\.?|\[[0-9a-fA-F:.]+\])(?::(\d{1,5}))?/?", url
    )
    if found is None or not 0 < int(found[3] or 1) < 65536:
        raise DataError(f"--mqtt: expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT], found {url!r}")
    return found[2].strip("[]"), int(found[3] or (8883 if found[1] else 1883)), bool(found[1])


def _user(credentials: Path | None) -> tuple[str | None, str | None]:
    """Return user and password."""
    if credentials is None:
        user, password = (os.environ.get(f"EDGEAE_MQTT_{name}") for name in ("USERNAME", "PASSWORD"))
        if password is not None and user is None:
            raise DataError("EDGEAE_MQTT_PASSWORD is set without EDGEAE_MQTT_USERNAME; set both")
        return user, password
    try:
        user, colon, password = credentials.read_text(encoding="utf-8").strip("\r\n").partition(":")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{credentials}: cannot be read ({_reason(error)})") from None
    if not colon or "\n" in password:
        raise DataError(f"{credentials}: expected one line, user:password")
    return user, password


def _reason(error: BaseException | None) -> str:
    if isinstance(error, ssl.SSLError):
        return getattr(error, "verify_message", "") or error.reason or str(error)
    return getattr(error, "strerror", "") or str(error)
