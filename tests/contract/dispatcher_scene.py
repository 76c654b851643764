# SPDX-License-Identifier: Apache-2.0
"""A whole node in virtual time over a store in memory, and a sink whose answers the test says."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from random import Random
from typing import Any, TypeVar

from fairlead.core.channel import ChannelId, ChannelState, Hold
from fairlead.core.event import Event, partition_of
from fairlead.core.log import Appended
from fairlead.core.outcome import DELIVERED, Outcome
from fairlead.core.policy import ANYONE
from fairlead.core.subscription import Subscription, Target
from fairlead.engine.node import Node
from fairlead.engine.sending.dispatcher import Dispatcher
from fairlead.engine.settings import EngineSettings
from fairlead.ports import Answer, Bus, Delivery
from fairlead.stores.sqlite.store import SqliteStore
from fairlead.telemetry import Telemetry
from fairlead.testing.simulation.disk import Disk, new_database
from fairlead.testing.simulation.loop import Process, SimulatedLoop
from fairlead.testing.store_examples import NOW, event, lane, subscription

T = TypeVar("T")
DEADLINE_SECONDS = 3600.0  # virtual ones

__all__ = ["Scene", "Sink", "play"]


class LoopClock:
    """The loop's time."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return NOW + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()


class Sink:
    """Every receiver there is: takes everything within `seconds`, but for what the test says.

    Attributes:
        deliveries: what came, in the order in which it came.
        took: (subscription, subject, number of the event) in the order in which it was taken.
        answers: per subject, what comes of the next tries; then all is well.
        stuck: subjects whose requests do not end before `let_go`.
        most_at_once: how many requests were under way at once.
    """

    def __init__(self, loop: SimulatedLoop) -> None:
        self.seconds = 0.005
        self.deliveries: list[Delivery] = []
        self.at: list[float] = []
        self.took: list[tuple[str, str, int]] = []
        self.answers: dict[str, deque[Outcome]] = defaultdict(deque)
        self.down: dict[str, Outcome] = {}  # per subscription
        self.heard = True
        self.stuck: set[str] = set()
        self.under_way: Counter[tuple[str, str]] = Counter()
        self.most_at_once = 0
        self._loop = loop
        self._free = asyncio.Event()

    def let_go(self) -> None:
        self.stuck.clear()
        self._free.set()

    async def send(self, delivery: Delivery) -> Answer:
        started = self._loop.time()
        self.deliveries.append(delivery)
        self.at.append(started)
        subjects = {parcel.entry.event.subject or "" for parcel in delivery.parcels}
        made = f"{delivery.subscription.id} of {delivery.subscription.created_at}"
        lanes = {(made, subject) for subject in subjects}
        self.under_way.update(lanes)
        assert max(self.under_way.values(), default=0) <= 1, "a lane in flight twice"
        self.most_at_once = max(self.most_at_once, self.under_way.total())
        try:
            await asyncio.sleep(self.seconds)
            while subjects & self.stuck:
                self._free.clear()
                await self._free.wait()
        finally:
            self.under_way.subtract(lanes)
        duration_ms = int((self._loop.time() - started) * 1000)
        return Answer(self._outcomes(delivery), duration_ms, NOW + started, self.heard)

    def _outcomes(self, delivery: Delivery) -> tuple[Outcome, ...]:
        down = self.down.get(delivery.subscription.id)
        if not delivery.parcels:
            return (down or DELIVERED,)
        bad: dict[str, Outcome] = {}
        outcomes = []
        for parcel in delivery.parcels:
            one = parcel.entry.event
            subject = one.subject or ""
            if subject not in bad:
                told = down or (self.answers[subject].popleft() if self.answers[subject] else DELIVERED)
                if told.kind != "delivered":
                    bad[subject] = told
            if subject not in bad:
                self.took.append((delivery.subscription.id, subject, int(one.id.removeprefix("a-"))))
            outcomes.append(bad.get(subject, DELIVERED))
        return tuple(outcomes)

    async def check(self, target: Target, subscription: Subscription) -> float | None:
        return None

    async def close(self) -> None: ...

    # -- what came -------------------------------------------------------------------------------------

    def numbers(self, subject: str, id: str = "console") -> list[int]:
        """The events of a subject, in the order in which they were taken."""
        return [number for taker, key, number in self.took if (taker, key) == (id, subject)]

    def tries(self, subject: str) -> list[Delivery]:
        return [
            one for one in self.deliveries if any(parcel.entry.key == lane(subject) for parcel in one.parcels)
        ]


class Scene:
    """A node that can be killed and started again, and its sink."""

    def __init__(self, loop: SimulatedLoop, settings: EngineSettings, bus: Bus | None = None) -> None:
        self.loop = loop
        self.settings = settings
        self.bus = bus
        self.clock = LoopClock(loop)
        self.sink = Sink(loop)
        self.database = new_database()
        self._number = 0
        self._dead: set[asyncio.Task[Any] | None] = set()
        self.store: SqliteStore
        self.node: Node
        self.process: Process

    # -- life ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self.process = Process("node")
        self.store = SqliteStore.open(
            connection=self.database, executor=Disk(Random(3)), partitions=2, now=self.clock.now
        )
        self.node = Node(
            self.store,
            self.sink,
            self.clock,
            self.settings,
            random=Random(5),
            telemetry=Telemetry(),
            random_bytes=Random(9).randbytes,
            bus=self.bus,
        )
        await self.inside(self.node.start())

    async def crash(self) -> None:
        """As `kill -9`, and start again."""
        self.loop.kill(self.process)
        self.store.abandon()
        self.sink.under_way.clear()
        self._dead |= self.at_work()
        await self.start()

    def at_work(self) -> set[asyncio.Task[Any]]:
        """What else than the test itself has not ended."""
        return asyncio.all_tasks(self.loop) - self._dead - {asyncio.current_task(self.loop)}

    async def stop(self, grace_seconds: float = 20.0) -> None:
        await self.inside(self.node.stop(grace_seconds))

    async def inside(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a call in the node's process."""
        return await self.loop.spawn(self.process, work)

    @property
    def dispatcher(self) -> Dispatcher:
        return self.node.dispatcher

    # -- calls -----------------------------------------------------------------------------------------

    async def subscribe(self, id: str = "console", **changes: Any) -> Subscription:
        made = await self.inside(
            self.node.subscribing.create(ANYONE, subscription(id, **changes), replace=True)
        )
        return made.subscription

    async def stored(self, id: str = "console") -> Subscription:
        found = await self.inside(self.store.subscriptions.get(id))
        assert found is not None
        return found

    async def publish(self, *subjects: str, type: str = "org.example.state") -> list[Appended]:
        """One event of each subject, numbered 1, 2, 3 … over all."""
        events = []
        for subject in subjects:
            self._number += 1
            events.append(event(self._number, subject, type=type))
        return await self.accept(events)

    async def accept(self, events: Sequence[Event]) -> list[Appended]:
        return await self.inside(self.node.ingest.accept(ANYONE, events))

    async def until(self, condition: Callable[[], bool | Awaitable[bool]], what: str = "") -> None:
        """Wait in virtual time; nothing real passes."""
        deadline = self.loop.time() + DEADLINE_SECONDS
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            if self.loop.time() > deadline:
                raise AssertionError(f"never: {what or condition}; took {self.sink.took[-10:]}")
            await asyncio.sleep(0.002)

    async def until_took(self, count: int) -> None:
        await self.until(lambda: len(self.sink.took) >= count, f"{count} events taken")

    async def until_stored(self, subject: str, state: str | None, id: str = "console") -> Hold | None:
        """Until the subject's lane has a hold in that state on disk, or none."""
        found: list[Hold] = []

        async def stands() -> bool:
            found[:] = [hold for hold in (await self.state(subject, id)).holds if hold.key == lane(subject)]
            return found[0].state == state if found else state is None

        await self.until(stands, f"{subject} {state}")
        return found[0] if found else None

    async def until_settled(self, id: str = "console") -> None:
        """Until the store knows of nothing that is owed."""

        async def settled() -> bool:
            heads = await self.store.log.heads()
            channels = self.store.channels
            states = [await self.inside(channels.load(ChannelId(id, number))) for number in heads]
            return all(
                state is not None
                and not state.holds
                and state.progress.low_water == heads[state.fence.channel.partition]
                for state in states
            )

        await self.until(settled, "settled")

    async def state(self, subject: str, id: str = "console") -> ChannelState:
        partition = partition_of(lane(subject), self.store.log.partitions)
        state = await self.inside(self.store.channels.load(ChannelId(id, partition)))
        assert state is not None
        return state


def play(
    scenario: Callable[[Scene], Coroutine[Any, Any, None]],
    settings: EngineSettings | None = None,
    bus: Callable[[SimulatedLoop], Bus] | None = None,
) -> Scene:
    """Run a scenario against a started node; whatever nobody took is a failure."""
    loop = SimulatedLoop(Random(1))  # type: ignore[abstract]
    scene: list[Scene] = []

    async def whole() -> None:
        scene.append(Scene(loop, settings or EngineSettings(), bus(loop) if bus is not None else None))
        await scene[0].start()
        await scenario(scene[0])
        if scene[0].process.alive:
            await scene[0].stop()
            assert not scene[0].at_work(), "something of a stopped node goes on"

    loop.run(whole())
    assert not loop.defects
    return scene[0]
