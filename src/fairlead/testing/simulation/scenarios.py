# SPDX-License-Identifier: Apache-2.0
"""Stories told step by step, for what random worlds hardly ever come upon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fairlead.core.event import Event
from fairlead.core.policy import ANYONE
from fairlead.core.subscription import Start
from fairlead.errors import WrongState
from fairlead.testing.simulation.configurations import CONFIGURATIONS
from fairlead.testing.simulation.network import CALM
from fairlead.testing.simulation.operators import NAME
from fairlead.testing.simulation.relay import Relay
from fairlead.testing.simulation.world import World

KEY = "/sim k0"


class _Scenario(World):
    """A calm world in which only what the story says happens."""

    def __init__(self, configuration: str) -> None:
        super().__init__(0, replace(CONFIGURATIONS[configuration], poison=False, partitions=1))
        self.network.weather = CALM
        self.temper.fails = self.temper.dies = 0.0
        self._number = 0

    async def _play(self) -> None:
        await self.tell()
        await self._until_nothing_is_left()

    async def tell(self) -> None:
        """What happens."""
        raise NotImplementedError

    async def publish(self, relay: Relay, *kinds: int) -> None:
        """Events of one resource, at once."""
        events = []
        for kind in kinds:
            self._number += 1
            about = {"type": f"org.example.{kind}", "subject": "k0", "source": "/sim", "specversion": "1.0"}
            events.append(Event.of({**about, "id": f"e-{self._number}"}, b"{}", "json"))
        node = relay.node
        assert node is not None
        await relay.call(lambda: node.ingest.accept(ANYONE, events), lossless=True)

    async def until(self, condition: Callable[[], object]) -> None:
        """Let things happen, a moment at a time, until something is so."""
        for _ in range(5000):
            if condition():
                return
            await self.pause(0.001)
        raise AssertionError("the story took another course")

    async def _until_nothing_is_left(self) -> None:
        await self.until(lambda: self.violation is not None or not self.checker.outstanding(None))

    @property
    def relay(self) -> Relay:
        return self.relays[-1]


class SkipOfWhatIsNotThere(_Scenario):
    """An operator skips the head of a lane of which nothing is left (`skip_named`)."""

    def __init__(self) -> None:
        super().__init__("rest-skip")

    async def tell(self) -> None:
        await self.serve()
        await self.operators.subscribe(Start("beginning"), 3)
        self.temper.poison = KEY
        await self.publish(self.relay, 1)
        await self.until(lambda: self.rows("SELECT 1 FROM skip"))
        self.temper.poison = None
        node = self.relay.node
        assert node is not None
        await self.relay.call(lambda: node.subscribing.pause(ANYONE, NAME), lossless=True)
        ((head,),) = self.rows("SELECT head_pos FROM hold")
        try:
            await self.relay.call(
                lambda: node.operating.skip(ANYONE, NAME, key=KEY, position=head), lossless=True
            )
        except WrongState:
            self.say("the skip is refused")
        await self.publish(self.relay, 1, 1)
        await self.relay.call(lambda: node.subscribing.resume(ANYONE, NAME), lossless=True)


class FilterGrowsBehindAZombie(_Scenario):
    """The old owner reads on by a filter that the new owner has put out of force (`filter_ack`)."""

    def __init__(self) -> None:
        super().__init__("zombie-filters")

    async def tell(self) -> None:
        await self.serve()
        old = self.relay
        await self.operators.subscribe(Start("beginning"), 1)
        await self.publish(old, 1)
        await self._until_nothing_is_left()
        await self.serve()
        await self.operators.set_filter(3)
        await self.publish(old, 2, 1)
        await self.pause(0.1)
        await self._poll()


SCENARIOS: dict[str, Callable[[], World]] = {
    "skip_named": SkipOfWhatIsNotThere,
    "filter_ack": FilterGrowsBehindAZombie,
}
