# SPDX-License-Identifier: Apache-2.0
"""Questions to a broker, one at a time, on a channel of their own: declare, check, count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fairlead.drivers.amqp.channel import Channel
from fairlead.drivers.amqp.connection import Wire
from fairlead.drivers.amqp.message import Topology

Ask = Callable[[Any, Callable[[Any], None]], object]
"""Asks on a channel of the library's, and has the answer's frame given to its second argument."""

_UNLIMITED_SINCE = (4,)


class Asking:
    """The questions over one connection."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._channel: Channel | None = None
        self._turn = asyncio.Lock()

    async def declare(self, topology: Topology) -> None:
        """See `Session.declare`."""
        queue, exchange = topology.queue, topology.exchange
        passive = not topology.create
        if exchange:
            await self._ask(
                lambda raw, done: raw.exchange_declare(
                    exchange, "direct", passive=passive, durable=True, callback=done
                )
            )
        arguments = None if passive else self._arguments(topology)
        await self._ask(
            lambda raw, done: raw.queue_declare(
                queue, passive=passive, durable=True, arguments=arguments, callback=done
            )
        )
        if exchange and not passive:
            await self._ask(
                lambda raw, done: raw.queue_bind(queue, exchange, topology.routing_key, callback=done)
            )

    async def depth(self, queue: str) -> int:
        """See `Session.depth`."""
        return int((await self._look_at(queue)).message_count)

    async def is_unserved(self, queue: str) -> bool:
        """Whether messages wait in a queue from which nobody consumes.

        Raises:
            BrokerFailed: `missing`, or it cannot be known now.
        """
        found = await self._look_at(queue)
        return bool(found.message_count) and not found.consumer_count

    def close(self) -> None:
        """Let go of the channel; the next question has a new one."""
        if self._channel is not None:
            self._channel.close()

    async def _look_at(self, queue: str) -> Any:
        answer = await self._ask(lambda raw, done: raw.queue_declare(queue, passive=True, callback=done))
        return answer.method

    def _arguments(self, topology: Topology) -> dict[str, Any]:
        arguments: dict[str, Any] = {"x-queue-type": "quorum"}
        if topology.single_active:
            arguments["x-single-active-consumer"] = True
        if self._wire.version >= _UNLIMITED_SINCE:
            # RabbitMQ 4 drops a message at its 20th return to the queue. Before it there is no limit, and -1,
            # which 3.10 takes too, drops one at its second.
            arguments["x-delivery-limit"] = -1
        return arguments

    async def _ask(self, ask: Ask) -> Any:
        async with self._turn:
            channel = self._channel
            if channel is None or not channel.is_open:
                channel = self._channel = await self._wire.channel()
            try:
                return await channel.ask(lambda done: ask(channel.raw, done))
            except BaseException:
                channel.close()  # an answer that comes late is not the next question's
                raise
