# SPDX-License-Identifier: Apache-2.0
"""Rows 9 to 11 of the fault matrix: a crash loop at random points, power cuts, and a torn WAL."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.api import event
from tests.acceptance.history import Log, check_acknowledged, check_applied
from tests.acceptance.power import Disk
from tests.acceptance.processes import KILLED, RelayProcess, fairlead
from tests.acceptance.publishers import Publisher
from tests.acceptance.sinks import FAILED, LOST, TAKEN, Behaviour, Delivery, Reply, Sink
from tests.acceptance.waiting import until

KEYS = 20
BATCH = 4


def endless(name: str) -> Iterator[list[dict[str, Any]]]:
    """Batches of events of `KEYS` resources, for ever."""
    for number in itertools.count(1):
        for first in range(0, KEYS, BATCH):
            yield [event(number, f"{name}-{key}") for key in range(first, first + BATCH)]


def flaky(share: float, seed: int) -> Behaviour:
    """Fails sometimes, and sometimes loses the answer."""
    dice = random.Random(seed)

    def behave(delivery: Delivery) -> Reply | None:
        roll = dice.random()
        return FAILED if roll < share / 2 else LOST if roll < share else TAKEN

    return behave


def settle(relay: RelayProcess, sink: Sink, publishers: list[Publisher]) -> None:
    """Let everything that was accepted arrive, and check it."""
    until(lambda: relay.api.drained("console"), lambda: f"all arrives: {relay.api.status('console')}")
    log = Log.read(relay.api)
    for publisher in publishers:
        check_acknowledged(publisher.acknowledged, log)
    check_applied(sink.history, log, once=False)


def crash_loop(relay: RelayProcess, disk: Disk, sink: Sink, *, kills: int, seed: int, power: bool) -> None:
    """Kill at random points of the store's writing while events come and go; check at the end.

    Args:
        power: what was not fsynced is lost, or half of it.
    """
    dice = random.Random(seed)
    sink.behave = flaky(0.05, seed)
    relay.api.subscribe("console", sink.url)
    publishers = [Publisher(relay.port, endless(name)).start() for name in "ab"]
    try:
        for number in range(kills):
            disk.kill_at(
                dice.choice(["write", "sync"]),
                dice.choice(["before", "after"]),
                int(dice.expovariate(1 / 60)) + 1,
            )
            assert relay.ended() == KILLED, relay.said[-3000:]
            if power:
                disk.cut(dice if number % 2 else None)
            disk.forget()
            relay.launch()
            if number % 4:  # every fourth time it is killed again before it is ready, if it comes to that
                until(lambda: relay.is_ready or not relay.alive, "it recovers")
                assert relay.is_ready, relay.said[-3000:]
    finally:
        for publisher in publishers:
            publisher.stop()
    until(lambda: relay.is_ready, "it recovers")
    settle(relay, sink, publishers)
    assert relay.stop() == 0
    checked = fairlead("store", "check", "--store", f"sqlite:///{relay.store}", place=relay.place)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_row_09_crash_loop_of_50_kills(watched_relay: RelayProcess, disk: Disk, sink: Sink) -> None:
    crash_loop(watched_relay, disk, sink, kills=50, seed=random.randrange(2**32), power=False)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_row_09_crash_loop_of_1000_kills(watched_relay: RelayProcess, disk: Disk, sink: Sink) -> None:
    crash_loop(watched_relay, disk, sink, kills=1000, seed=random.randrange(2**32), power=False)


def test_row_10_power_cuts_lose_nothing_acknowledged(
    watched_relay: RelayProcess, disk: Disk, sink: Sink
) -> None:
    crash_loop(watched_relay, disk, sink, kills=12, seed=random.randrange(2**32), power=True)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_row_10_many_power_cuts_lose_nothing_acknowledged(
    watched_relay: RelayProcess, disk: Disk, sink: Sink
) -> None:
    crash_loop(watched_relay, disk, sink, kills=200, seed=random.randrange(2**32), power=True)


@pytest.mark.parametrize("tear", ["half", "all but a byte", "garbage"])
def test_row_11_a_torn_wal_write_recovers_to_the_last_commit(
    watched_relay: RelayProcess, disk: Disk, sink: Sink, tear: str
) -> None:
    relay = watched_relay
    relay.api.publish(event(1))  # nobody wants it yet, so nothing else is written
    wal = Path(f"{relay.store}-wal")
    size = wal.stat().st_size
    disk.kill_at("sync", "before")
    publisher = Publisher(relay.port, [[event(2)]]).start()
    assert relay.ended() == KILLED
    assert wal.stat().st_size > size, "the second was on its way into the WAL"
    tear_off(wal, size, tear)

    relay.start()
    publisher.finish()
    relay.api.subscribe("console", sink.url, start="beginning")
    settle(relay, sink, [publisher])
    assert sink.numbers() == {"k1": [1, 2]}
    assert publisher.sent_again > 0


def tear_off(wal: Path, good_bytes: int, tear: str) -> None:
    written = wal.stat().st_size - good_bytes
    with wal.open("r+b") as file:
        if tear == "garbage":
            file.seek(good_bytes + written // 2)
            file.write(random.randbytes(written - written // 2))
        else:
            file.truncate(good_bytes + (written // 2 if tear == "half" else written - 1))
