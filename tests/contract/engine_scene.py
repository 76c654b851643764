# SPDX-License-Identifier: Apache-2.0
"""A store in memory, the use-cases over it, and a dispatcher that sends nothing: tests say what settles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from fairlead.core.channel import ChannelFlush, ChannelId, ChannelState, Fence, Hold, Progress
from fairlead.core.event import Event, partition_of
from fairlead.core.log import Appended
from fairlead.core.policy import ANYONE, Grant, Principal
from fairlead.core.subscription import Subscription, Target
from fairlead.engine.commands.handshakes import Handshakes
from fairlead.engine.commands.operating import Operating
from fairlead.engine.commands.subscribing import Subscribing
from fairlead.engine.ingest import Ingest
from fairlead.engine.queries.queries import Queries
from fairlead.engine.retention.expiry import Expiry
from fairlead.engine.retention.retention import Retention
from fairlead.engine.retention.turn import Turn
from fairlead.engine.revisions import Revisions
from fairlead.engine.sending.views import RouteView
from fairlead.engine.settings import EngineSettings
from fairlead.errors import FairleadError
from fairlead.ports import Answer, Delivery
from fairlead.stores.sqlite.store import SqliteStore
from fairlead.telemetry import Telemetry
from fairlead.testing.store_examples import NOW, REFUSED, event, lane, subscription

if TYPE_CHECKING:
    from fairlead.engine.sending.dispatcher import Dispatcher

__all__ = ["ANYONE", "NOW", "REFUSED", "Scene", "event", "lane", "play", "principal", "subscription"]


class HandClock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at - NOW


class WillingSender:
    """Checks what it is told to check; `refusal` is raised, `rate` allowed."""

    def __init__(self) -> None:
        self.checked: list[str] = []
        self.refusal: Exception | None = None
        self.rate: float | None = None

    async def send(self, delivery: Delivery) -> Answer:
        raise AssertionError("nothing is sent here")

    async def check(self, target: Target, subscription: Subscription) -> float | None:
        self.checked.append(target.sink)
        if self.refusal is not None:
            raise self.refusal
        return self.rate

    async def close(self) -> None: ...


@dataclass
class View:
    channel: ChannelId
    fence: Fence
    cursor: int
    open_positions: Collection[int] = ()
    holds: int = 0
    taken_over: tuple[tuple[int, int], ...] = ()
    in_flight_keys: frozenset[str] = frozenset()
    breaker_open: bool = False
    pending_filter: bool = False
    route: RouteView | None = None


@dataclass
class StillDispatcher:
    """The dispatcher's signatures; it notes what it was told."""

    told: list[tuple[Any, ...]] = field(default_factory=list)
    offered: list[Appended] = field(default_factory=list)
    seen: dict[str, list[View]] = field(default_factory=dict)
    in_force: bool = True
    in_quiet: Callable[[], Coroutine[Any, Any, None]] | None = None
    damage: dict[ChannelId, str] = field(default_factory=dict)
    refusal: FairleadError | None = None

    def offer(self, appended: Sequence[Appended]) -> None:
        self.offered += appended

    def forget(self, partition: int, up_to: int) -> None: ...

    async def adopt(self, subscription: Subscription) -> bool:
        self.told.append(("adopt", subscription.id, subscription.revision, subscription.state))
        return self.in_force

    async def drop(self, id: str) -> None:
        self.told.append(("drop", id))

    @asynccontextmanager
    async def quiet(self, id: str, partitions: Collection[int] | None = None) -> AsyncIterator[None]:
        self.told.append(("quiet", id, sorted(partitions or ())))
        if self.in_quiet is not None:
            await self.in_quiet()
        yield
        self.told.append(("loud", id))

    async def reload(self, id: str, partitions: Collection[int] | None = None) -> None:
        self.told.append(("reload", id, sorted(partitions or ())))

    def retry(self, id: str, keys: Collection[str] | None, state: str | None) -> int:
        self.told.append(("retry", id, keys, state))
        return len(keys or ())

    def views(self, id: str) -> list[View]:
        return self.seen.get(id, [])

    async def at_broker(self, id: str, partition: int | None = None) -> int:
        return 0

    def rate(self, id: str) -> float:
        return 1.25


class Scene:
    """The engine's use-cases over one store in memory."""

    def __init__(self, store: SqliteStore, settings: EngineSettings) -> None:
        self.store = store
        self.clock = HandClock()
        self.sender = WillingSender()
        self.still = StillDispatcher()
        self.telemetry = Telemetry()
        self.turn = Turn()
        self.phase = "ready"
        dispatcher = cast("Dispatcher", self.still)
        revisions = Revisions(store.subscriptions)
        rules = settings.retention
        self.ingest = Ingest(store.log, dispatcher, self.clock, settings, self.telemetry)
        self.subscribing = Subscribing(
            store, dispatcher, self.sender, self.clock, self.telemetry,
            random_bytes=Counted(), turn=self.turn,
        )  # fmt: skip
        self.operating = Operating(
            store, dispatcher, self.clock, self.telemetry,
            revisions=revisions, turn=self.turn, keep_seconds=rules.keep_seconds,
        )  # fmt: skip
        self.queries = Queries(
            store, dispatcher, self.clock, self.telemetry,
            arrivals=self.ingest.arrivals, revisions=revisions, phase=lambda: self.phase,
            log_room=self.ingest.room,
        )  # fmt: skip
        self.retention = Retention(
            store, self.clock, keep_seconds=rules.keep_seconds, turn=self.turn, deleted=self.still.forget
        )
        self.expiry = Expiry(
            store, dispatcher, self.clock, self.telemetry, rules, revisions=revisions, turn=self.turn
        )
        self.handshakes = Handshakes(
            store.subscriptions, dispatcher, self.sender, self.clock, period_seconds=86_400.0
        )

    async def publish(self, *events: Event) -> list[Appended]:
        return await self.ingest.accept(ANYONE, events)

    async def subscribed(self, id: str = "console", **changes: Any) -> Subscription:
        made = await self.subscribing.create(ANYONE, subscription(id, **changes), replace=True)
        return made.subscription

    def channel(self, key: str, id: str = "console") -> ChannelId:
        """The channel of `event(…, key)`."""
        return ChannelId(id, partition_of(lane(key), self.store.log.partitions))

    async def state(self, channel: ChannelId) -> ChannelState:
        state = await self.store.channels.load(channel)
        assert state is not None
        return state

    async def settle(
        self, channel: ChannelId, progress: Progress | None = None, **parts: Any
    ) -> ChannelState:
        """Store something of a channel as its owner would."""
        fence = (await self.state(channel)).fence
        (stored,) = await self.store.channels.flush([ChannelFlush(fence, progress, **parts)])
        assert isinstance(stored, Fence), stored
        state = await self.state(channel)
        self.see(state)
        return state

    async def settle_all(self, id: str = "console") -> None:
        """Everything was delivered."""
        for partition, head in (await self.store.log.heads()).items():
            await self.settle(ChannelId(id, partition), Progress(head, head))

    def see(self, state: ChannelState, **more: Any) -> None:
        """What the dispatcher would show of a channel."""
        fence, progress = state.fence, state.progress
        views = [
            view for view in self.still.views(fence.channel.subscription) if view.channel != fence.channel
        ]
        view = View(fence.channel, fence, progress.scan_pos, **more)
        self.still.seen[fence.channel.subscription] = [*views, view]

    def hold(self, head_pos: int, state: str = "held", key: str = "k1", **more: Any) -> Hold:
        values: dict[str, Any] = {"attempt": 3, "ready_at": NOW + 60, "since": NOW - 60, "last": REFUSED}
        values |= {"last_at": NOW - 1} | more
        return Hold(lane(key), head_pos, state=cast(Any, state), **values)


class Counted:
    """Bytes that differ from call to call and not from run to run."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, count: int) -> bytes:
        self.calls += 1
        return self.calls.to_bytes(count, "big")


def play(
    scenario: Callable[[Scene], Coroutine[Any, Any, None]], settings: EngineSettings | None = None
) -> None:
    """Run a scenario on a scene of its own."""

    store = SqliteStore.open(":memory:")

    async def whole() -> None:
        try:
            await store.channels.take_all("node-1")
            await scenario(Scene(store, settings or EngineSettings()))
        finally:
            await store.close()

    asyncio.run(whole())


def principal(*may: str, name: str = "alice", **limits: tuple[str, ...]) -> Principal:
    """Somebody with one grant."""
    return Principal(name, (replace(Grant(cast(Any, may)), **limits),))  # type: ignore[arg-type]
