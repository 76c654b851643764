# SPDX-License-Identifier: Apache-2.0
"""A session of the AMQP driver, and what came of everything it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

from fairlead.drivers.amqp.session import Broker, Consumer, Incoming, Message, Result, Session, Topology
from fairlead.drivers.resolver import Resolver

DEADLINE_SECONDS = 60.0
TOPOLOGY = Topology("q", "x", "k")


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


class Client:
    """Publishes, consumes, and remembers.

    Attributes:
        results: of publishes, in the order in which they came.
        got: what consumers got.
        told: (`up`, `detail`) at each change.
    """

    def __init__(self, *addresses: str, resolve: Resolver | None = None, **options: Any) -> None:
        self.results: list[Result] = []
        self.got: list[Incoming] = []
        self.told: list[tuple[bool, str]] = []
        self.session = Session(
            Broker(addresses, **options), name="fairlead test", changed=self._changed, resolve=resolve
        )

    def _changed(self) -> None:
        self.told.append((self.session.up, self.session.detail))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def up(self) -> None:
        """Wait until the session is up."""
        await until(lambda: self.session.up)

    async def down(self, words: str = "") -> str:
        """Wait until it is down, and says `words`; all that it says."""
        await until(lambda: not self.session.up and words in self.session.detail)
        return self.session.detail

    def publish(self, *bodies: bytes, exchange: str = "x", key: str = "k", **properties: Any) -> None:
        """Publish without waiting."""
        for body in bodies:
            self.session.publish(exchange, key, Message(body, **properties), self.results.append)

    async def published(self, *bodies: bytes, **options: Any) -> list[str]:
        """Publish; the kinds of what came of it."""
        before = len(self.results)
        self.publish(*bodies, **options)
        await until(lambda: len(self.results) == before + len(bodies))
        return [result.kind for result in self.results[before:]]

    def consume(self, queue: str = "q", prefetch: int = 64) -> Consumer:
        """Keep and acknowledge what comes."""

        def take(incoming: Incoming) -> None:
            self.got.append(incoming)
            consumer.ack(incoming)

        consumer = self.session.consume(queue, prefetch, take)
        return consumer

    async def depth_is(self, depth: int, queue: str = "q") -> None:
        """Wait until so many messages wait in a queue: a quorum queue counts with a delay."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await self.session.depth(queue) != depth:
                await asyncio.sleep(0.02)
