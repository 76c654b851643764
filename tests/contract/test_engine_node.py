# SPDX-License-Identifier: Apache-2.0
"""A whole node: what is published reaches the sender, a stop keeps the rest, a failed store ends serving."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from fairlead.core.outcome import DELIVERED
from fairlead.core.subscription import Subscription, Target
from fairlead.drivers.sqlite.file import memory
from fairlead.engine.commands.replaying import ReplayRequest
from fairlead.engine.node import Node
from fairlead.engine.settings import EngineSettings
from fairlead.errors import Stopping, StoreFailed, StoreFull
from fairlead.ports import Answer, Delivery
from fairlead.stores.sqlite.store import SqliteStore
from fairlead.telemetry import Telemetry
from tests.contract.engine_scene import ANYONE, event, lane, subscription


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class TakingSender:
    """Takes everything, or nothing while `shut`."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.shut = False
        self.closed = False

    async def send(self, delivery: Delivery) -> Answer:
        if self.shut:
            await asyncio.Event().wait()
        self.taken += [parcel.entry.event.id for parcel in delivery.parcels]
        return Answer((DELIVERED,) * len(delivery.parcels), 1, time.time())

    async def check(self, target: Target, subscription: Subscription) -> float | None:
        return None

    async def close(self) -> None:
        self.closed = True


Scenario = Callable[[Node, TakingSender], Coroutine[Any, Any, None]]


def live(*scenarios: Scenario) -> None:
    """Run each scenario on a node of its own, one after the other on one database."""
    connection = memory()
    for scenario in scenarios:
        store = SqliteStore.open(connection=connection)

        async def whole(store: SqliteStore = store, scenario: Scenario = scenario) -> None:
            sender = TakingSender()
            settings = EngineSettings()
            node = Node(store, sender, SystemClock(), settings, random=Random(1), telemetry=Telemetry())
            await node.start()
            try:
                await scenario(node, sender)
            finally:
                await node.stop(grace_seconds=0.01)
            assert sender.closed

        asyncio.run(whole())
    connection.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def test_what_is_published_reaches_the_sender_in_order() -> None:
    async def scenario(node: Node, sender: TakingSender) -> None:
        await node.subscribing.create(ANYONE, subscription())
        await node.ingest.accept(ANYONE, [event(number) for number in range(5)])
        await until(lambda: len(sender.taken) == 5)
        assert sender.taken == [f"a-{number}" for number in range(5)]
        assert (await node.queries.readiness())["status"] == "ready"
        assert node.telemetry.commit_seconds.count > 0

    live(scenario)


def test_what_was_not_delivered_is_after_the_next_start() -> None:
    async def stuck(node: Node, sender: TakingSender) -> None:
        sender.shut = True
        await node.subscribing.create(ANYONE, subscription())
        await node.ingest.accept(ANYONE, [event(1), event(2)])

    async def again(node: Node, sender: TakingSender) -> None:
        await until(lambda: sender.taken == ["a-1", "a-2"])

    live(stuck, again)


def test_after_a_stop_nothing_is_taken() -> None:
    async def scenario(node: Node, sender: TakingSender) -> None:
        await node.stop(grace_seconds=0)
        assert node.phase == "stopping"
        with pytest.raises(Stopping):
            await node.ingest.accept(ANYONE, [event(1)])

    live(scenario)


def test_a_failed_store_ends_serving_from_whichever_thread() -> None:
    async def scenario(node: Node, sender: TakingSender) -> None:
        failure = StoreFailed("the disk is gone")
        assert node.store.on_failed is not None
        await asyncio.get_running_loop().run_in_executor(None, node.store.on_failed, failure)
        async with asyncio.timeout(30):
            await node.failed.wait()
        assert node.failure is failure
        assert (await node.queries.readiness())["status"] == "failed"

    live(scenario)


def test_what_cannot_be_stored_for_now_is_the_reason_until_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(node: Node, sender: TakingSender) -> None:
        made = (await node.subscribing.create(ANYONE, subscription())).subscription

        async def reason() -> str | None:
            status = await node.queries.status(made)
            assert status["state"] == "active"
            return str(status["reason"]) if status["reason"] else None

        async def full(_: object) -> None:
            raise StoreFull("the disk has no room left; free some")

        assert await reason() is None
        with monkeypatch.context() as disk:
            disk.setattr(node.store.channels, "flush", full)
            await node.ingest.accept(ANYONE, [event(1)])
            async with asyncio.timeout(30):
                while (said := await reason()) is None:
                    await asyncio.sleep(0.001)
            assert said == "what is delivered cannot be stored: the disk has no room left; free some"
        async with asyncio.timeout(30):
            while await reason() is not None:
                await asyncio.sleep(0.001)

    live(scenario)


def test_a_replay_sends_again_and_a_held_lane_can_be_looked_at() -> None:
    async def scenario(node: Node, sender: TakingSender) -> None:
        await node.subscribing.create(ANYONE, subscription())
        (appended,) = await node.ingest.accept(ANYONE, [event(1)])
        await until(lambda: sender.taken == ["a-1"])

        async def settled() -> bool:
            held = await node.queries.status(await node.subscribing.get(ANYONE, "console"))
            return bool(held["lag_events"] == 0)

        async with asyncio.timeout(30):
            while not await settled():
                await asyncio.sleep(0.001)
        place = (appended.entry.partition, 1)
        replayed = await node.operating.replay(
            ANYONE, "console", ReplayRequest(position=place, key=lane("k1"))
        )
        assert replayed.events == 1
        await until(lambda: sender.taken == ["a-1", "a-1"])

    live(scenario)
