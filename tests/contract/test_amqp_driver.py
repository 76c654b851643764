# SPDX-License-Identifier: Apache-2.0
"""The AMQP driver on real brokers: what is confirmed is there, what comes is told once, and it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fairlead.drivers.amqp import Broker, Consumer, Incoming, Message, Result, Session, Topology
from tests.servers.rabbitmq import RabbitNode

DEADLINE_SECONDS = 60.0


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


class Client:
    """A session and what came of everything it was asked."""

    def __init__(self, *addresses: str, **options: Any) -> None:
        self.session = Session(Broker(addresses, **options), name="fairlead test")
        self.results: list[Result] = []
        self.got: list[Incoming] = []

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def up(self) -> None:
        await until(lambda: self.session.up)

    def publish(self, *bodies: bytes, exchange: str = "x", key: str = "k", **properties: Any) -> None:
        for body in bodies:
            self.session.publish(exchange, key, Message(body, **properties), self.results.append)

    def consume(self, queue: str, prefetch: int = 64) -> Consumer:
        """Keep and acknowledge what comes."""

        def take(incoming: Incoming) -> None:
            self.got.append(incoming)
            consumer.ack(incoming)

        consumer = self.session.consume(queue, prefetch, take)
        return consumer

    async def published(self, *bodies: bytes, **options: Any) -> list[str]:
        """The kinds of what came of it."""
        before = len(self.results)
        self.publish(*bodies, **options)
        await until(lambda: len(self.results) == before + len(bodies))
        return [result.kind for result in self.results[before:]]


TOPOLOGY = Topology("q", "x", "k")


@pytest.fixture
def vhost(rabbitmq: RabbitNode) -> str:
    return rabbitmq.url(rabbitmq.add_vhost())


def test_what_is_published_is_confirmed_and_consumed_in_order(vhost: str) -> None:
    async def main() -> None:
        async with Client(vhost) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            bodies = [b"%d" % number for number in range(500)]
            kinds = await one.published(
                *bodies, content_type="text/plain", message_id="m", reply_to="r", headers={"a": "b"}
            )
            assert kinds == ["confirmed"] * 500
            consumer = one.consume("q")
            await until(lambda: len(one.got) == 500)
            assert [incoming.body for incoming in one.got] == bodies
            first = one.got[0]
            assert (first.content_type, first.message_id, first.reply_to) == ("text/plain", "m", "r")
            assert first.headers == {"a": "b"}
            assert (first.exchange, first.routing_key, first.redelivered) == ("x", "k", False)
            assert consumer.up
        async with Client(vhost) as other:
            await other.up()
            assert await other.session.depth("q") == 0

    run(main())
