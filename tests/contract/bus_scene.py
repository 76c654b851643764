# SPDX-License-Identifier: Apache-2.0
"""A bus whose broker and receiver do what a test says, in virtual time: for what the engine decides.

What real brokers do is tested on real ones; everything going wrong at once, in the simulation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fairlead.core.answer import AnswerDocument, AnswerResult
from fairlead.core.subscription import Subscription, Target
from fairlead.ports import Delivery, LinkHealth, Published
from fairlead.ports.bus import TakeAnswer
from fairlead.testing.simulation.loop import SimulatedLoop


class HandLink:
    """One link, up from its beginning unless the bus is down."""

    def __init__(self, bus: HandBus, target: Target, changed: Callable[[], None]) -> None:
        self.bus = bus
        self.target = target
        self.changed = changed
        self.health = LinkHealth(bus.up, bus.loop.time(), "" if bus.up else "no broker there")

    def publish(self, delivery: Delivery, done: Callable[[Published], None]) -> None:
        self.bus.published.append(delivery)
        result = self.bus.result if self.health.up else Published("lost", "the connection is gone")
        if result is not None:
            self.bus.loop.call_later(0.001, done, result)

    async def depth(self, partition: int) -> int | None:
        return self.bus.waiting

    def close(self) -> None:
        self.bus.links.remove(self)


class HandBus:
    """The bus of a test.

    Attributes:
        published: what was handed to the broker, in that order.
        result: what the broker says of a publish; None for nothing at all.
        waiting: how many messages wait there.
    """

    def __init__(self, loop: SimulatedLoop) -> None:
        self.loop = loop
        self.up = True
        self.published: list[Delivery] = []
        self.links: list[HandLink] = []
        self.result: Published | None = Published("confirmed")
        self.waiting: int | None = 0

    def listen(self, take: TakeAnswer) -> None: ...

    def link(self, subscription: Subscription, target: Target, changed: Callable[[], None]) -> HandLink:
        made = HandLink(self, target, changed)
        self.links.append(made)
        return made

    async def check(self, target: Target) -> None: ...

    async def close(self) -> None:
        await asyncio.sleep(0)

    # -- what a test does ------------------------------------------------------------------------------

    def turn(self, *, up: bool, detail: str = "the broker closed the connection") -> None:
        """Take the broker away, or bring it back."""
        self.up = up
        for link in self.links:
            link.health = LinkHealth(up, self.loop.time(), "" if up else detail)
            link.changed()

    @property
    def events(self) -> list[Delivery]:
        return [one for one in self.published if one.parcels]


def answer_to(
    delivery: Delivery, result: AnswerResult = "applied", applied: int | None = None
) -> AnswerDocument:
    """What the library would say of a delivery."""
    fence = delivery.fence
    if not delivery.parcels:
        return AnswerDocument(
            subscription=fence.channel.subscription, partition=fence.channel.partition,
            generation=fence.generation, epoch=fence.epoch, result="fence",
        )  # fmt: skip
    entry = delivery.parcels[0].entry
    settled = entry.position if result in ("applied", "duplicate") else 0
    return AnswerDocument(
        subscription=fence.channel.subscription, partition=fence.channel.partition,
        generation=fence.generation, epoch=fence.epoch, seq=delivery.seq, key=entry.key, result=result,
        applied=settled if applied is None else applied,
    )  # fmt: skip
