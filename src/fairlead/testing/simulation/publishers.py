# SPDX-License-Identifier: Apache-2.0
"""Publishers that send until they are told that they have been heard."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from fairlead.core.event import Event
from fairlead.core.log import Appended
from fairlead.core.policy import ANYONE
from fairlead.errors import FairleadError

if TYPE_CHECKING:
    from fairlead.testing.simulation.world import World

PUBLISHERS = 2


class Publisher:
    """One of them, with its share of the world's events. What it is told must be so.

    Attributes:
        done: everything was acknowledged.
    """

    def __init__(self, world: World, random: Random, number: int) -> None:
        self.done = False
        self._world = world
        self._random = random
        configuration = world.configuration
        count = configuration.events // PUBLISHERS
        self._events = [
            Event.of(
                {
                    "specversion": "1.0",
                    "id": f"{number}-{index}",
                    "source": "/sim",
                    "type": f"org.example.{random.choice((1, 2))}",
                    "subject": f"k{random.randrange(configuration.keys)}",
                },
                b'{"n":1}',
                "json",
            )
            for index in range(count)
        ]

    async def publish(self) -> None:
        """Send everything, in order."""
        world, random = self._world, self._random
        gap_seconds = world.configuration.chaos_seconds / len(self._events)
        while self._events:
            await world.pause(random.random() * (0.1 if world.calm else 1.6 * gap_seconds))
            batch = self._events[: random.choice((1, 1, 1, 2, 3))]
            if await self._send(batch):
                del self._events[: len(batch)]
        self.done = True

    async def _send(self, batch: list[Event]) -> bool:
        world = self._world
        living = [relay for relay in world.relays if relay.alive and relay.node is not None]
        if not living:
            return False
        relay = self._random.choice(living)
        node = relay.node
        assert node is not None
        try:
            appended = await relay.call(lambda: node.ingest.accept(ANYONE, batch))
        except (ConnectionError, FairleadError) as error:
            world.say(f"publisher: {batch[0].id}: {type(error).__name__} {error}")
            return False
        self._check(batch, appended)
        return True

    def _check(self, batch: list[Event], appended: list[Appended]) -> None:
        world = self._world
        for event, one in zip(batch, appended, strict=True):
            place = (one.entry.partition, one.entry.position)
            logged = world.checker.log.get(place)
            if logged is None or logged.id != event.id or logged.key != event.key:
                world.checker.violated(f"ACCEPT {event.id} was acknowledged at {place}, where {logged} is")
        places = ", ".join(f"{one.entry.partition}:{one.entry.position}" for one in appended)
        world.say(f"publisher: {places} {'again' if appended[0].duplicate else ''}")
