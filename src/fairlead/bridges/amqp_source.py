# SPDX-License-Identifier: Apache-2.0
"""Queues of AMQP 0-9-1 brokers as sources: `fairlead.ports.Source` over `fairlead.drivers.amqp.session`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from fairlead.core.source_message import SourceMessage, header_value
from fairlead.drivers.amqp.session import NOT_YET, Broker, Consumer, Incoming, Session, Topology
from fairlead.errors import BrokerFailed
from fairlead.ports import Received, SourceHealth

DECLARE_AGAIN_SECONDS = (0.5, 10.0)

KeepBytes = Callable[[str | None], int]


class BrokerConnection:
    """The one connection of all sources at a broker: made for the first of them, closed with the last."""

    def __init__(self, broker: Broker, *, name: str) -> None:
        self._broker = broker
        self._name = name
        self._session: Session | None = None
        self._listeners: list[Callable[[], None]] = []

    def join(self, changed: Callable[[], None]) -> Session:
        """The session; `changed` is called whenever its state changes, until `leave`."""
        self._listeners.append(changed)
        if self._session is None:
            self._session = Session(self._broker, name=self._name, changed=self._changed)
        return self._session

    async def leave(self, changed: Callable[[], None]) -> None:
        """One source less; the last one closes the session."""
        self._listeners.remove(changed)
        if not self._listeners and self._session is not None:
            session, self._session = self._session, None
            await session.close()

    def _changed(self) -> None:
        for changed in tuple(self._listeners):
            changed()


class AmqpSource:
    """One queue.

    Args:
        connection: shared with the other sources of the broker.
        prefetch: the most messages that are here and not acknowledged.
        declare: make the queue where it is missing; otherwise it is waited for.
        keep_bytes: by a message's content type the longest body that is kept whole; of a longer one only so
            much is kept, which bounds memory.
    """

    def __init__(
        self, connection: BrokerConnection, queue: str, *, prefetch: int, declare: bool, keep_bytes: KeepBytes
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._prefetch = prefetch
        self._declare = declare
        self._keep_bytes = keep_bytes
        self._session: Session | None = None
        self._consumer: Consumer | None = None
        self._round = 0
        self._take: Callable[[Received], None] = _nowhere
        self._changed: Callable[[], None] = _nobody
        self._refusal = ""
        self._looked = asyncio.Event()
        self._declaring: asyncio.Task[None] | None = None

    @property
    def health(self) -> SourceHealth:
        session, consumer = self._session, self._consumer
        if session is None:
            return SourceHealth(False, "it is not open")
        if consumer is not None and consumer.up:
            return SourceHealth(True)
        if not session.up and session.detail:
            return SourceHealth(False, session.detail, begins=session.detail == NOT_YET)
        if consumer is None:
            why = self._refusal or "the queue is being put in place"
            return SourceHealth(False, why, begins=not self._refusal)
        return SourceHealth(False, consumer.detail, begins=consumer.detail == NOT_YET)

    def open(self, take: Callable[[Received], None], changed: Callable[[], None]) -> None:
        """See `fairlead.ports.Source`."""
        self._take, self._changed = take, changed
        self._session = self._connection.join(self._note)
        if self._declare:
            self._declaring = asyncio.get_running_loop().create_task(self._keep_declared(self._session))
        else:
            self._consume(self._session)

    def acknowledge(self, received: Received) -> None:
        """See `fairlead.ports.Source`."""
        ticket = received.ticket
        if isinstance(ticket, _Ticket):
            ticket.consumer.ack(ticket.incoming)

    async def close(self) -> None:
        """See `fairlead.ports.Source`."""
        session, self._session = self._session, None
        if session is None:
            return
        self._changed = _nobody
        if self._declaring is not None:
            self._declaring.cancel()
            await asyncio.gather(self._declaring, return_exceptions=True)
        if self._consumer is not None:
            self._consumer.close()
        await self._connection.leave(self._note)

    def _consume(self, session: Session) -> None:
        self._round += 1
        taker = partial(self._received, self._round)
        self._consumer = session.consume(self._queue, self._prefetch, taker, self._note)

    def _received(self, round: int, incoming: Incoming) -> None:
        consumer = self._consumer
        if round != self._round or consumer is None:
            return
        body = incoming.body
        size = len(body)
        keep = self._keep_bytes(incoming.content_type)
        if size > keep:
            body = body[:keep]
        message = SourceMessage(
            body,
            size,
            incoming.content_type,
            incoming.message_id,
            incoming.routing_key,
            *_headers(incoming),
        )
        bare = Incoming(b"", tag=incoming.tag, attachment=incoming.attachment)  # not the body once more
        attachment = round << 32 | incoming.attachment
        self._take(Received(message, attachment, _Ticket(consumer, bare), incoming.redelivered))

    def _note(self) -> None:
        self._looked.set()
        self._changed()

    # -- a queue that may be missing -----------------------------------------------------------------------

    async def _keep_declared(self, session: Session) -> None:
        """Put the queue in place whenever the broker is there and does not serve it, and then consume.

        Not at the same time: RabbitMQ 3.10 ends the connection of who consumes a quorum queue in the moment
        in which it is made.
        """
        pause_seconds, longest = DECLARE_AGAIN_SECONDS
        while True:
            self._looked.clear()
            if not session.up or (self._consumer is not None and self._consumer.up):
                pause_seconds = DECLARE_AGAIN_SECONDS[0]
                await self._looked.wait()
                continue
            if self._consumer is not None:
                self._consumer.close()
                self._consumer = None
            in_place = await self._put_in_place(session)
            self._looked.clear()  # of what was noted on the way, its own doing too
            if in_place:
                self._consume(session)
            self._changed()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_seconds):
                    await self._looked.wait()
            pause_seconds = min(longest, pause_seconds * 2)

    async def _put_in_place(self, session: Session) -> bool:
        """Whether the queue is there now; one that is there with other arguments is read as it is."""
        try:
            await session.declare(Topology(self._queue))
        except BrokerFailed as failure:
            if failure.kind != "mismatch":
                self._refusal = failure.detail
                return False
        self._refusal = ""
        return True


def _headers(incoming: Incoming) -> tuple[dict[str, Any], str]:
    """As JSON has them, and why they are empty if they cannot be read."""
    try:
        return {str(name): header_value(value) for name, value in incoming.headers.items()}, incoming.fault
    except RecursionError:
        return {}, "they are nested too deeply"


class _Ticket(NamedTuple):
    """By what a message is acknowledged: the consumer it came to, and which one it was."""

    consumer: Consumer
    incoming: Incoming


def _nowhere(received: Received) -> None:
    """Before it is open."""


def _nobody() -> None:
    """Nobody wants to know."""
