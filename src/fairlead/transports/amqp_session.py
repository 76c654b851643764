# SPDX-License-Identifier: Apache-2.0
"""One broker as one login: the connections that links share, and this node's reply queue there.

There are two. A broker that is short of memory or disk stops reading from whoever publishes, acknowledgements
and questions of the same connection included; answers must go on being taken then.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from fairlead.drivers.amqp.session import (
    NOT_YET,
    Broker,
    Consumer,
    Incoming,
    Message,
    Result,
    Session,
    Topology,
    where,
)
from fairlead.drivers.resolver import Resolver
from fairlead.errors import BrokerFailed
from fairlead.ports.bus import TakeAnswer

PREFETCH = 512
AGAIN_SECONDS = 1.0

_log = logging.getLogger(__name__)


class BrokerSession:
    """Kept up from now until `close`; the reply queue is put in place again whenever it is gone.

    Once per outage the log says that the broker is away, and that it is back.

    Args:
        node_id: ends the reply queue's name; the same after each restart, so that its answers are found.
        take: gets every answer; see `ports.Bus.listen`.
    """

    def __init__(self, broker: Broker, resolver: Resolver, *, node_id: str, take: TakeAnswer) -> None:
        self.reply_queue = f"fairlead.acks.{node_id}"
        self._take = take
        self._listeners: dict[Callable[[], None], None] = {}
        self._answers: deque[Incoming] = deque()
        self._taking: asyncio.Task[None] | None = None
        self._placing: asyncio.Task[None] | None = None
        self._refusal = ""
        self._away = False  # as the log says
        self._closed = False
        self._name = ", ".join(str(where(address).endpoint) for address in broker.addresses)
        name = f"fairlead {node_id}"
        self._publishing = Session(broker, name=name, changed=self._changed, resolve=resolver)
        self._listening = Session(broker, name=f"{name} (answers)", changed=self._changed, resolve=resolver)
        self._consumer: Consumer | None = None

    @property
    def up(self) -> bool:
        return self._publishing.up and self._listening.up

    @property
    def detail(self) -> str:
        """Why it is down, one sentence; "" while it is up."""
        return self._publishing.detail or self._listening.detail

    @property
    def deaf(self) -> str:
        """Why no answer can come over it while it is up, one sentence; "" where one can."""
        if not self.up or self._consumes:
            return ""
        why = self._refusal or ("" if self._consumer is None else self._consumer.detail)
        return f"no answer can come by the reply queue: {why or 'it is being put in place'}"

    @property
    def shared(self) -> bool:
        """Whether anybody uses it."""
        return bool(self._listeners)

    def join(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever `up`, `detail` or `deaf` changes."""
        self._listeners[changed] = None

    def leave(self, changed: Callable[[], None]) -> None:
        self._listeners.pop(changed, None)

    def publish(
        self, exchange: str, routing_key: str, message: Message, done: Callable[[Result], None]
    ) -> None:
        """See `Session.publish`."""
        self._publishing.publish(exchange, routing_key, message, done)

    async def declare(self, topology: Topology) -> None:
        """See `Session.declare`."""
        await self._listening.declare(topology)

    async def depth(self, queue: str) -> int | None:
        """How many messages are ready in a queue; None where the broker does not say."""
        try:
            return await self._listening.depth(queue)
        except BrokerFailed:
            return None

    async def close(self) -> None:
        """Close both connections; idempotent."""
        self._closed = True
        for task in (self._placing, self._taking):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await asyncio.gather(self._publishing.close(), self._listening.close())

    # -- the reply queue -----------------------------------------------------------------------------------

    @property
    def _consumes(self) -> bool:
        return self._consumer is not None and self._consumer.up

    def _changed(self) -> None:
        self._say()
        if self._listening.up and not self._consumes and self._placing is None:
            self._placing = asyncio.get_running_loop().create_task(self._place())
        for changed in list(self._listeners):
            changed()

    def _say(self) -> None:
        """For whoever is paged: where a subscription has no other target, nothing else tells of it."""
        if self.up and self._away:
            self._away = False
            _log.info("a bus is back", extra={"broker": self._name})
        elif not self.up and not self._away and self.detail != NOT_YET and not self._closed:
            self._away = True
            _log.warning("a bus is away", extra={"broker": self._name, "detail": self.detail})

    async def _place(self) -> None:
        """Declare the reply queue until it is consumed from: it is new, or somebody has deleted it.

        A new one first: RabbitMQ 3.10 ends the connection of who consumes a quorum queue in the moment in
        which it is made.
        """
        topology = Topology(self.reply_queue, single_active=False)
        try:
            while self._listening.up and not self._consumes:
                try:
                    await self._listening.declare(topology)
                    self._refused("")
                    if self._consumer is None:
                        self._consumer = self._listening.consume(
                            self.reply_queue, PREFETCH, self._arrived, self._changed
                        )
                except BrokerFailed as failure:
                    if failure.kind != "away":
                        self._refused(failure.detail)
                await asyncio.sleep(AGAIN_SECONDS)
            self._refusal = ""
        finally:
            self._placing = None

    def _refused(self, why: str) -> None:
        """Note why the reply queue is not in place, and say it; "" if it is."""
        if why != self._refusal:
            self._refusal = why
            if why:
                _log.error("the reply queue cannot be put in place", extra={"detail": why})
            self._changed()

    def _arrived(self, incoming: Incoming) -> None:
        self._answers.append(incoming)
        if self._taking is None:
            self._taking = asyncio.get_running_loop().create_task(self._hand_over())

    async def _hand_over(self) -> None:
        try:
            while self._answers:
                incoming = self._answers.popleft()
                await self._take_one(incoming)
                if self._consumer is not None:
                    self._consumer.ack(incoming)
        finally:
            self._taking = None

    async def _take_one(self, incoming: Incoming) -> None:
        if incoming.fault:
            extra = {"webhook_id": incoming.message_id, "detail": incoming.fault}
            _log.warning("a message on the reply queue is no answer", extra=extra)
            return
        named = {name.lower(): str(value) for name, value in incoming.headers.items()}
        named["webhook-id"] = incoming.message_id or ""
        try:
            await self._take(named, incoming.body)
        except Exception:  # a defect; unacknowledged it would come again and again, before all others
            _log.exception("an answer could not be taken; its delivery will be sent again")
