# SPDX-License-Identifier: Apache-2.0
"""Stories told step by step, for what random worlds hardly ever come upon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fairlead.core.event import Event
from fairlead.core.policy import ANYONE
from fairlead.core.subscription import Start
from fairlead.drivers.http_client.message import HttpAnswer
from fairlead.engine.commands.replaying import ReplayRequest
from fairlead.errors import WrongState
from fairlead.stores.sqlite.queries import queries
from fairlead.testing.simulation.broker import FINE
from fairlead.testing.simulation.configurations import CONFIGURATIONS
from fairlead.testing.simulation.network import CALM
from fairlead.testing.simulation.operators import NAME
from fairlead.testing.simulation.relay import Relay
from fairlead.testing.simulation.world import World

KEY = "/sim k0"


class Scenario(World):
    """A calm world in which only what the story says happens."""

    def __init__(self, configuration: str, *, partitions: int = 1) -> None:
        super().__init__(0, replace(CONFIGURATIONS[configuration], poison=False, partitions=partitions))
        self.network.weather = CALM
        self.temper.fails = self.temper.dies = 0.0
        self._number = 0
        if self.bus is not None:
            self.bus.broker.weather = FINE

    async def _play(self) -> None:
        work = [] if self.bus is None else self.bus.start()
        await self.tell()
        await self._until_nothing_is_left()
        for task in work:
            task.cancel()

    async def tell(self) -> None:
        """What happens."""
        raise NotImplementedError

    async def publish(self, relay: Relay, *kinds: int, subject: str = "k0") -> None:
        """Events of one resource, at once."""
        events = []
        for kind in kinds:
            self._number += 1
            about = {
                "type": f"org.example.{kind}",
                "subject": subject,
                "source": "/sim",
                "specversion": "1.0",
            }
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
        for _ in range(1000):
            left = self.checker.outstanding(self.temper.poison)
            if self.violation is not None or not left:
                return
            await self.pause(0.05)
        self._violated(f"LIVE {left[0]}")

    @property
    def relay(self) -> Relay:
        return self.relays[-1]


class SkipOfWhatIsNotThere(Scenario):
    """An operator skips the head of a lane of which nothing is left (`skip_named`)."""

    def __init__(self, configuration: str = "rest-skip") -> None:
        super().__init__(configuration)

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


class FilterGrowsBehindAZombie(Scenario):
    """The old owner reads on by a filter that the new owner has put out of force (`filter_ack`)."""

    def __init__(self, configuration: str = "zombie-filters") -> None:
        super().__init__(configuration)

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


class HoldFarBeyondLowWater(Scenario):
    """A relay dies while one answer is out and, far behind that event, a lane is held (`scan_keep`)."""

    def __init__(self) -> None:
        super().__init__("filters")
        self._take = self.network.serve

    async def tell(self) -> None:
        await self.serve()
        await self.operators.subscribe(Start("beginning"), 1)
        self.temper.poison = KEY
        self.network.serve = self._take_one_slowly
        await self.publish(self.relay, 1, *[2] * 40, subject="slow")
        await self.publish(self.relay, 1)
        await self.until(lambda: self.rows("SELECT 1 FROM hold WHERE head_pos = 42"))
        self.relay.kill()
        await self.pause(0.2)
        self.temper.poison = None
        self.connection.refused = queries("log")["page"]  # the lane is read before the log
        await self.serve()

    async def _take_one_slowly(self, content_type: str, body: bytes) -> HttpAnswer | None:
        if b'"slow"' in body:
            await self.pause(0.5)
        return await self._take(content_type, body)


class FilterOfAChannelThatWentBack(Scenario):
    """A filter is changed while a replayed channel stands below where the filter before it began."""

    def __init__(self) -> None:
        super().__init__("rest")

    async def tell(self) -> None:
        await self.serve()
        await self.operators.subscribe(Start("beginning"), 1)
        await self.publish(self.relay, 1, 2, 1)
        await self._until_nothing_is_left()
        await self.operators.set_filter(3)
        await self.publish(self.relay, 1, 2)
        await self._until_nothing_is_left()
        node = self.relay.node
        assert node is not None
        await self.relay.call(lambda: node.subscribing.pause(ANYONE, NAME), lossless=True)
        back = ReplayRequest(position=(0, 1))
        await self.relay.call(lambda: node.operating.replay(ANYONE, NAME, back), lossless=True)
        await self.operators.set_filter(2)
        await self.publish(self.relay, 1, 2)
        await self.relay.call(lambda: node.subscribing.resume(ANYONE, NAME), lossless=True)


class OneBadKeyBehindABreaker(Scenario):
    """A target that was down comes back, but fails one resource for ever (`probe_turn`)."""

    def __init__(self) -> None:
        super().__init__("breaker")

    async def tell(self) -> None:
        await self.serve()
        await self.operators.subscribe(Start("beginning"), 3)
        self.temper.poison, self.temper.down = KEY, True
        await self.publish(self.relay, 1)
        await self.publish(self.relay, 1, subject="k1")
        node = self.relay.node
        assert node is not None
        await self.until(lambda: any(view.breaker_open for view in node.dispatcher.views(NAME)))
        self.temper.down = False


REST_SCENARIOS: dict[str, Callable[[], World]] = {
    "skip_named": SkipOfWhatIsNotThere,
    "filter_ack": FilterGrowsBehindAZombie,
    "filter_back": FilterOfAChannelThatWentBack,
    "probe_turn": OneBadKeyBehindABreaker,
    "scan_keep": HoldFarBeyondLowWater,
}
