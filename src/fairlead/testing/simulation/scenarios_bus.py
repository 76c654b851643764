# SPDX-License-Identifier: Apache-2.0
"""Stories on a bus, told step by step, for what random worlds hardly ever come upon."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from fairlead.core.channel import Fence
from fairlead.core.subscription import Start
from fairlead.drivers.amqp.message import Message
from fairlead.drivers.http_client.message import HttpAnswer
from fairlead.engine.sending.channel_route import ChannelRoute
from fairlead.engine.sending.owner import Owner
from fairlead.engine.sending.sieve import Sieve
from fairlead.stores.sqlite.queries import queries
from fairlead.testing.simulation.broker import FINE
from fairlead.testing.simulation.bus import queue_name
from fairlead.testing.simulation.operators import NAME
from fairlead.testing.simulation.patching import around
from fairlead.testing.simulation.receivers import OutsideReceiver
from fairlead.testing.simulation.scenarios import (
    KEY,
    FilterGrowsBehindAZombie,
    Scenario,
    SkipOfWhatIsNotThere,
)
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


class EventFailsForLong(Scenario):
    """One event fails again and again: its lane is held, and the channel stays (`failed_moves`)."""

    def __init__(self) -> None:
        super().__init__("all")

    async def tell(self) -> None:
        await self.serve()
        await self.operators.subscribe(Start("beginning"), 3)
        await self.publish(self.relay, 1, 1, subject="k1")
        await self._until_nothing_is_left()
        before = self.checker.channels[0]
        self.temper.poison = KEY
        await self.publish(self.relay, 1, 1)
        await self.publish(self.relay, 1, 1, subject="k1")
        await self.until(lambda: self.rows("SELECT 1 FROM hold WHERE state = 'parked'"))
        after = self.checker.channels[0]
        if (before.epoch, before.target) != (after.epoch, after.target):
            self._violated(
                f"SWITCH to {after.target}, epoch {after.epoch}: one event failed, and the bus is well"
            )


class HoldFarBeyondALostMessage(Scenario):
    """A relay dies while the broker has lost one event and, far behind that, a lane is held (`scan_keep`)."""

    def __init__(self) -> None:
        super().__init__("bus-one-node")

    async def tell(self) -> None:
        assert self.bus is not None
        broker = self.bus.broker
        await self.serve()
        await self.operators.subscribe(Start("beginning"), 1)
        broker.weather = replace(FINE, lost=1.0)
        taken: list[Message] = []
        broker.taken = taken.append
        await self.publish(self.relay, 1, *[2] * 40, subject="lost")
        await self.until(lambda: taken)
        broker.weather = FINE
        self.temper.poison = KEY
        await self.publish(self.relay, 1)
        await self.until(lambda: self.rows("SELECT 1 FROM hold WHERE head_pos = 42"))
        self.relay.kill()
        await self.pause(0.2)
        self.temper.poison = None
        self.connection.refused = queries("log")["page"]  # the lane is read before the log
        await self.serve()


class FloorRisesBehindASlowHandler(Scenario):
    """A handler ends long after its event was skipped, and the inbox was pruned meanwhile (`floor_back`)."""

    def __init__(self) -> None:
        super().__init__("ext")
        self.configuration = replace(self.configuration, attempts=1)
        self._serve = self.network.serve
        self._copies: list[tuple[str, bytes]] = []

    async def tell(self) -> None:
        assert isinstance(self.receiver, OutsideReceiver)
        slow = [0.0, 1.7]
        self.receiver.breathe_seconds = lambda: slow.pop(0) if slow else 0.0
        self.network.serve = self._keep
        await self.serve()
        await self.operators.subscribe(Start("beginning"), 3)
        await self.publish(self.relay, 1)
        await self.until(lambda: self.rows("SELECT 1 FROM skip"))
        for subject in ("k1", "k1", "k2", "k3"):
            await self.publish(self.relay, 1, subject=subject)
            await self.pause(0.1)
        await self.pause(1.0)
        for content_type, body in self._copies:
            await self._serve(content_type, body)

    async def _keep(self, content_type: str, body: bytes) -> HttpAnswer | None:
        self._copies.append((content_type, body))
        return await self._serve(content_type, body)


class ReloadMeetsSwitch(Scenario):
    """Whenever a channel is about to go on over another target, it is read anew too (`unlocked`)."""

    def __init__(self) -> None:
        super().__init__("bus-one-node")

    async def tell(self) -> None:
        assert self.bus is not None
        broker = self.bus.broker

        def switch(original: Callable[..., None], route: ChannelRoute, *to: object) -> None:
            route._owner.reloading.soon()
            original(route, *to)

        async def load(original: Callable[..., Awaitable[None]], *what: object) -> None:
            await self.pause(0.02)
            await original(*what)

        def begin_epoch(original: Callable[..., None], owner: Owner, fence: Fence) -> None:
            self.wires.knows(self.relay.name, owner.subscription, fence)
            original(owner, fence)

        changes = around(ChannelRoute, "_switch", switch) + around(Sieve, "load", load)
        with ExitStack() as stack:
            for change in changes + around(Owner, "begin_epoch", begin_epoch):
                stack.enter_context(change)
            await self.serve()
            await self.operators.subscribe(Start("beginning"), 3)
            for _ in range(6):
                await self.publish(self.relay, 1, 1)
                await self.pause(6.0)
                broker.cut_off.add(self.relay.name)
                broker.tell()
                await self.publish(self.relay, 1, 1)
                await self.pause(1.0)
                broker.cut_off.clear()
                broker.tell()


BUS_SCENARIOS: dict[str, Callable[[], World]] = {
    "another_p": AnotherNumberOfPartitions,
    "failed": EventFailsForLong,
    "skip_named_bus": partial(SkipOfWhatIsNotThere, "all-skip"),
    "scan_keep_bus": HoldFarBeyondALostMessage,
    "unlocked": ReloadMeetsSwitch,
    "floor_back": FloorRisesBehindASlowHandler,
    "filter_ack_bus": partial(FilterGrowsBehindAZombie, "bus-filters"),
}
