# SPDX-License-Identifier: Apache-2.0
"""One subscription's place at a broker: exchange, queues and bindings put in place, deliveries published.

Over the session that all links of one broker and login share (interface, section 8).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from fairlead.core.signature import Signer
from fairlead.core.subscription import Subscription, Target
from fairlead.drivers.amqp.message import Result, Topology
from fairlead.errors import BrokerFailed
from fairlead.ports import Clock, Delivery, LinkHealth, Published
from fairlead.transports.amqp_message import message_of

if TYPE_CHECKING:
    from fairlead.transports.amqp_session import BrokerSession

AGAIN_SECONDS = 5.0
GONE_SECONDS = 1.0
"""So long a queue that is gone stays away. A broker that has it back within milliseconds does not tell
consumers without the library that it was gone, and what it hands them is never seen (RabbitMQ 3.10)."""

_CONFIRMED = Published("confirmed")

_log = logging.getLogger(__name__)


class AmqpLink:
    """One subscription's exchange, queues and bindings at one broker; see `ports.Link`.

    Where a broker that is up refuses one of them, the log says so once, and once when they are in place.
    """

    def __init__(
        self,
        session: BrokerSession,
        subscription: Subscription,
        target: Target,
        *,
        clock: Clock,
        changed: Callable[[], None],
        left: Callable[[], None],
    ) -> None:
        self._session = session
        self._clock = clock
        self._changed = changed
        self._left = left
        self._topologies = topologies_of(subscription.id, target.settings)
        self._subscription_id = subscription.id
        self._refused = False  # as the log says
        self._in_place = False
        self._gone = False
        self._detail = ""
        self._placing: asyncio.Task[None] | None = None
        self._closed = False
        self._signing: tuple[Subscription, float, Signer] | None = None
        self.health = LinkHealth(False, clock.monotonic(), session.detail)
        session.join(self._look)
        self._look()

    def publish(self, delivery: Delivery, done: Callable[[Published], None]) -> None:
        """See `ports.Link.publish`."""
        now = self._clock.now()
        message = message_of(delivery, self._signer(delivery, now), int(now), self._session.reply_queue)
        topology = self._of(delivery.fence.channel.partition)
        self._session.publish(
            topology.exchange, topology.routing_key, message, partial(self._published, done)
        )

    async def depth(self, partition: int) -> int | None:
        """See `ports.Link.depth`."""
        return await self._session.depth(self._of(partition).queue) if self._session.up else None

    def close(self) -> None:
        """See `ports.Link.close`."""
        if not self._closed:
            self._closed = True
            if self._placing is not None:
                self._placing.cancel()
            self._session.leave(self._look)
            self._left()

    def _of(self, partition: int) -> Topology:
        return self._topologies[partition % len(self._topologies)]

    def _signer(self, delivery: Delivery, now: float) -> Signer:
        subscription = delivery.subscription
        if self._signing is None or self._signing[0] is not subscription or now >= self._signing[1]:
            secrets = subscription.secrets
            signer = Signer(secrets.in_force(now))
            self._signing = (subscription, secrets.in_force_until(now), signer)
        return self._signing[2]

    def _published(self, done: Callable[[Published], None], result: Result) -> None:
        if result.kind == "confirmed":
            done(_CONFIRMED)
            return
        if result.kind in ("unroutable", "lost") and self._in_place and self._session.up:
            # Queue, binding or exchange is gone: in place again before more goes.
            self._in_place, self._gone, self._detail = False, True, result.detail
            self._look()
        done(Published(result.kind, result.detail))

    # -- health --------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """The session has changed, or what is in place."""
        if not self._session.up:
            self._in_place, self._detail = False, self._session.detail
        elif not self._in_place and self._placing is None and not self._closed:
            self._placing = asyncio.get_running_loop().create_task(self._place())
        up = self._session.up and self._in_place
        detail = "" if up else self._detail or "the queue is being put in place"
        since = self.health.since if up == self.health.up else self._clock.monotonic()
        health = LinkHealth(up, since, detail, self._session.deaf if up else "")
        if health == self.health:
            return
        self.health = health
        asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        if not self._closed:
            self._changed()

    async def _place(self) -> None:
        try:
            if self._gone:
                self._gone = False  # a binding that is not ours cannot be asked for, only tried again
                await asyncio.sleep(GONE_SECONDS if self._topologies[0].create else AGAIN_SECONDS)
            while self._session.up and not self._in_place:
                try:
                    for topology in self._topologies:
                        await self._session.declare(topology)
                    self._in_place, self._detail = self._session.up, ""
                    self._say_in_place()
                except BrokerFailed as failure:
                    self._detail = f"{failure.detail}{_advice(failure, topology)}"
                    if failure.kind != "away":
                        self._say_refused(topology)
                    self._look()
                    await asyncio.sleep(AGAIN_SECONDS)
        finally:
            self._placing = None
        self._look()

    def _say_refused(self, topology: Topology) -> None:
        """For whoever is paged: where a subscription has no other target, nothing else tells of it."""
        if not self._refused:
            self._refused = True
            extra = {"subscription": self._subscription_id, "queue": topology.queue, "detail": self._detail}
            _log.warning("a broker refuses a queue", extra=extra)

    def _say_in_place(self) -> None:
        if self._refused:
            self._refused = False
            _log.info("a refused queue is in place", extra={"subscription": self._subscription_id})


def _advice(failure: BrokerFailed, topology: Topology) -> str:
    """What to do about a topology that is not what it should be."""
    match failure.kind:
        case "mismatch":
            own = "to use what is there, set protocolsettings.declare to false"
            return f"; {own}; else give it another name, or delete it there"
        case "missing" if not topology.create:
            return "; make it there, or leave protocolsettings.declare out"
        case "forbidden":
            return "; give the user of sinkcredential the permissions configure, write and read there"
    return ""


def topologies_of(subscription_id: str, settings: Mapping[str, Any]) -> list[Topology]:
    """What a target needs at its broker, by shard (interface, section 8)."""
    shards = settings.get("shards", 1)
    routing_key = settings.get("routing_key") or subscription_id
    queue = settings.get("queue")
    made = []
    for shard in range(shards):
        own = "" if shards == 1 else f".{shard}"
        made.append(
            Topology(
                queue=f"{queue}{own}" if queue else f"fairlead.{subscription_id}.{shard}",
                exchange=settings.get("exchange", "fairlead"),
                routing_key=f"{routing_key}{own}",
                create=settings.get("declare", True),
            )
        )
    return made
