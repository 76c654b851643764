# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in a world, at random moments, while it lasts."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

from fairlead.testing.simulation.disk import DiskFault
from fairlead.testing.simulation.network import CALM, Weather

if TYPE_CHECKING:
    from fairlead.testing.simulation.world import World

FAULTS: tuple[DiskFault, ...] = ("busy", "full", "reserve", "lost", "unknown")


class Chaos:
    """Breaks things; `heal` puts them right."""

    def __init__(self, world: World, random: Random) -> None:
        self._world = world
        self._random = random
        configuration = world.configuration
        world.network.weather = (
            Weather(repeated=configuration.repeated)
            if configuration.late
            else Weather(late=0.0, repeated=0.0)
        )

    async def rage(self) -> None:
        """Faults of machines, one after the other."""
        while True:
            await asyncio.sleep(self._random.expovariate(1.5))
            await self._break_something()

    async def meddle(self) -> None:
        """People, one call after the other."""
        operations = self._world.configuration.operations
        while operations:
            await asyncio.sleep(self._random.expovariate(0.9))
            await self._world.operators.act(self._random.choice(operations))

    def heal(self) -> None:
        """No fault lasts but, maybe, one poisoned key."""
        world, temper = self._world, self._world.temper
        world.network.weather = CALM
        world.connection.fault = None
        temper.fails = temper.rejects = temper.dies = 0.0
        temper.down = temper.gone = False
        poisoned = world.configuration.poison and self._random.random() < 0.3
        temper.poison = "/sim k0" if poisoned else None

    async def _break_something(self) -> None:
        world, configuration, roll = self._world, self._world.configuration, self._random.random()
        if roll < 0.25 and configuration.crash:
            await self._end_a_relay()
        elif roll < 0.40 and configuration.zombie:
            world.say("another node takes over")
            await world.serve()
        elif roll < 0.50 and configuration.disk:
            await self._break_the_disk()
        elif roll < 0.65 and configuration.poison:
            world.temper.poison = self._random.choice((None, None, "/sim k0"))
            world.say(f"poison: {world.temper.poison}")
        elif roll < 0.80:
            await self._break_the_receiver()
        else:
            await self._break_the_network()

    async def _end_a_relay(self) -> None:
        living = [relay for relay in self._world.relays if relay.alive and relay.node is not None]
        if not living:
            return
        relay = self._random.choice(living)
        if self._random.random() < 0.7:
            relay.kill()
            return
        self._world.say(f"{relay.name} is asked to stop")
        with suppress(ConnectionError):
            await relay.stop(self._random.choice((0.0, 0.2, 2.0)))

    async def _break_the_disk(self) -> None:
        world = self._world
        world.connection.fault = self._random.choice(FAULTS)
        world.say(f"disk: {world.connection.fault}")
        if world.connection.fault in ("busy", "full", "reserve"):
            await asyncio.sleep(self._random.random())
            world.connection.fault = None
            world.say("disk: well again")

    async def _break_the_receiver(self) -> None:
        world, temper = self._world, self._world.temper
        if world.configuration.gone and self._random.random() < 0.3:
            temper.gone = True
        else:
            temper.down = True
        world.say(f"receiver: {'gone' if temper.gone else 'down'}")
        await asyncio.sleep(self._random.random() * 3)
        temper.down = temper.gone = False
        temper.fails = self._random.choice((0.0, 0.2, 0.6))
        temper.rejects = self._random.choice((0.0, 0.0, 0.1))
        world.say("receiver: back")

    async def _break_the_network(self) -> None:
        world, worse = self._world, self._random.choice((0.2, 0.5))
        before = world.network.weather
        late = worse if world.configuration.late else 0.0
        world.network.weather = Weather(worse, worse, late, late, noise=worse)
        world.say("network: bad")
        await asyncio.sleep(self._random.random() * 2)
        world.network.weather = before
        world.say("network: better")
