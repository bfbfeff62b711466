"""Results to an MQTT topic, a message each; beside it how the watch is, and what it can take."""

import math
import time
from typing import Any

import msgspec

from ..events import Delivered, Post
from ..links.mqtt import Connection
from .home_assistant import discovery
from .sink import Sink, Status

PUBLISHED_AHEAD = 20
"""Most messages not yet acknowledged, if the broker takes so many."""
UNKNOWN_EXPIRY_SECONDS = 86_400
"""Seconds for which Home Assistant shows a result while it is not known how often one comes."""
DOUBT_SECONDS = 5.0
"""When a connection ends so soon after the limits were published, they are taken for the reason."""


class MqttSink(Sink):
    """Publishes with QoS 1: results, and retained messages such as the status.

    ``ready`` once what was published before was sent again, and is not overtaken.
    """

    def __init__(
        self, connection: Connection, topic: str, *, home_assistant: str | None, limit: int | None
    ) -> None:
        """Prepare the messages that are retained.

        Args:
            connection: which may be a source's too.
            topic: for the results.
            home_assistant: what Home Assistant may call us; None does not let it find us.
            limit: largest message with a reading in bytes; None where the broker sends none.
        """
        self._connection, self._topic, self._name = connection, topic, home_assistant
        self._post: Post
        self._awaited: dict[int, str] = {}
        self._expiry = UNKNOWN_EXPIRY_SECONDS
        self._retained: dict[str, bytes] = {}
        self._unconfirmed: dict[int, tuple[str, bytes]] = {}
        self._status = f"{topic}/status"
        self._limits = None if limit is None else msgspec.json.encode({"max_message_bytes": limit})
        self._limits_published = -math.inf
        if home_assistant is not None:
            self._retained |= discovery(connection.client_id, home_assistant, topic, self._expiry)
        self._retained[self._status] = b"online"
        connection.client.will_set(self._status, b"offline", qos=1, retain=True)
        connection.client.on_publish = self._on_publish
        connection.on_up.append(self._on_up)
        connection.on_down.append(self._on_down)

    def start(self, post: Post) -> None:
        """Connect."""
        self._post = post
        self._connection.start(post)

    def publish(self, result: bytes) -> int:
        """Hand a result over.

        When the connection breaks before the broker has it, it is sent again on the next one, in order.
        """
        mid: int = self._connection.client.publish(self._topic, result, qos=1).mid
        return mid

    def inform(self, status: Status, expiry: int | None) -> None:
        """Publish the status, and for Home Assistant how many seconds a result counts, once it is known."""
        now = {self._status: status.encode()}
        if self._name is not None and expiry and not expiry / 2 <= self._expiry <= 2 * expiry:
            self._expiry = expiry
            now |= discovery(self._connection.client_id, self._name, self._topic, expiry)
        for topic, payload in now.items():
            if self._retained[topic] != payload:
                self._retained[topic] = payload
                if self.ready:  # else it goes out with the next connection
                    self._retain(topic)

    def stop(self) -> None:
        """Disconnect."""
        self._connection.stop()

    def _retain(self, topic: str) -> int:
        payload = self._retained[topic]
        mid: int = self._connection.client.publish(topic, payload, qos=1, retain=True).mid
        self._unconfirmed[mid] = topic, payload
        return mid

    def _on_up(self, properties: Any) -> None:
        limit = min(PUBLISHED_AHEAD, getattr(properties, "ReceiveMaximum", PUBLISHED_AHEAD))
        self.ahead = max(1, limit - len(self._retained))
        for topic in self._retained:
            if topic not in self._awaited.values():  # else paho sends it again
                self._awaited[self._retain(topic)] = topic

    def _on_down(self) -> None:
        self.ready = False
        if time.monotonic() - self._limits_published < DOUBT_SECONDS:
            self._limits = None

    def _publish_limits(self) -> None:
        """Publish what the watch can take, without asking for a receipt.

        A broker that does not allow us this topic drops it, or ends the connection; then once was enough.
        """
        if self._limits is not None:
            self._connection.client.publish(f"{self._topic}/limits", self._limits, qos=0, retain=True)
            self._limits_published = time.monotonic()

    def _on_publish(self, client: object, data: object, mid: int, code: Any, properties: object) -> None:
        if code.is_failure:
            self._connection.fail(f"the broker refuses a message: {code}")
            return
        if self._awaited.pop(mid, None) and not self._awaited:
            self.ready = True
            self._publish_limits()
        topic, payload = self._unconfirmed.pop(mid, ("", b""))
        if topic and self._retained[topic] != payload:  # an old one that came again after the new one
            self._retain(topic)
        self._post(Delivered((mid,)))
