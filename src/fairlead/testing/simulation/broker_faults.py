# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with the broker, and on the way to it, at random moments, while it lasts."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

from fairlead.testing.simulation.broker import FINE, BrokerWeather
from fairlead.testing.simulation.network import GONE

if TYPE_CHECKING:
    from fairlead.testing.simulation.bus_side import BusSide
    from fairlead.testing.simulation.world import World


class BrokerFaults:
    """Breaks the broker; `heal` puts it right."""

    def __init__(self, world: World, side: BusSide, random: Random) -> None:
        self._world = world
        self._side = side
        self._random = random

    async def rage(self) -> None:
        """One fault after the other."""
        broker, roll = self._side.broker, self._random.random
        if not self._world.configuration.late:
            broker.weather = BrokerWeather(late=0.0)
        while True:
            await asyncio.sleep(self._random.expovariate(1.2))
            await self._break_something(roll())

    def heal(self) -> None:
        """No fault lasts; but where there are two ways to the receiver, one may be gone for good."""
        broker, configuration, roll = self._side.broker, self._world.configuration, self._random.random()
        broker.weather = FINE
        broker.blocked, broker.up = False, True
        broker.cut_off.clear()
        if roll < 0.25 and configuration.leaves_the_bus:
            self._world.say("broker: is gone for good")
            broker.up = False
        elif roll > 0.75 and configuration.route == ("bus", "rest"):
            self._world.say("network: is gone for good")
            self._world.network.weather = GONE
        broker.tell()
        self._cut_consumers(1.0)

    async def _break_something(self, roll: float) -> None:
        if roll < 0.16:
            await self._be_down(self._random.random() * 3)
        elif roll < 0.26:
            for _ in range(self._random.choice((2, 3, 5))):
                await self._be_down(self._random.random() * 0.3)
                await asyncio.sleep(self._random.random() * 0.5)
        elif roll < 0.38:
            await self._block()
        elif roll < 0.52:
            await self._cut_a_relay()
        elif roll < 0.68:
            self._cut_consumers(0.5)
        elif roll < 0.88:
            self._take_away()
        else:
            await self._be_bad()

    async def _be_down(self, seconds: float) -> None:
        broker = self._side.broker
        broker.say("broker: down")
        broker.up = False
        broker.tell()
        self._cut_consumers(1.0)
        await asyncio.sleep(seconds)
        broker.say("broker: up")
        broker.up = True
        broker.tell()

    async def _block(self) -> None:
        broker = self._side.broker
        broker.say("broker: blocks")
        broker.blocked = True
        broker.tell()
        await asyncio.sleep(self._random.random() * 3)
        broker.blocked = False
        broker.say("broker: blocks no more")
        broker.tell()

    async def _cut_a_relay(self) -> None:
        """The network between one relay and the broker; for a moment, or for longer."""
        broker = self._side.broker
        living = [relay for relay in self._world.relays if relay.alive and relay.bus is not None]
        if not living:
            return
        relay = self._random.choice(living)
        broker.say(f"{relay.name} is cut off from the broker")
        broker.cut_off.add(relay.name)
        broker.tell()
        await asyncio.sleep(self._random.choice((0.0, 0.3, 3.0)) * self._random.random())
        broker.cut_off.discard(relay.name)
        broker.say(f"{relay.name} reaches the broker")

    def _cut_consumers(self, share: float) -> None:
        """Some of the receiver's connections end."""
        for consumer in self._side.consumers:
            if self._random.random() < share:
                self._side.broker.say(f"{consumer.name}: its connection ends")
                consumer.disconnect()

    def _take_away(self) -> None:
        """A queue, what is in it, or some of that."""
        broker, random = self._side.broker, self._random
        names = sorted(broker.queues)
        if not names:
            return
        name, roll = random.choice(names), random.random()
        queue = broker.queues[name]
        if roll < 0.3:
            broker.say(f"broker: deletes {name}")
            broker.delete(name)
        elif roll < 0.6:
            broker.say(f"broker: purges {name}")
            queue.messages.clear()
        elif roll < 0.8 and queue.messages:
            broker.say(f"broker: loses one of {name}")
            del queue.messages[random.randrange(len(queue.messages))]
        elif queue.messages:
            broker.say(f"broker: repeats one of {name}")
            queue.messages.append(random.choice(list(queue.messages)))
            queue.feed()

    async def _be_bad(self) -> None:
        broker, worse = self._side.broker, self._random.choice((0.1, 0.3))
        before = broker.weather
        broker.weather = BrokerWeather(
            worse, worse, worse / 2, worse, worse if before.late else 0.0, lost_answer=worse,
            repeated_answer=worse, requeued=worse,
        )  # fmt: skip
        broker.say("broker: bad")
        await asyncio.sleep(self._random.random() * 2)
        broker.weather = before
        broker.say("broker: better")
