# SPDX-License-Identifier: Apache-2.0
"""The relay's end of a bus for the receiver's tests, with the plain client library: publish, read answers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pika

from fairlead import Receiver
from fairlead.core.answer import AnswerDocument, parse_answer
from fairlead.core.signature import verify
from fairlead.sdk.bus.deliveries import BusMessage
from fairlead.testing.receiver_kit import SignedRequest, bus_message
from tests.acceptance.waiting import until
from tests.contract.receiving import SECRET
from tests.servers.rabbitmq import RabbitNode

QUEUE, REPLIES = "fairlead.test.0", "fairlead.acks.n1"
QUORUM = {"x-queue-type": "quorum"}
logging.getLogger("pika").setLevel(logging.CRITICAL)


class RelayEnd:
    """Publishes to `QUEUE` and reads `REPLIES` of one virtual host; connects anew after a kill."""

    def __init__(self, node: RabbitNode, vhost: str) -> None:
        self.node, self.vhost = node, vhost
        self._connection: Any = None
        self.answers: list[AnswerDocument] = []
        self.declare()

    @property
    def url(self) -> str:
        """For `Receiver.consume`."""
        return self.node.url(self.vhost).replace("://", "://guest:guest@")

    @property
    def channel(self) -> Any:
        """A confirming channel."""
        if self._connection is None or not self._connection.is_open:
            parameters = pika.URLParameters(self.url + "?heartbeat=0")
            self._connection = pika.BlockingConnection(parameters)
            self._channel = self._connection.channel()
            self._channel.confirm_delivery()
        return self._channel

    def declare(self) -> None:
        arguments = {**QUORUM, "x-single-active-consumer": True}
        self.channel.queue_declare(QUEUE, durable=True, arguments=arguments)
        self.channel.queue_declare(REPLIES, durable=True, arguments=QUORUM)

    def publish(self, *requests: SignedRequest | BusMessage) -> None:
        """Publish deliveries, each confirmed."""
        for request in requests:
            message = request if isinstance(request, BusMessage) else bus_message(request, REPLIES)
            headers = dict(message.headers)
            id = headers.pop("webhook-id", None)
            properties = pika.BasicProperties(
                message.content_type,
                delivery_mode=2,
                headers=headers,
                message_id=id,
                reply_to=message.reply_to,
            )
            self.channel.basic_publish("", QUEUE, message.body, properties, mandatory=True)

    def read(self) -> list[AnswerDocument]:
        """Every answer so far, in the order of the reply queue; each is signed."""
        while True:
            method, properties, body = self.channel.basic_get(REPLIES, auto_ack=True)
            if method is None:
                return self.answers
            headers = {**properties.headers, "webhook-id": properties.message_id}
            assert verify([SECRET], headers, body, float(headers["webhook-timestamp"])) == SECRET
            assert properties.message_id.startswith("ack_")
            assert properties.delivery_mode == 2
            self.answers.append(parse_answer(body))

    def results(self, count: int) -> list[str]:
        """The results of the answers, once there are `count`."""
        until(lambda: len(self.read()) >= count, lambda: f"{count} answers come: {self.answers}")
        return [answer.result for answer in self.answers]

    def depth(self, queue: str = QUEUE) -> int:
        """Messages ready in a queue."""
        return int(self.channel.queue_declare(queue, passive=True).method.message_count)

    def close(self) -> None:
        if self._connection is not None and self._connection.is_open:
            self._connection.close()


@contextmanager
def relay_end(node: RabbitNode, vhost: str | None = None) -> Iterator[RelayEnd]:
    """A relay's end, in a virtual host of its own if none is named."""
    relay = RelayEnd(node, vhost or node.add_vhost())
    try:
        yield relay
    finally:
        relay.close()


@contextmanager
def consuming(receiver: Receiver, relay: RelayEnd, **options: Any) -> Iterator[threading.Thread]:
    """A receiver that consumes in a thread, as long as the block runs."""
    urls = options.pop("urls", relay.url)
    thread = threading.Thread(target=receiver.consume, args=(urls, QUEUE), kwargs=options)
    thread.start()
    try:
        yield thread
    finally:
        receiver.stop()
        thread.join(60)
        assert not thread.is_alive(), "consume did not end"
