# SPDX-License-Identifier: Apache-2.0
"""Small values for tests of stores, and the way their scenarios run."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from fairlead.core.channel import (
    Attempt,
    ChannelFlush,
    ChannelId,
    ChannelState,
    Hold,
    Progress,
    ReplayFrom,
    Skip,
)
from fairlead.core.event import Event, partition_of
from fairlead.core.outcome import DELIVERED, Outcome
from fairlead.core.payload import Form
from fairlead.core.subscription import DeliveryOptions, Matching, Secrets, Start, Subscription, Target
from fairlead.ports import Store

S = TypeVar("S")
StoreMaker = Callable[[], Store | Awaitable[Store]]
"""Opens the test's database; called again, the same one."""

SOURCE = "/heat"
REFUSED = Outcome("unavailable", 503, "Service Unavailable")
NOW_MS = 1_795_359_000_000
NOW = NOW_MS / 1000


def on_store(scenario: Callable[[S, Store], Coroutine[Any, Any, None]]) -> Callable[[S, StoreMaker], None]:
    """A test of one scenario: opens the store, runs it, closes the store."""

    def test(self: S, make_store: StoreMaker) -> None:
        run(make_store, lambda store: scenario(self, store))

    test.__name__, test.__doc__ = scenario.__name__, scenario.__doc__
    return test


def run(make_store: StoreMaker, scenario: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
    """Open, run, close."""
    made = make_store()

    async def whole() -> None:
        store = await made if inspect.isawaitable(made) else made
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(whole())


def event(
    number: int, key: str = "k1", data: bytes | None = b'{"n": 1}', form: Form = "json", **more: str
) -> Event:
    """The event `a-<number>` of resource `key`."""
    attributes: dict[str, str | int | bool] = {
        "specversion": "1.0",
        "id": f"a-{number}",
        "source": SOURCE,
        "type": "org.example.state",
        "subject": key,
        **more,
    }
    return Event.of(attributes, data, form)


def lane(key: str = "k1") -> str:
    """The ordering key of `event(…, key)`."""
    return f"{SOURCE} {key}"


def subscription(id: str = "console", *, start: str | float = "beginning", **changes: Any) -> Subscription:
    """A subscription to everything; `start` may be a time."""
    begin = Start("time", start) if isinstance(start, float) else Start(start)  # type: ignore[arg-type]
    defaults: dict[str, Any] = {
        "matching": Matching(),
        "targets": (Target("https://console.example/hook"),),
        "options": DeliveryOptions(),
        "secrets": Secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        "start": begin,
    }
    return Subscription(id=id, **(defaults | changes))


class Lane:
    """One channel with `count` events of one key, as its owner sees it: the stage of most scenarios."""

    def __init__(self, store: Store, state: ChannelState, key: str) -> None:
        self.store = store
        self.state = state
        self.key = key

    @classmethod
    async def of(cls, store: Store, count: int = 5, key: str = "k1", id: str = "console") -> Lane:
        """Append events 1 … `count`, subscribe to them, own everything."""
        await store.log.append([event(number, key) for number in range(1, count + 1)], NOW)
        await store.subscriptions.create(subscription(id), NOW_MS)
        states = await store.channels.take_all("node-1")
        channel = ChannelId(id, partition_of(lane(key), store.log.partitions))
        return cls(store, next(state for state in states if state.fence.channel == channel), lane(key))

    @property
    def channel(self) -> ChannelId:
        return self.state.fence.channel

    @property
    def partition(self) -> int:
        return self.state.fence.channel.partition

    async def flush(self, progress: Progress | None = None, **parts: Any) -> None:
        """Flush under the present fence, which must hold."""
        (fence,) = await self.store.channels.flush([ChannelFlush(self.state.fence, progress, **parts)])
        if isinstance(fence, Exception):
            raise fence
        await self.reload()

    async def reload(self) -> ChannelState:
        state = await self.store.channels.load(self.channel)
        assert state is not None
        self.state = state
        return state

    async def replay(
        self, position: int, key: str | None = None, now_ms: int = NOW_MS + 1000
    ) -> ChannelState:
        """Send it back, and load it."""
        start = ReplayFrom(self.partition, position, key)
        fences = await self.store.channels.replay(self.channel.subscription, [start], now_ms)
        state = await self.reload()
        assert fences == {self.partition: state.fence}
        return state

    def hold(self, head_pos: int, state: str = "held", key: str | None = None, **more: Any) -> Hold:
        values: dict[str, Any] = {"attempt": 3, "ready_at": NOW + 60, "since": NOW - 60, "last": REFUSED}
        return Hold(key or self.key, head_pos, state=state, **(values | more))  # type: ignore[arg-type]

    def skip(self, position: int, reason: str = "operator", key: str | None = None) -> Skip:
        return Skip(key or self.key, position, SOURCE, f"a-{position}", reason, "alice", NOW)  # type: ignore[arg-type]

    def attempt(
        self, position: int, number: int = 1, outcome: Outcome = DELIVERED, key: str | None = None
    ) -> Attempt:
        return Attempt(position, key or self.key, number, 0, NOW + position, 12, outcome)
