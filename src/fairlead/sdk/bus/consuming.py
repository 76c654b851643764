# SPDX-License-Identifier: Apache-2.0
"""A receiver on a message bus: consumes until it is told to stop, in the calling thread.

One connection, on an event loop of its own: the network's side. Handlers run in worker threads (or, `async
def`, on the receiver's background loop), so that a slow one never keeps the broker waiting for a heartbeat.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fairlead.drivers.amqp.message import check_queue
from fairlead.drivers.amqp.session import Broker, Consumer, Incoming, Session
from fairlead.sdk.bus.answer import BusAnswer
from fairlead.sdk.bus.answering import BusAnswers
from fairlead.sdk.bus.bundle import Job
from fairlead.sdk.bus.deliveries import BusDeliveries, BusMessage
from fairlead.sdk.bus.lanes import BusLanes
from fairlead.sdk.bus.posting import AnswerPost
from fairlead.sdk.receiving.applying import Applier
from fairlead.sdk.receiving.stopping import Stop

if TYPE_CHECKING:
    from fairlead.sdk.receiving.receiver import Receiver

log = logging.getLogger("fairlead.receiver")


def broker_of(urls: str | Sequence[str], ca_file: str | None) -> Broker:
    """One broker, or the nodes of one cluster with the first one's login.

    Raises:
        ValueError: a URL is none; the message never holds the password.
    """
    brokers = [Broker.of(url, ca_file=ca_file) for url in ([urls] if isinstance(urls, str) else urls)]
    if not brokers:
        raise ValueError("amqp_url is empty: give amqps://user:password@host/vhost, or several")
    return replace(brokers[0], addresses=tuple(broker.addresses[0] for broker in brokers))


class ReceiverBus:
    """One call of `Receiver.consume`.

    Args:
        urls: of one broker, or of the nodes of one cluster.
        prefetch: messages that the broker hands over before the first of them is acknowledged.

    Raises:
        ValueError: a URL is none, no queue can have that name, or a secret cannot sign answers.
    """

    def __init__(
        self,
        receiver: Receiver,
        applier: Applier,
        urls: str | Sequence[str],
        queue: str,
        *,
        ca_file: str | None,
        prefetch: int,
    ) -> None:
        self._deliveries = BusDeliveries(
            applier, receiver.secrets, receiver.answer_secret, max_body_bytes=receiver.max_body_bytes
        )
        relay_url = receiver.relay_url
        self._post = None if relay_url is None else AnswerPost(relay_url, ca_file=ca_file)
        self._broker = broker_of(urls, ca_file)
        try:
            check_queue(queue)
        except ValueError as error:
            raise ValueError(f"queue {error}") from None
        self._queue, self._prefetch = queue, prefetch
        self._concurrency = receiver.concurrency
        self._ending = False
        self._said = ""
        self._session: Session
        self._lanes: BusLanes
        self._consumer: Consumer
        self._answers: BusAnswers

    def run(self, stop: Stop) -> None:
        """Consume until `stop`, connecting again and again; finish what has begun."""
        if not stop.asked:
            asyncio.run(self._consume(stop))

    async def _consume(self, stop: Stop) -> None:
        name = f"fairlead receiver of {self._queue}"
        self._session = session = Session(self._broker, name=name, changed=self._tell)
        self._said = session.detail
        self._lanes = BusLanes(self._deliveries, self._on_applied, concurrency=self._concurrency)
        self._answers = BusAnswers(session, self._post)
        self._consumer = session.consume(self._queue, self._prefetch, self._on_message, self._on_change)
        try:
            await stop.wait()
        finally:
            self._ending = True
            await self._lanes.close()
            await self._answers.close()
            self._consumer.close()
            await session.close()

    # -- what the broker hands over ------------------------------------------------------------------------

    def _on_message(self, incoming: Incoming) -> None:
        if self._ending:
            return  # it is not ours to begin: unsettled it goes to whoever comes next
        headers = {**incoming.headers, "webhook-id": incoming.message_id}
        message = BusMessage(headers, incoming.content_type, incoming.body, incoming.reply_to)
        delivery = self._deliveries.open(message)
        if delivery is None:
            self._consumer.ack(incoming)
        else:
            self._lanes.add(Job(delivery, incoming))

    def _on_applied(self, job: Job, answer: BusAnswer | None) -> None:
        self._consumer.ack(job.ticket)
        if answer is not None:
            self._answers.send(answer)

    def _on_change(self) -> None:
        if not self._consumer.up:
            self._lanes.forget()
            self._deliveries.reconnected()
        self._tell()

    def _tell(self) -> None:
        """Say in the log, once, what has changed."""
        consumer, session = self._consumer, self._session
        why = "" if consumer.up else consumer.detail if session.up else session.detail
        if why == self._said or self._ending:
            return
        self._said = why
        if why:
            log.warning("Not consuming %s: %s; it is tried again and again", self._queue, why)
        else:
            log.info("Consuming %s", self._queue)
