# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ as a route: `ports.Bus` and `ports.Link` over AMQP 0-9-1 (interface, section 8).

The client library is imported with the first link, never before: without a bus nothing of it is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fairlead.core.answer import MOST_ANSWER_BYTES
from fairlead.core.egress import EgressPolicy
from fairlead.core.signature import Signer
from fairlead.core.subscription import Subscription, Target
from fairlead.drivers.amqp_message import Broker, Result, Topology
from fairlead.drivers.resolver import Resolver
from fairlead.errors import BrokerFailed, Fault, ForbiddenSink, InvalidSubscription, SendFailed
from fairlead.ports import Clock, Delivery, Link, LinkHealth, Published
from fairlead.ports.bus import TakeAnswer
from fairlead.transports.amqp_message import message_of

if TYPE_CHECKING:
    from fairlead.transports.amqp_session import BrokerSession

AGAIN_SECONDS = 5.0
GONE_SECONDS = 1.0
"""So long a queue that is gone stays away. A broker that has it back within milliseconds does not tell
consumers without the library that it was gone, and what it hands them is never seen (RabbitMQ 3.10)."""
CHECK_SECONDS = 10.0
MISSING = "pip install 'fairlead[amqp]'"
_log = logging.getLogger(__name__)

_CONFIRMED = Published("confirmed")


class AmqpBus:
    """Links of one broker and login share its connections.

    Args:
        policy: which addresses may be called; `resolver` should have the same.
        node_id: this node's, kept in the store.
        ca_file: further certificate authorities for `amqps://`.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        resolver: Resolver,
        clock: Clock,
        *,
        node_id: str,
        ca_file: str | None = None,
    ) -> None:
        self._policy = policy
        self._resolver = resolver
        self._clock = clock
        self._node_id = node_id
        self._ca_file = ca_file
        self._take: TakeAnswer = _nobody
        self._sessions: dict[Broker, BrokerSession] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def listen(self, take: TakeAnswer) -> None:
        """See `ports.Bus.listen`."""
        self._take = take

    def link(self, subscription: Subscription, target: Target, changed: Callable[[], None]) -> Link:
        """See `ports.Bus.link`."""
        if find_spec("pika") is None:
            return _NoLink(LinkHealth(False, self._clock.monotonic(), f"AMQP needs a library: {MISSING}"))
        from fairlead.transports.amqp_session import BrokerSession

        broker = _broker(target, self._ca_file)
        session = self._sessions.get(broker)
        if session is None:
            session = BrokerSession(broker, self._resolver, node_id=self._node_id, take=self._take)
            self._sessions[broker] = session
        left = partial(self._left, broker)
        return AmqpLink(session, subscription, target, clock=self._clock, changed=changed, left=left)

    async def check(self, target: Target) -> None:
        """See `ports.Bus.check`."""
        if find_spec("pika") is None:
            fault = Fault(detail="is AMQP, which needs a library", pointer="/protocol", hint=MISSING)
            raise InvalidSubscription(f"protocol AMQP needs a library: {MISSING}", faults=[fault])
        for address in (target.sink, *target.settings.get("addresses", ())):
            endpoint = self._policy.check_url(address).endpoint
            try:
                await self._resolver.resolve_within(endpoint, CHECK_SECONDS)
            except SendFailed as failure:
                if failure.kind == "forbidden":
                    raise ForbiddenSink(failure.detail) from None
                self._policy.check_unresolved(endpoint.host, tls=endpoint.tls)

    async def close(self) -> None:
        """See `ports.Bus.close`."""
        sessions, self._sessions = list(self._sessions.values()), {}
        await asyncio.gather(*(session.close() for session in sessions), *self._closing)

    def _left(self, broker: Broker) -> None:
        session = self._sessions.get(broker)
        if session is not None and not session.shared:
            del self._sessions[broker]
            task = asyncio.get_running_loop().create_task(session.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


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


class _NoLink:
    """What stands for a link where there is no library for it."""

    def __init__(self, health: LinkHealth) -> None:
        self.health = health

    def publish(self, delivery: Delivery, done: Callable[[Published], None]) -> None:
        result = Published("lost", self.health.detail)
        asyncio.get_running_loop().call_soon(done, result)

    async def depth(self, partition: int) -> int | None:
        return None

    def close(self) -> None: ...


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


def _broker(target: Target, ca_file: str | None) -> Broker:
    credential = target.credential or {}
    addresses = (target.sink, *target.settings.get("addresses", ()))
    if credential.get("credentialtype") == "PLAIN":
        user, password = str(credential.get("identifier", "")), str(credential.get("secret", ""))
        return Broker(addresses, user, password, ca_file=ca_file, most_body_bytes=MOST_ANSWER_BYTES)
    return Broker(addresses, ca_file=ca_file, most_body_bytes=MOST_ANSWER_BYTES)


async def _nobody(headers: Mapping[str, str], body: bytes) -> None:
    """Answers before anybody listens: there is no link yet that could bring any."""
