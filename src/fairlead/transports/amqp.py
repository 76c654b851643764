# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ as a route: `ports.Bus` and `ports.Link` over AMQP 0-9-1 (interface, section 8).

The client library is imported with the first link, never before: without a bus nothing of it is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fairlead.core.answer import MOST_ANSWER_BYTES
from fairlead.core.egress import EgressPolicy
from fairlead.core.subscription import Subscription, Target
from fairlead.drivers.amqp.message import Broker
from fairlead.drivers.resolver import Resolver
from fairlead.errors import Fault, ForbiddenSink, InvalidSubscription, SendFailed
from fairlead.ports import Clock, Delivery, Link, LinkHealth, Published
from fairlead.ports.bus import TakeAnswer
from fairlead.transports.amqp_link import AmqpLink

if TYPE_CHECKING:
    from fairlead.transports.amqp_session import BrokerSession

CHECK_SECONDS = 10.0
MISSING = "pip install 'fairlead[amqp]'"


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


def _broker(target: Target, ca_file: str | None) -> Broker:
    credential = target.credential or {}
    addresses = (target.sink, *target.settings.get("addresses", ()))
    if credential.get("credentialtype") == "PLAIN":
        user, password = str(credential.get("identifier", "")), str(credential.get("secret", ""))
        return Broker(addresses, user, password, ca_file=ca_file, most_body_bytes=MOST_ANSWER_BYTES)
    return Broker(addresses, ca_file=ca_file, most_body_bytes=MOST_ANSWER_BYTES)


async def _nobody(headers: Mapping[str, str], body: bytes) -> None:
    """Answers before anybody listens: there is no link yet that could bring any."""
