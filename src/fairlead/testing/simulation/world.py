# SPDX-License-Identifier: Apache-2.0
"""One simulated world: relays on one database, a network, a receiver, publishers, operators, and chaos.

First everything goes wrong for a while; then the faults heal, and everything owed must get through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any

from fairlead.core.log import Appended
from fairlead.core.subscription import Start
from fairlead.engine.node import Node
from fairlead.errors import FairleadError
from fairlead.testing.simulation.bus_side import BusSide
from fairlead.testing.simulation.chaos import Chaos
from fairlead.testing.simulation.checker import Checker, Strictness, Violation
from fairlead.testing.simulation.clock import BEGIN
from fairlead.testing.simulation.configurations import Configuration
from fairlead.testing.simulation.disk import new_database
from fairlead.testing.simulation.inbox import SimulatedInbox
from fairlead.testing.simulation.loop import Process, SimulatedLoop
from fairlead.testing.simulation.network import CALM, Network
from fairlead.testing.simulation.operators import NAME, TIMEOUT_SECONDS, Operators
from fairlead.testing.simulation.publishers import Publisher
from fairlead.testing.simulation.receivers import (
    Handler,
    LibraryReceiver,
    OutsideReceiver,
    PlainReceiver,
    Receiver,
    SplittingReceiver,
    Temper,
)
from fairlead.testing.simulation.relay import WINDOW, Relay
from fairlead.testing.simulation.telling import Outcome, told
from fairlead.testing.simulation.wires import WireChecker

HEALING_SECONDS = 120.0


@dataclass(slots=True)
class Switches:
    """What a mutant changes in the world rather than in the code; see `mutants`.

    Attributes:
        key_locked: the receiver locks a key while it handles it.
        undo_alone: a skip is undone by delivering its event alone, not by a replay of the lane.
        snapshots: the receiver's inbox reads what was stored before it got the key's lock.
    """

    key_locked: bool = True
    undo_alone: bool = False
    snapshots: bool = False


def strictness_of(configuration: Configuration) -> Strictness:
    """What is asked of a world's receiver."""
    plain = configuration.receiver in ("plain", "pos")
    return Strictness(
        once=configuration.receiver != "plain",
        outside=configuration.receiver == "ext",
        regress=configuration.regress,
        before_next=plain and not configuration.lazy and configuration.batch == 1,
    )


class World:
    """One run. `play` it once."""

    def __init__(self, seed: int, configuration: Configuration, *, switches: Switches | None = None) -> None:
        self.random = Random(seed)
        self.configuration = configuration
        self.switches = switches or Switches()
        self.story: list[str] = []
        self.violation: str | None = None
        self.loop = SimulatedLoop(self._fork())  # type: ignore[abstract]  # what it lacks needs a world
        self.new_store()
        self.temper = Temper()
        self.receiver = self._receiver()
        self.network = Network(self.loop, self._fork(), self.receiver.serve)
        self.bus = BusSide(self, self._fork()) if configuration.bus else None
        self.relays: list[Relay] = []
        self.operators = Operators(self, self._fork())
        self.publishers: list[Publisher] = []
        self.calm = False

    def new_store(self) -> None:
        """Begin with an empty database, of which the checker knows nothing."""
        self.checker = Checker(NAME, strictness_of(self.configuration), self._violated)
        self.wires = WireChecker(
            self.checker,
            self._violated,
            waiting=lambda *place: [] if self.bus is None else self.bus.waiting(*place),
            window=WINDOW,
            patience_seconds=0.9 * TIMEOUT_SECONDS,
            now=self.loop.time,
        )
        self.connection = connection = new_database()
        connection.committed = partial(self.checker.committed, connection)

    def _fork(self) -> Random:
        return Random(self.random.random())

    def _receiver(self) -> Receiver:
        handler = Handler(self._fork(), self.temper, self.applied)
        switches = self.switches
        inbox = SimulatedInbox(
            lambda: BEGIN + self.loop.time(), locking=switches.key_locked, snapshots=switches.snapshots
        )
        match self.configuration.receiver:
            case "lib":
                return LibraryReceiver(handler, inbox)
            case "split":
                return SplittingReceiver(handler, inbox)
            case "ext":
                return OutsideReceiver(handler, inbox)
            case kind:
                return PlainReceiver(handler, careful=kind == "pos")

    # -- what everybody uses ---------------------------------------------------------------------------

    def say(self, what: str) -> None:
        """Put a line in the story."""
        self.story.append(f"{self.loop.time():9.4f} {what}")

    def rows(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        """What the database holds."""
        found: list[tuple[Any, ...]] = self.connection.execute(sql, arguments).fetchall()
        return found

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @property
    def owner(self) -> Relay | None:
        """The relay that owns the partitions, if it lives."""
        living = [relay for relay in self.relays if relay.alive and relay.name == self.checker.owner]
        return living[-1] if living and living[-1].node is not None else None

    def _violated(self, what: str) -> None:
        self.say(f"VIOLATION {what}")
        self.violation = self.violation or what

    def applied(self, stamps: Any, key: str) -> None:
        """An event has had its effect."""
        self.say(f"applied {stamps.channel.partition}:{stamps.pos} generation {stamps.generation}")
        self.checker.applied(stamps, key)

    # -- relays ----------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Start one more relay; it takes every partition."""
        relay = Relay(
            f"relay-{len(self.relays)}", self.loop, self.connection, self.network, self.checker,
            configuration=self.configuration, random=self._fork(), say=self.say, wires=self.wires,
            broker=None if self.bus is None else self.bus.broker,
        )  # fmt: skip
        self.relays.append(relay)
        if self.configuration.crash and not self.calm:
            relay.clock.set_by = self.random.choice((0.0, 0.0, 0.0, -15.0, 15.0))
        try:
            await relay.start()
        except (FairleadError, ConnectionError) as error:
            self.say(f"{relay.name} cannot start: {error}")
            if relay.alive:
                relay.kill()

    async def guard(self) -> None:
        """What a service manager does: start again what is down or has failed, now and then."""
        while True:
            await asyncio.sleep(self.random.random() * 0.5)
            owner = self.owner
            if owner is not None and owner.node is not None and owner.node.failed.is_set():
                owner.kill()
            if self.owner is None and (self.configuration.late or not self.network.under_way):
                for relay in self.relays:
                    if relay.alive and not self.configuration.zombie:
                        relay.kill()
                await self.serve()
            if self.configuration.zombie:
                await self._poll()

    async def _poll(self) -> None:
        """What the nodes of a shared store do: look for what others have appended."""
        for relay in self.relays:
            node = relay.node if relay.alive else None
            if node is not None:
                try:
                    await relay.call(partial(_look_for_more, node))
                except (FairleadError, ConnectionError) as error:
                    self.say(f"{relay.name} cannot look for more: {error}")

    # -- the run ---------------------------------------------------------------------------------------

    def play(self, *, logged: bool = False) -> Outcome:
        """Run it all; never raises for what the relay does. `logged`: its log belongs to the story."""
        with told(self.say, self.loop.defects.append, logged=logged):
            try:
                self.loop.run(self._play())
            except Violation:
                pass
            except Exception as error:  # a defect of the relay, or of the simulation
                self._violated(f"DEFECT {type(error).__name__}: {error}")
        if self.violation is None and self.loop.defects:
            self._violated(f"DEFECT {self.loop.defects[0]}")
        self.connection.committed = None
        self.connection.close()
        return Outcome(self.violation, self.story, self.loop.steps, self.loop.time())

    async def _play(self) -> None:
        await self.serve()
        kinds = self.random.choice((1, 2, 3)) if self.configuration.filters else 3
        await self.operators.subscribe(Start("beginning"), kinds)
        self.publishers = [Publisher(self, self._fork(), number) for number in range(2)]
        chaos = Chaos(self, self._fork())
        work = [self._live(self.guard()), *(self._live(one.publish()) for one in self.publishers)]
        work += [] if self.bus is None else self.bus.start()
        turmoil = [self._live(chaos.rage()), self._live(chaos.meddle())]
        turmoil += [] if self.bus is None else [self._live(self.bus.faults.rage())]
        await self._until(self.configuration.chaos_seconds)
        for task in turmoil:
            task.cancel()
        await asyncio.wait(turmoil)
        await self._heal(chaos)
        for task in work:
            task.cancel()
        await asyncio.wait(work)

    def _live(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self.loop.spawn(Process("outside"), work)

    async def _until(self, seconds: float) -> None:
        end = self.loop.time() + seconds
        while self.loop.time() < end:
            await asyncio.sleep(0.25)
            self._stop_at_violation()

    def _stop_at_violation(self) -> None:
        if self.loop.defects:
            self._violated(f"DEFECT {self.loop.defects[0]}")
        if self.violation is not None:
            raise Violation(self.violation)

    async def _heal(self, chaos: Chaos) -> None:
        """Faults end (one key may stay poisoned); everything owed must get through."""
        self.say("everything heals")
        self.calm = True
        self.network.weather = CALM
        chaos.heal()
        if self.bus is not None:
            self.bus.faults.heal()
        until = self.loop.time() + HEALING_SECONDS
        left: list[str] = ["nothing was looked at"]
        while self.loop.time() < until:
            await self._until(1.0)
            await self.operators.put_all_right()
            if all(one.done for one in self.publishers):
                left = self.checker.outstanding(self.temper.poison)
                if not left:
                    await self._look_over()
                    return
        self._violated(f"LIVE {left[0]}")

    async def _look_over(self) -> None:
        """A clean stop leaves a sound store."""
        owner = self.owner
        if owner is not None and owner.node is not None:
            damages = await owner.call(owner.node.store.check, lossless=True)
            if damages:
                self._violated(f"STORE {damages[0]}")
            await owner.stop(1.0)
        self._stop_at_violation()


async def _look_for_more(node: Node) -> None:
    """At the log, and at what others have done to the channels. Raises LeaseLost for a zombie."""
    for subscription in await node.store.subscriptions.all():  # another node changed it as this one took over
        serving = node.dispatcher.serving(subscription.id)
        if serving is None:
            await node.dispatcher.adopt(subscription)
        elif serving.subscription.revision < subscription.revision:
            serving.replace(subscription)
            for owner in serving.owners.values():
                await owner.filter_differs()  # if so, it is adopted soon
        elif serving.subscription.state != subscription.state:
            serving.replace(replace(serving.subscription, state=subscription.state))
    for partition in range(node.store.log.partitions):
        entries = await node.store.log.read(partition, 0, 1000)
        node.dispatcher.offer([Appended(entry, duplicate=False) for entry in entries])
    for view in node.dispatcher.views(NAME):
        state = await node.store.channels.load(view.channel)
        if state is not None and state.fence != view.fence:
            await node.dispatcher.reload(NAME, {view.channel.partition})
