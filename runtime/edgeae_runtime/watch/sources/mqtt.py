"""Readings from an MQTT topic, a message each."""

import threading
from typing import Any

from ...extras import import_extra
from ..events import Message, Position, Post, Receipt
from ..links.mqtt import Connection
from .source import Source


class MqttSource(Source):
    """Subscribes with QoS 1, and acknowledges what is on the disk."""

    keeps = True

    def __init__(self, connection: Connection, topic: str) -> None:
        """Take a connection, which may be a sink's too, and the topic."""
        self._connection, self._topic = connection, topic
        self._post: Post
        self._stopped = threading.Event()
        connection.on_up.append(self._subscribe)
        connection.client.on_subscribe = self._on_subscribe
        connection.client.on_message = self._on_message

    def run(self, post: Post, since: Position | None) -> None:
        """Connect, and wait for the end."""
        self._post = post
        self._connection.start(post)
        self._stopped.wait()

    def stop(self) -> None:
        """Disconnect."""
        self._stopped.set()
        self._connection.stop()

    def acknowledge(self, receipt: Receipt) -> None:
        """Let the broker forget a reading; one of an earlier connection it sends again."""
        if receipt.connection == self._connection.connections:
            self._connection.client.ack(receipt.id, 1)

    def _subscribe(self, properties: Any) -> None:
        # retained messages are old readings, and would come again with each subscription
        options = import_extra("paho.mqtt.subscribeoptions").SubscribeOptions(qos=1, retainHandling=2)
        self._connection.client.subscribe(self._topic, options=options)

    def _on_subscribe(self, client: object, data: object, mid: int, codes: Any, properties: object) -> None:
        if codes[0].is_failure:
            self._connection.fail(f"the broker refuses to subscribe to {self._topic}: {codes[0]}")

    def _on_message(self, client: object, data: object, message: Any) -> None:
        receipt = Receipt(message.mid, self._connection.connections) if message.qos else None
        self._post(Message(message.payload, receipt, message.dup))
