# SPDX-License-Identifier: Apache-2.0
"""Retention deletes what everybody has and, by a rule that says so, the rest on record; nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.core.channel import Attempt, ChannelId, Hold, Progress
from fairlead.core.log import Entry
from fairlead.core.subscription import Matching
from fairlead.engine.retention.janitor import Janitor
from fairlead.engine.settings import DAY_SECONDS, EngineSettings, RetentionRules
from fairlead.errors import StoreBusy, StoreFailed
from fairlead.ports import Reject
from tests.contract.engine_scene import ANYONE, NOW, REFUSED, Scene, event, lane, play, subscription

AGED = EngineSettings(retention=RetentionRules(max_age_seconds=DAY_SECONDS))
KEYS = [f"k{n}" for n in range(6)]
WEEK = 7 * DAY_SECONDS


def never() -> bool:
    return False


def janitor_of(scene: Scene, rules: RetentionRules) -> Janitor:
    return Janitor(
        scene.clock,
        rules,
        retention=scene.retention,
        expiry=scene.expiry,
        attempts=scene.store.attempts,
        rejects=scene.store.rejects,
        handshakes=scene.handshakes,
    )


async def kept(scene: Scene) -> list[tuple[int, int]]:
    places = []
    for partition in range(scene.store.log.partitions):
        places += [(partition, one.position) for one in await scene.store.log.read(partition, 0, 1000)]
    return places


async def everything(scene: Scene) -> list[Entry]:
    log = scene.store.log
    return [one for partition in range(log.partitions) for one in await log.read(partition, 0, 1000)]


def test_an_event_that_nobody_subscribed_to_is_kept_for_a_while_and_then_deleted() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.publish(event(1), event(2, "k2"))
        scene.clock.at += WEEK
        assert await scene.retention.prune(never) == 0
        scene.clock.at += 1
        assert await scene.retention.prune(never) == 2
        assert await kept(scene) == []

    play(scenario)


def test_positions_are_not_used_again_after_everything_was_deleted() -> None:
    async def scenario(scene: Scene) -> None:
        (before,) = await scene.publish(event(1))
        scene.clock.at += WEEK + 1
        await scene.retention.prune(never)
        (after,) = await scene.publish(event(2))
        assert after.entry.position == before.entry.position + 1

    play(scenario)


@pytest.mark.parametrize("state", ["active", "paused", "stopped", "disabled"])
def test_what_a_subscription_has_yet_to_get_is_kept_whatever_its_state(state: str) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        await scene.store.subscriptions.set_state("console", state, None, NOW)
        await scene.publish(event(1))
        scene.clock.at += 100 * WEEK
        assert await scene.retention.prune(never) == 0

    play(scenario)


def test_a_subscription_made_meanwhile_gets_what_its_start_promises() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.publish(*(event(n) for n in range(1, 4)))
        scene.clock.at += WEEK + 1
        await asyncio.gather(scene.retention.prune(never), scene.subscribed(start="beginning"))
        low_water = (await scene.state(scene.channel("k1"))).progress.low_water
        remaining = [position for _, position in await kept(scene)]
        assert remaining == list(range(low_water + 1, 4))

    play(scenario)


def test_what_a_hold_keeps_is_deleted_once_it_is_released() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.publish(*(event(n) for n in range(1, 5)))
        await scene.subscribed()
        await scene.settle_all()
        await scene.settle(scene.channel("k1"), holds=(scene.hold(3, "parked"),))
        scene.clock.at += WEEK + 1
        assert await scene.retention.prune(never) == 2
        assert await scene.retention.prune(never) == 0
        await scene.settle(scene.channel("k1"), released=(lane("k1"),))
        assert await scene.retention.prune(never) == 2

    play(scenario)


@dataclass
class Share:
    """What one subscription has of each partition, as drawn: how far, which ranges above, what is held."""

    low: float
    scan: float
    done: bool
    held: dict[str, float]


shares = st.builds(
    Share,
    low=st.floats(0, 1),
    scan=st.floats(0, 1),
    done=st.booleans(),
    held=st.dictionaries(st.sampled_from(KEYS), st.floats(0, 1), max_size=2),
)
logs = st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), min_size=1, max_size=25)


async def stage(scene: Scene, log: list[tuple[str, bool]], old: int, drawn: list[Share]) -> None:
    """Append the log, the first `old` of it long ago, and give each subscription its share."""
    for number, (key, noisy) in enumerate(log):
        if number == old:
            scene.clock.at += WEEK + 1
        await scene.publish(event(number, key, type="noise" if noisy else "state"))
    if old >= len(log):
        scene.clock.at += WEEK + 1
    heads = await scene.store.log.heads()
    for number, share in enumerate(drawn):
        id = f"s{number}"
        matching = Matching(types=("state",)) if number else Matching()
        await scene.subscribing.create(ANYONE, subscription(id, matching=matching))
        for partition, head in heads.items():
            low = int(share.low * head)
            scan = low + int(share.scan * (head - low))
            done = ((low + 2, scan),) if share.done and low + 2 <= scan else ()
            holds = tuple(
                Hold(lane(key), max(1, int(at * scan)), 1, NOW, "held", NOW, REFUSED, NOW)
                for key, at in share.held.items()
                if scan and scene.channel(key).partition == partition
            )
            await scene.settle(ChannelId(id, partition), Progress(low, scan, done), holds=holds)


async def owed(scene: Scene, entries: list[Entry], count: int) -> dict[str, set[tuple[int, int]]]:
    """The naive truth: per subscription the places it has yet to get, its filter aside."""
    by_subscription: dict[str, set[tuple[int, int]]] = {}
    for number in range(count):
        places = by_subscription[f"s{number}"] = set()
        for entry in entries:
            state = await scene.state(ChannelId(f"s{number}", entry.partition))
            progress, position = state.progress, entry.position
            held = [one for one in state.holds if one.key == entry.key and one.head_pos <= position]
            settled = position <= progress.low_water or any(a <= position <= b for a, b in progress.done)
            if not settled or (held and position <= progress.scan_pos):
                places.add((entry.partition, position))
    return by_subscription


@settings(max_examples=60, deadline=None)
@given(log=logs, old=st.integers(0, 25), drawn=st.lists(shares, max_size=2), data=st.data())
def test_keep_deletes_only_what_is_old_and_settled_for_all(
    log: list[tuple[str, bool]], old: int, drawn: list[Share], data: Any
) -> None:
    async def scenario(scene: Scene) -> None:
        await stage(scene, log, old, drawn)
        before = await everything(scene)
        cutoff = scene.clock.at - WEEK
        waited_for = set().union(*(await owed(scene, before, len(drawn))).values())
        await scene.retention.prune(never)
        after = set(await kept(scene))
        lowest = {
            partition: min(
                [
                    (await scene.state(ChannelId(f"s{n}", partition))).progress.low_water
                    for n in range(len(drawn))
                ],
                default=10**6,
            )
            for partition in range(scene.store.log.partitions)
        }
        for entry in before:
            place = (entry.partition, entry.position)
            if entry.accepted_at >= cutoff or place in waited_for:
                assert place in after, "deleted though young or somebody's"
            elif entry.position <= lowest[entry.partition]:
                assert place not in after, "kept though old and everybody's"

    play(scenario)


@settings(max_examples=60, deadline=None)
@given(log=logs, old=st.integers(0, 25), drawn=st.lists(shares, max_size=2))
def test_max_age_deletes_all_that_is_old_with_one_skip_for_each_that_was_still_owed(
    log: list[tuple[str, bool]], old: int, drawn: list[Share]
) -> None:
    async def scenario(scene: Scene) -> None:
        await stage(scene, log, old, drawn)
        before = await everything(scene)
        waiting = await owed(scene, before, len(drawn))
        cutoff = scene.clock.at - DAY_SECONDS
        gone = {(one.partition, one.position): one for one in before if one.accepted_at < cutoff}
        assert await scene.expiry.expire(never) == len(gone)
        assert set(await kept(scene)) == {(one.partition, one.position) for one in before} - set(gone)
        total = 0
        for id, places in waiting.items():
            rows = await scene.store.channels.skips(id, None, 1000)
            skipped = [(row.channel.partition, row.skip.position) for row in rows]
            wanted = {
                place for place in places & set(gone) if id == "s0" or gone[place].event.type == "state"
            }
            assert len(skipped) == len(set(skipped))
            assert set(skipped) == wanted
            assert all((row.skip.reason, row.skip.by) == ("retention", "retention.max_age") for row in rows)
            total += len(rows)
            for partition in {partition for partition, _ in wanted}:
                assert ("reload", id, [partition]) in scene.still.told
        assert scene.telemetry.skipped.value == total
        assert await scene.expiry.expire(never) == 0

    play(scenario, AGED)


@pytest.mark.parametrize("state", ["held", "parked"])
@pytest.mark.parametrize("paused", [False, True])
def test_a_lane_of_which_nothing_is_left_goes_and_another_stays(state: str, paused: bool) -> None:
    async def scenario(scene: Scene) -> None:
        names = (f"k{number}" for number in range(2, 99))
        other = next(name for name in names if scene.channel(name) == scene.channel("k1"))
        await scene.publish(event(1), event(2), event(3, other))
        await scene.subscribed()
        scene.clock.at += DAY_SECONDS
        await scene.publish(event(4, other))
        await scene.settle_all()
        channel = scene.channel("k1")
        await scene.settle(channel, holds=(scene.hold(1, state), scene.hold(3, state, other)))
        if paused:
            await scene.subscribing.pause(ANYONE, "console")
        scene.clock.at += 1
        assert await scene.expiry.expire(never) == 3
        (hold,) = (await scene.state(channel)).holds
        assert (hold.key, hold.state) == (lane(other), state)
        (listed,) = (await scene.queries.lanes(ANYONE, "console")).items
        assert (listed["key"], listed["waiting"], listed["head"]["id"]) == (lane(other), 1, "a-4")

    play(scenario, AGED)


def test_max_bytes_deletes_the_oldest_until_the_log_fits() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        for number in range(40):
            await scene.publish(event(number, KEYS[number % 6], data=b'"' + b"x" * 20_000 + b'"'))
            scene.clock.at += 1
        before = await everything(scene)
        deleted = await scene.expiry.expire(never)
        left = await everything(scene)
        assert 0 < deleted == len(before) - len(left)
        assert await scene.store.log.size_bytes() < 800_000
        assert left, "no more than needed is deleted"
        assert len(await scene.store.channels.skips("console", None, 1000)) == deleted

    play(scenario, EngineSettings(retention=RetentionRules(max_bytes=600_000)))


def test_a_chore_that_fails_is_done_at_the_next_sweep_and_keeps_no_other_from_being_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(scene: Scene) -> None:
        janitor = janitor_of(scene, RetentionRules(sweep_seconds=0.01))
        await scene.publish(event(1))
        scene.clock.at += WEEK + 1
        oldest, calls = scene.store.log.oldest, 0

        async def busy_once() -> dict[int, int]:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise StoreBusy("busy")
            return await oldest()

        scene.store.log.oldest = busy_once  # type: ignore[method-assign]
        await janitor.sweep()
        assert await kept(scene) == [(scene.channel("k1").partition, 1)]
        janitor.start()
        deadline = asyncio.get_running_loop().time() + 30
        while await kept(scene):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0)
        await janitor.stop()
        await janitor.stop()

    play(scenario)
    assert [record.chore for record in caplog.records if hasattr(record, "chore")] == ["retention"]


def test_a_damaged_row_stops_the_retention_of_its_partition_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.publish(*(event(number, f"k{number}") for number in range(1, 30)))
        partitions = {partition for partition, _ in await kept(scene)}
        assert min(partitions) < max(partitions)
        damaged = (bytes(16), min(partitions))
        scene.store.connection.execute("UPDATE log SET digest = ? WHERE partition = ? AND pos = 1", damaged)
        scene.clock.at += WEEK + 1
        await scene.retention.prune(never)
        left = scene.store.connection.execute("SELECT DISTINCT partition FROM log").fetchall()
        assert left == [(min(partitions),)]

    play(scenario)
    (record,) = [one for one in caplog.records if one.levelname == "ERROR"]
    assert "store check" in record.__dict__["detail"]


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("rules", [RetentionRules(max_age_seconds=DAY_SECONDS), RetentionRules(max_bytes=1)])
def test_a_damaged_row_stops_the_expiry_of_its_partition_alone(
    rules: RetentionRules, first: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.publish(*(event(number, f"k{number % 9}") for number in range(1, 40)))
        await scene.subscribed(start="beginning")
        before = await kept(scene)
        partitions = {partition for partition, _ in before}
        assert len(partitions) > 1
        damaged = (bytes(16), min(partitions), first)
        scene.store.connection.execute("UPDATE log SET digest = ? WHERE partition = ? AND pos = ?", damaged)
        scene.clock.at += DAY_SECONDS + 1
        others = sum(partition != min(partitions) for partition, _ in before)
        assert await scene.expiry.expire(never) == others
        left = scene.store.connection.execute("SELECT DISTINCT partition FROM log").fetchall()
        assert left == [(min(partitions),)]
        assert scene.telemetry.skipped.value == others

    play(scenario, EngineSettings(retention=rules))
    (record,) = [one for one in caplog.records if one.levelname == "ERROR"]
    assert "store check" in record.__dict__["detail"]


def test_a_failed_store_ends_the_janitor() -> None:
    async def scenario(scene: Scene) -> None:
        janitor = janitor_of(scene, RetentionRules(sweep_seconds=0.01))

        async def broken() -> dict[int, int]:
            raise StoreFailed("broken")

        scene.store.log.oldest = broken  # type: ignore[method-assign]
        with pytest.raises(StoreFailed):
            await janitor.sweep()
        janitor.start()
        await janitor.stop()

    play(scenario)


def test_old_attempts_and_rejects_are_pruned() -> None:
    async def scenario(scene: Scene) -> None:
        rejects = scene.store.rejects
        await rejects.add_reject(Reject("r-1", "nova", NOW, "not JSON", {}, b"?", 1))
        await scene.subscribed()
        await scene.settle(scene.channel("k1"), attempts=(Attempt(1, lane("k1"), 1, 0, NOW, 1, REFUSED),))
        janitor = janitor_of(scene, RetentionRules())
        await janitor.sweep()
        assert (await scene.queries.attempts(ANYONE, "console")).items
        assert await rejects.rejects(None, None, 10)
        scene.clock.at += WEEK + 1
        await janitor.sweep()
        assert not await rejects.rejects(None, None, 10)
        assert not (await scene.queries.attempts(ANYONE, "console")).items

    play(scenario)
