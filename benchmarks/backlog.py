# SPDX-License-Identifier: Apache-2.0
"""A store with a backlog, written through the store itself before any relay opens it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from fairlead.core.channel import ChannelFlush, Hold, Progress
from fairlead.core.event import Event, partition_of
from fairlead.core.outcome import Outcome
from fairlead.core.subscription import DeliveryOptions, Matching, Secrets, Start, Subscription, Target
from fairlead.stores.sqlite.store import SqliteStore

BATCH = 1000
FAR_SECONDS = 86_400.0


def event(number: int, key: str) -> Event:
    return Event(
        str(number), "/bench", "org.example.state", subject=key, data={"n": number, "pad": "x" * 400}
    )


def subscription(sink: str, options: DeliveryOptions) -> Subscription:
    secrets = Secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    return Subscription("bench", Matching(), (Target(sink),), options, secrets, start=Start("beginning"))


async def _write(path: Path, sink: str, events: int, held: int, options: DeliveryOptions) -> None:
    store = SqliteStore.open(str(path))
    now = time.time()
    await store.subscriptions.create(subscription(sink, options), int(now * 1000))
    if held:
        await _hold(store, held, now)
    for begin in range(0, events, BATCH):
        numbers = range(begin, min(begin + BATCH, events))
        await store.log.append([event(number, f"key-{number % 1000}") for number in numbers], now)
    await store.close()


async def _hold(store: SqliteStore, held: int, now: float) -> None:
    """One event and one held lane for each of `held` keys, ready tomorrow."""
    states = {state.fence.channel.partition: state for state in await store.channels.take_all("backlog")}
    for begin in range(0, held, BATCH):
        keys = [f"held-{number}" for number in range(begin, min(begin + BATCH, held))]
        await store.log.append([event(-1 - begin - number, key) for number, key in enumerate(keys)], now)
    heads = await store.log.heads()
    outcome = Outcome("unavailable", 503, "written by the benchmark")
    for partition, state in states.items():
        entries = await store.log.read(partition, 0, heads[partition])
        holds = [
            Hold(one.key, one.position, 3, now + FAR_SECONDS, "held", now, outcome, now) for one in entries
        ]
        progress = Progress(heads[partition], heads[partition])
        result = await store.channels.flush([ChannelFlush(state.fence, progress, tuple(holds))])
        assert not isinstance(result[0], Exception), result


def write(
    path: Path, sink: str, *, events: int, held: int = 0, options: DeliveryOptions | None = None
) -> None:
    """Make the store; blocks."""
    assert partition_of("key-0", 8) in range(8)
    path.parent.mkdir(parents=True, exist_ok=True)
    asyncio.run(_write(path, sink, events, held, options or DeliveryOptions()))
