# SPDX-License-Identifier: Apache-2.0
"""Consuming one queue, across connections; acknowledgements go out together once a turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pika.exceptions

from fairlead.drivers.amqp.acks import Acks
from fairlead.drivers.amqp.asking import Asking
from fairlead.drivers.amqp.channel import Channel
from fairlead.drivers.amqp.connection import Wire
from fairlead.drivers.amqp.frames import Delivered, Properties, ack_frame
from fairlead.drivers.amqp.message import NOT_YET, Incoming
from fairlead.errors import BrokerFailed

LOOK_SECONDS = 10.0
"""After so long a silence the broker is asked whether it still knows who consumes."""

_AGAIN_SECONDS = (0.2, 5.0)
_TELLS_SINCE = (4,)
_NO_LIMIT = 0xFFFF


class Consumer:
    """One queue's messages, kept coming until `close`.

    Every message is handed to `take` in the order of the queue and stays the broker's until it is
    acknowledged: when the connection ends the broker delivers what was not acknowledged again, and an
    acknowledgement of the older delivery is ignored.

    Attributes:
        up: the broker serves it.
        detail: why not, one sentence; "" while it does.
    """

    def __init__(
        self, queue: str, prefetch: int, take: Callable[[Incoming], object], changed: Callable[[], None]
    ) -> None:
        self.queue = queue
        self.up = False
        self.detail = NOT_YET
        self._prefetch = prefetch
        self._take = take
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._channel: Channel | None = None
        self._attachment = 0
        self._heard = 0  # messages
        self._acks = Acks()

    # -- what the taker says -------------------------------------------------------------------------------

    def ack(self, incoming: Incoming) -> None:
        """The message is done with; ignored where the delivery is of a connection that has ended."""
        if incoming.attachment != self._attachment or self._channel is None:
            return
        if self._acks.ack(incoming.tag):
            self._loop.call_soon(self._flush)

    def nack(self, incoming: Incoming, *, requeue: bool) -> None:
        """The message is not taken: back into the queue, or away (to its dead-letter exchange, if any)."""
        if incoming.attachment != self._attachment or self._channel is None:
            return
        if self._acks.nack(incoming.tag):
            with suppress(pika.exceptions.AMQPError):
                self._channel.raw.basic_nack(incoming.tag, requeue=requeue)

    def close(self) -> None:
        """Take no more; what was acknowledged is told to the broker. Idempotent."""
        if self._closed:
            return
        self._flush()
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        self._forget()
        self._tell(False, "closed")

    def _flush(self) -> None:
        channel = self._channel
        if channel is not None and channel.is_open:  # else all comes again
            for tag, multiple in self._acks.due():
                channel.send(ack_frame(channel.number, tag, multiple))

    # -- its life ------------------------------------------------------------------------------------------

    def attach(self, wire: Wire) -> None:
        """Consume over this connection from now on, until it ends."""
        if not self._closed:
            self._task = self._loop.create_task(self._keep_consuming(wire))

    def detach(self, detail: str) -> None:
        """The connection has ended."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._forget()
        self._tell(False, detail)

    async def _keep_consuming(self, wire: Wire) -> None:
        pause_seconds, longest = _AGAIN_SECONDS
        while True:
            try:
                over = await self._begin(wire)
                self._tell(True, "")
                pause_seconds = _AGAIN_SECONDS[0]
                failure = await self._until_over(wire, over)
            except BrokerFailed as refused:
                failure = refused
            self._forget()
            self._tell(False, failure.detail)
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(longest, pause_seconds * 2)

    async def _begin(self, wire: Wire) -> asyncio.Future[BrokerFailed]:
        """Start consuming on a new channel; done is what is returned when that is over."""
        channel = self._channel = await wire.channel()
        attachment = self._attachment
        gone = BrokerFailed("missing", f"{wire.where} ended it: the queue {self.queue!r} is gone")
        raw = channel.raw
        raw.add_on_cancel_callback(lambda _: channel.end(gone))

        channel.take(partial(self._on_message, attachment))
        await channel.ask(lambda done: raw.basic_qos(prefetch_count=self._prefetch, callback=done))
        await channel.ask(lambda done: raw.basic_consume(self.queue, _elsewhere, callback=done))
        if wire.version < _TELLS_SINCE:
            # RabbitMQ before 4 does not tell that a quorum queue was deleted if it is back within moments: it
            # consumes from the new one by itself, and drops what it is handed there. A limit for the whole
            # channel, which quorum queues do not take, lets it fail in that; then it tells.
            await channel.ask(
                lambda done: raw.basic_qos(prefetch_count=_NO_LIMIT, global_qos=True, callback=done)
            )
        return channel.over

    async def _until_over(self, wire: Wire, over: asyncio.Future[BrokerFailed]) -> BrokerFailed:
        """Why the broker serves it no more: it says so, or it has forgotten its consumer.

        A broker whose queue was damaged, deleted and made anew may not tell: messages wait in the new one,
        nobody consumes from it, and nothing would ever come.
        """
        asking = Asking(wire)
        try:
            while True:
                heard = self._heard
                if (await asyncio.wait((over,), timeout=LOOK_SECONDS))[0]:
                    return over.result()
                with suppress(BrokerFailed):  # then it is not known, or told in another way
                    if heard == self._heard and await asking.is_unserved(self.queue):
                        forgot = f"{wire.where} has forgotten who consumes from the queue {self.queue!r}"
                        return BrokerFailed("missing", forgot)
        finally:
            asking.close()

    def _forget(self) -> None:
        """Leave the channel: what it delivered cannot be acknowledged any more."""
        if self._channel is not None:
            self._channel.close()
        self._channel = None
        self._attachment += 1
        self._acks = Acks()

    def _on_message(self, attachment: int, delivered: Delivered, properties: Properties, body: bytes) -> None:
        if attachment != self._attachment or self._closed:
            return
        self._heard += 1
        incoming = Incoming(
            body,
            properties.content_type,
            properties.message_id,
            properties.reply_to,
            properties.headers,
            delivered.exchange,
            delivered.routing_key,
            delivered.redelivered,
            delivered.tag,
            attachment,
            properties.fault,
        )
        try:
            self._take(incoming)
        except Exception as error:  # a defect of the taker's must not end the connection of others
            context = {"message": "the taker of a message failed", "exception": error}
            self._loop.call_exception_handler(context)

    def _tell(self, up: bool, detail: str) -> None:
        if (up, detail) != (self.up, self.detail):
            self.up, self.detail = up, detail
            self._changed()


def _elsewhere(*_: Any) -> None:
    """The library wants somebody for messages; `Channel.take` has one."""
