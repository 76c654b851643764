# SPDX-License-Identifier: Apache-2.0
"""Sources of messages: the shipped suite on the queue of the tests, and on RabbitMQ's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pika
import pytest

from fairlead.bridges.amqp_source import AmqpSource, BrokerConnection
from fairlead.core.source_message import SourceMessage
from fairlead.drivers.amqp.session import Broker
from fairlead.ports import Source
from fairlead.testing.source_contract import SourceBench, SourceContract, Taker, eventually, message
from fairlead.testing.source_fake import FakeQueue, FakeSource
from tests.servers.cut_cable import CutCable, cable_to
from tests.servers.rabbitmq import RabbitNode

QUEUE = "in"
KEEP_BYTES = 1000


class FakeBench:
    """The suite's side of a `FakeQueue`."""

    def __init__(self) -> None:
        self.queue = FakeQueue()

    def source(self, prefetch: int) -> Source:
        return FakeSource(self.queue, prefetch)

    async def put(self, *messages: SourceMessage) -> None:
        self.queue.put(*messages)

    async def cut(self) -> None:
        assert self.queue.reader is not None
        self.queue.reader.reconnect()


class TestFakeSource(SourceContract):
    @asynccontextmanager
    async def bench(self) -> AsyncIterator[SourceBench]:
        yield FakeBench()


class RabbitBench:
    """A queue on a real broker, with a cable that can be cut."""

    def __init__(self, node: RabbitNode, vhost: str, cable: CutCable) -> None:
        self._cable = cable
        self._parameters = pika.URLParameters(f"amqp://guest:guest@127.0.0.1:{node.port}/{vhost}")
        self._broker = Broker((f"amqp://127.0.0.1:{cable.port}/{vhost}",))

    def source(self, prefetch: int, *, declare: bool = True, queue: str = QUEUE) -> AmqpSource:
        connection = BrokerConnection(self._broker, name="test")
        return AmqpSource(
            connection, queue, prefetch=prefetch, declare=declare, keep_bytes=lambda _: KEEP_BYTES
        )

    async def put(self, *messages: SourceMessage) -> None:
        await asyncio.to_thread(self._put, messages)

    async def cut(self) -> None:
        self._cable.cut()
        self._cable.restore()

    @contextmanager
    def channel(self) -> Iterator[Any]:
        connection = pika.BlockingConnection(self._parameters)
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            yield channel
        finally:
            connection.close()

    def _put(self, messages: tuple[SourceMessage, ...]) -> None:
        with self.channel() as channel:
            arguments = {"x-queue-type": "quorum", "x-single-active-consumer": True}
            channel.queue_declare(QUEUE, durable=True, arguments=arguments)
            for one in messages:
                properties = pika.BasicProperties(
                    content_type=one.content_type,
                    message_id=one.message_id,
                    headers=dict(one.headers),
                    delivery_mode=2,
                )
                channel.basic_publish("", QUEUE, one.body, properties, mandatory=True)


class TestAmqpSource(SourceContract):
    @pytest.fixture(autouse=True)
    def node(self, rabbitmq: RabbitNode) -> None:
        self._node = rabbitmq

    @asynccontextmanager
    async def bench(self) -> AsyncIterator[RabbitBench]:
        vhost = await asyncio.to_thread(self._node.add_vhost)
        async with cable_to(self._node.port) as cable:
            yield RabbitBench(self._node, vhost, cable)

    def test_a_long_body_is_cut_and_says_how_long_it_was(self) -> None:
        async def scene(bench: RabbitBench) -> None:
            await bench.put(SourceMessage(b"x" * 5000, 5000), message(1))
            taker = Taker(bench.source(10))
            long, short = await taker.have(2)
            assert (len(long.message.body), long.message.size_bytes) == (KEEP_BYTES, 5000)
            assert short.message.body == b"1"
            await taker.source.close()

        self._play(scene)  # type: ignore[arg-type]  # the bench is this class's own

    def test_a_queue_is_made_again_whenever_it_is_gone(self) -> None:
        async def scene(bench: RabbitBench) -> None:
            taker = Taker(bench.source(10))
            await eventually(lambda: taker.source.health.up)
            taker.healths.clear()
            await asyncio.to_thread(self._delete, bench)
            await eventually(lambda: False in taker.healths)
            await eventually(lambda: taker.source.health.up)
            await bench.put(message(7))
            (one,) = await taker.have(1)
            assert one.message.body == b"7"
            await taker.source.close()

        self._play(scene)  # type: ignore[arg-type]  # the bench is this class's own

    def test_a_queue_that_is_there_is_used_as_it_is(self) -> None:
        async def scene(bench: RabbitBench) -> None:
            def other() -> None:
                with bench.channel() as channel:
                    channel.queue_declare("other", durable=False)
                    channel.basic_publish("", "other", b"1")

            await asyncio.to_thread(other)
            taker = Taker(bench.source(10, queue="other"))
            (one,) = await taker.have(1)
            assert one.message.body == b"1"
            await taker.source.close()

        self._play(scene)  # type: ignore[arg-type]  # the bench is this class's own

    def test_sources_of_a_broker_share_one_connection(self) -> None:
        async def scene(bench: RabbitBench) -> None:
            connection = BrokerConnection(bench._broker, name="shared")
            takers = [
                Taker(AmqpSource(connection, name, prefetch=1, declare=True, keep_bytes=lambda _: KEEP_BYTES))
                for name in ("a", "b")
            ]
            for taker in takers:
                await eventually(lambda taker=taker: taker.source.health.up)  # type: ignore[misc]  # bound at once
            assert bench._cable.opened == 1
            await takers[0].source.close()
            assert takers[1].source.health.up
            await takers[1].source.close()

        self._play(scene)  # type: ignore[arg-type]  # the bench is this class's own

    @staticmethod
    def _delete(bench: RabbitBench) -> None:
        with bench.channel() as channel:
            channel.queue_delete(QUEUE)
