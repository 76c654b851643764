# SPDX-License-Identifier: Apache-2.0
"""The port to message buses: to publish, and to be told what was applied (design, section 6).

A broker's confirm is no delivery. On a target that settles by `applied` only the receiver's own answers
settle; they come to `Bus.listen`, or over `POST /subscriptions/{id}/acks`, and the engine verifies them.
Every method is for the event loop's thread and never blocks it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, Protocol

import msgspec

from fairlead.core.subscription import Subscription, Target
from fairlead.ports.sender import Delivery

PublishedKind = Literal["confirmed", "unroutable", "refused", "lost", "impossible"]


class Published(msgspec.Struct, frozen=True):
    """What became of one publish.

    Attributes:
        kind: `confirmed`: the broker has it, on disk · `unroutable`: returned, no queue is bound ·
            `refused`: the broker said no (nack) · `lost`: the connection ended before it said anything, or
            there is none · `impossible`: this message cannot be put on a bus at all, and others can.
        detail: one sentence for people; never a secret.
    """

    kind: PublishedKind
    detail: str = ""


class LinkHealth(msgspec.Struct, frozen=True):
    """Whether a link can publish at this moment.

    Attributes:
        up: connected, logged in, the topology is there, and the broker does not block.
        since: monotonic seconds at which `up` became what it is.
        detail: why it is down, one sentence with what to do; "" while it is up.
        deaf: why no answer can come over it while it is up, one sentence; "" where one can.
    """

    up: bool
    since: float
    detail: str = ""
    deaf: str = ""


class Link(Protocol):
    """One subscription's way to one AMQP target; kept up by itself from `Bus.link` to `close`.

    While it is down it connects again and again, to each of the target's addresses in turn, and puts the
    topology in place (`declare`), or checks that it is there.
    """

    @property
    def health(self) -> LinkHealth: ...

    def publish(self, delivery: Delivery, done: Callable[[Published], None]) -> None:
        """Hand one event (or a fence: no parcels) to the broker: persistent, mandatory, in call order.

        `done` is called exactly once, on the loop, never before this returns. A confirm that never comes
        keeps it waiting until the connection ends: how late is too late is the caller's to say.
        """

    async def depth(self, partition: int) -> int | None:
        """How many messages wait in the queue of that partition's shard; None if that cannot be known now."""

    def close(self) -> None:
        """Let go; publishes without a result are `lost`. Idempotent."""


TakeAnswer = Callable[[Mapping[str, str], bytes], Awaitable[None]]
"""Takes one message of the reply queue: its `webhook-…` headers (lower case, `webhook-id` from `message_id`)
and its body. It never raises; the message is acknowledged to the broker once it returns."""


class Bus(Protocol):
    """The transport to brokers."""

    def listen(self, take: TakeAnswer) -> None:
        """Give every answer that comes to this node's reply queue to `take`; called once, before any link."""

    def link(self, subscription: Subscription, target: Target, changed: Callable[[], None]) -> Link:
        """Begin to keep a way to a target up; `changed` is called on the loop whenever its health changes."""

    async def check(self, target: Target) -> None:
        """Check a target before a subscription is stored; a broker that is away is no reason to refuse.

        Raises:
            ForbiddenSink: an address may not be called. InvalidSubscription: no AMQP library is installed.
        """

    async def close(self) -> None:
        """Close every link and connection; idempotent."""
