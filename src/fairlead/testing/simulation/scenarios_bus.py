# SPDX-License-Identifier: Apache-2.0
"""Stories on a bus, told step by step, for what random worlds hardly ever come upon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fairlead.core.subscription import Start
from fairlead.testing.simulation.broker import Message
from fairlead.testing.simulation.bus import queue_name
from fairlead.testing.simulation.operators import NAME
from fairlead.testing.simulation.scenarios import Scenario
from fairlead.testing.simulation.world import World

QUEUE = queue_name(NAME, 0)


class AnotherNumberOfPartitions(Scenario):
    """The store is made anew with more partitions; the receiver keeps its inbox, the broker old copies."""

    def __init__(self) -> None:
        super().__init__("all", partitions=2)

    async def tell(self) -> None:
        assert self.bus is not None
        broker = self.bus.broker
        copies: list[Message] = []
        broker.taken = copies.append
        await self.serve()
        await self.operators.subscribe(Start("beginning"), 3)
        for number in range(6):
            await self.publish(self.relay, 1, 1, subject=f"k{number}")
        await self._until_nothing_is_left()
        self.relay.kill()
        await self.pause(1.0)
        self.configuration = replace(self.configuration, partitions=5)
        self.connection.committed = None
        self.new_store()
        await self.serve()
        await self.operators.subscribe(Start("beginning"), 3)
        for number in range(6):
            await self.publish(self.relay, 1, subject=f"k{number}")
        await self._until_nothing_is_left()
        broker.queues[QUEUE].messages.extend(copies)  # of the old store, of partitions that have spoken again
        broker.queues[QUEUE].feed()
        await self.pause(1.0)


BUS_SCENARIOS: dict[str, Callable[[], World]] = {
    "another_p": AnotherNumberOfPartitions,
}
