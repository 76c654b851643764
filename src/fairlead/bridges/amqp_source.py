# SPDX-License-Identifier: Apache-2.0
"""Queues of AMQP 0-9-1 brokers as sources: `fairlead.ports.Source` over `fairlead.drivers.amqp`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from fairlead.core.source_message import SourceMessage, header_value
from fairlead.drivers.amqp import Broker, Consumer, Incoming, Session, Topology
from fairlead.errors import BrokerFailed
from fairlead.ports import Received, SourceHealth

DECLARE_AGAIN_SECONDS = (0.5, 10.0)

_log = logging.getLogger(__name__)


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
        keep_bytes: the longest body that is kept whole; of a longer one only so much, which bounds memory.
    """

    def __init__(
        self, connection: BrokerConnection, queue: str, *, prefetch: int, declare: bool, keep_bytes: int
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._prefetch = prefetch
        self._declare = declare
        self._keep_bytes = keep_bytes
        self._session: Session | None = None
        self._consumer: Consumer | None = None
        self._take: Callable[[Received], None] = _nowhere
        self._changed: Callable[[], None] = _nobody
        self._refusal = ""
        self._looked = asyncio.Event()
        self._declaring: asyncio.Task[None] | None = None

    @property
    def health(self) -> SourceHealth:
        session, consumer = self._session, self._consumer
        if session is None or consumer is None:
            return SourceHealth(False, "it is not open")
        if consumer.up:
            return SourceHealth(True)
        if not session.up and session.detail:
            return SourceHealth(False, session.detail)
        return SourceHealth(False, self._refusal or consumer.detail)

    def open(self, take: Callable[[Received], None], changed: Callable[[], None]) -> None:
        """See `fairlead.ports.Source`."""
        self._take, self._changed = take, changed
        self._session = self._connection.join(self._note)
        self._consumer = self._session.consume(self._queue, self._prefetch, self._received, self._note)
        if self._declare:
            self._declaring = asyncio.get_running_loop().create_task(self._keep_declared(self._session))

    def acknowledge(self, received: Received) -> None:
        """See `fairlead.ports.Source`."""
        if self._consumer is not None and isinstance(received.ticket, Incoming):
            self._consumer.ack(received.ticket)

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

    def _received(self, incoming: Incoming) -> None:
        body = incoming.body
        size = len(body)
        if size > self._keep_bytes:
            body = body[: self._keep_bytes]
        message = SourceMessage(
            body,
            size,
            incoming.content_type,
            incoming.message_id,
            incoming.routing_key,
            {str(name): header_value(value) for name, value in incoming.headers.items()},
            incoming.fault,
        )
        ticket = Incoming(b"", tag=incoming.tag, attachment=incoming.attachment)  # not the body once more
        self._take(Received(message, incoming.attachment, ticket))

    def _note(self) -> None:
        self._looked.set()
        self._changed()

    # -- a queue that is missing -------------------------------------------------------------------------

    async def _keep_declared(self, session: Session) -> None:
        """Make the queue whenever the broker is there and does not serve it; the consumer tries by itself."""
        pause_seconds, longest = DECLARE_AGAIN_SECONDS
        while True:
            self._looked.clear()
            if not session.up or (self._consumer is not None and self._consumer.up):
                pause_seconds = DECLARE_AGAIN_SECONDS[0]
                await self._looked.wait()
                continue
            try:
                await session.declare(Topology(self._queue))
                self._refusal = ""
            except BrokerFailed as failure:
                # One that is there with other arguments is read as it is.
                self._refusal = "" if failure.kind in ("mismatch", "away") else failure.detail
                self._changed()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_seconds):
                    await self._looked.wait()
            pause_seconds = min(longest, pause_seconds * 2)


def _nowhere(received: Received) -> None:
    """Before it is open."""


def _nobody() -> None:
    """Nobody wants to know."""
