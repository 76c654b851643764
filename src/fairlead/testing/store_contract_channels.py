# SPDX-License-Identifier: Apache-2.0
"""What every store's channels do for their owner, and what their lists show: `fairlead.ports.Channels`."""

from __future__ import annotations

from dataclasses import replace

from fairlead.core.channel import ChannelFlush, ChannelId, FilterRevision, Progress
from fairlead.core.outcome import Outcome
from fairlead.errors import Fenced, LeaseLost
from fairlead.ports import Store
from fairlead.testing.store_examples import (
    NOW,
    NOW_MS,
    REFUSED,
    Lane,
    StoreMaker,
    event,
    lane,
    on_store,
    run,
    subscription,
)


class ChannelsContract:
    """Fences, flushes, filters, lists."""

    @on_store
    async def test_taking_all_raises_every_lease_and_epoch(self, store: Store) -> None:
        one = await Lane.of(store)
        states = await store.channels.take_all("node-2")
        assert len(states) == store.log.partitions
        again = next(state for state in states if state.fence.channel == one.channel)
        assert again.fence.lease > one.state.fence.lease
        assert again.fence.epoch > one.state.fence.epoch
        assert again.fence.generation == one.state.fence.generation
        assert replace(again, fence=one.state.fence) == one.state
        (refusal,) = await store.channels.flush([ChannelFlush(one.state.fence, Progress(1, 1))])
        assert isinstance(refusal, LeaseLost)

    @on_store
    async def test_a_channel_is_loaded_under_the_lease_that_was_taken(self, store: Store) -> None:
        await store.subscriptions.create(subscription(), NOW_MS)
        try:
            await store.channels.load(ChannelId("console", 0))
            raise AssertionError("loaded without a lease")
        except LeaseLost:
            pass
        states = await store.channels.take_all("node-1")
        assert await store.channels.load(ChannelId("console", 0)) == states[0]
        assert await store.channels.load(ChannelId("nobody", 0)) is None

    def test_what_was_flushed_is_there_after_the_store_was_opened_again(self, make_store: StoreMaker) -> None:
        kept: list[object] = []

        async def write(store: Store) -> None:
            one = await Lane.of(store)
            last = Outcome("throttled", 429, "slow", 2.5, applied=3, generation=4, epoch=5)
            holds = (one.hold(2, "parked", last=last, last_at=NOW), one.hold(3, "slow", "other", last=None))
            await one.flush(Progress(1, 5, ((3, 3), (5, 5))), holds=holds, skips=(one.skip(1),))
            assert one.state.progress == Progress(1, 5, ((3, 3), (5, 5)))
            assert set(one.state.holds) == set(holds)
            assert one.state.skipped == {lane()}
            kept.append(replace(one.state, fence=replace(one.state.fence, epoch=0, lease=0)))

        async def look(store: Store) -> None:
            states = await store.channels.take_all("node-1")
            bare = [replace(s, fence=replace(s.fence, epoch=0, lease=0)) for s in states]
            assert kept[0] in bare

        run(make_store, write)
        run(make_store, look)

    @on_store
    async def test_a_flush_without_progress_leaves_it_and_released_holds_go(self, store: Store) -> None:
        one = await Lane.of(store)
        await one.flush(Progress(0, 5, ((2, 5),)), holds=(one.hold(1), one.hold(3, key="other")))
        await one.flush(holds=(one.hold(2, attempt=4),), released=("other", "unknown"))
        assert one.state.progress == Progress(0, 5, ((2, 5),))
        assert one.state.holds == (one.hold(2, attempt=4),)

    @on_store
    async def test_a_fenced_channel_stores_nothing_and_stops_no_other(self, store: Store) -> None:
        one = await Lane.of(store)
        await store.subscriptions.create(subscription("other"), NOW_MS)
        other = await store.channels.load(ChannelId("other", one.partition))
        assert other is not None
        old = replace(one.state.fence, epoch=one.state.fence.epoch - 1)
        results = await store.channels.flush(
            [
                ChannelFlush(
                    old,
                    Progress(3, 5),
                    (one.hold(4),),
                    skips=(one.skip(1),),
                    attempts=(one.attempt(1),),
                    filter=FilterRevision(6, 2),
                ),
                ChannelFlush(other.fence, Progress(3, 5), (one.hold(4),)),
                ChannelFlush(replace(one.state.fence, generation=1), Progress(3, 5)),
            ]
        )
        assert isinstance(results[0], Fenced)
        assert not isinstance(results[0], LeaseLost)
        assert results[1] == other.fence
        assert isinstance(results[2], Fenced)
        assert await store.channels.load(one.channel) == one.state
        assert await store.attempts.attempts("console") == []
        changed = await store.channels.load(ChannelId("other", one.partition))
        assert changed is not None
        assert changed.progress == Progress(3, 5)
        assert changed.holds == (one.hold(4),)

    @on_store
    async def test_a_channel_that_is_gone_is_fenced(self, store: Store) -> None:
        one = await Lane.of(store)
        await store.subscriptions.delete("console")
        (refusal,) = await store.channels.flush([ChannelFlush(one.state.fence, Progress(1, 1))])
        assert isinstance(refusal, Fenced)
        assert await store.channels.load(one.channel) is None

    @on_store
    async def test_a_filter_comes_into_force_with_a_new_epoch(self, store: Store) -> None:
        one = await Lane.of(store)
        old = one.state.fence
        (fence,) = await store.channels.flush(
            [ChannelFlush(old, Progress(0, 5), filter=FilterRevision(6, 2))]
        )
        assert fence == replace(old, epoch=old.epoch + 1)
        state = await one.reload()
        assert state.filters == (FilterRevision(1, 1), FilterRevision(6, 2))
        assert state.fence == fence
        (refusal,) = await store.channels.flush([ChannelFlush(old, Progress(1, 5))])
        assert isinstance(refusal, Fenced)
        await one.flush(filter=FilterRevision(6, 3))
        assert one.state.filters == (FilterRevision(1, 1), FilterRevision(6, 3))
        await one.flush(filter=FilterRevision(4, 4))  # of a channel that went back: it holds from there on
        assert one.state.filters == (FilterRevision(1, 1), FilterRevision(4, 4))

    @on_store
    async def test_a_fence_is_raised_durably_and_past_what_was_told(self, store: Store) -> None:
        one = await Lane.of(store)
        old = one.state.fence
        raised = await store.channels.fence(old)
        assert raised == replace(old, epoch=old.epoch + 1)
        switched = await store.channels.fence(raised, at_least=40, target=1, reason="suspect")
        assert switched == replace(old, epoch=40, target=1)
        state = await one.reload()
        assert (state.fence, state.reason) == (switched, "suspect")
        assert state.switched_at is not None
        lower = await store.channels.fence(switched, at_least=7)
        assert (lower.epoch, lower.target) == (41, 1)
        assert (await one.reload()).switched_at == state.switched_at
        try:
            await store.channels.fence(old)
            raise AssertionError("an old fence was raised")
        except LeaseLost as error:
            raise AssertionError("the lease is held") from error
        except Fenced:
            pass

    @on_store
    async def test_holds_are_listed_in_pages_and_slow_ones_by_name_only(self, store: Store) -> None:
        one = await Lane.of(store)
        states = ("held", "parked", "slow", "held")
        holds = [one.hold(n, state, f"key {n}") for n, state in enumerate(states, 1)]
        await one.flush(Progress(0, 5), holds=tuple(holds))
        listed = await store.channels.holds("console", None, None, 10)
        assert [row.hold for row in listed] == [holds[0], holds[1], holds[3]]
        assert {(row.channel, row.scan_pos) for row in listed} == {(one.channel, 5)}
        page = await store.channels.holds("console", None, (one.partition, "key 1"), 1)
        assert [row.hold for row in page] == [holds[1]]
        assert [r.hold for r in await store.channels.holds("console", "slow", None, 10)] == [holds[2]]
        assert [r.hold for r in await store.channels.holds("console", "parked", None, 10)] == [holds[1]]
        assert await store.channels.count_holds("console") == {"held": 2, "parked": 1, "slow": 1}
        assert await store.channels.count_holds("other") == {}

    @on_store
    async def test_what_holds_cover_is_counted_up_to_a_bound(self, store: Store) -> None:
        one = await Lane.of(store)
        await one.flush(Progress(0, 4), holds=(one.hold(2),))
        assert await store.channels.count_waiting("console", 100) == 3, "2, 3 and 4; 5 was not read yet"
        assert await store.channels.count_waiting("console", 2) == 2
        assert await store.channels.count_waiting("other", 100) == 0

    @on_store
    async def test_skips_are_listed_newest_generation_first_and_counted_in_the_present_one(
        self, store: Store
    ) -> None:
        one = await Lane.of(store)
        await one.flush(
            Progress(3, 5), skips=(one.skip(1), one.skip(2, "exhausted"), one.skip(3, key="other"))
        )
        first = one.state.fence.generation
        assert await store.channels.count_skips("console") == 3
        await one.replay(2)
        assert one.state.skipped == frozenset()
        assert await store.channels.count_skips("console") == 0
        await one.flush(Progress(2, 5), skips=(one.skip(2),))
        assert await store.channels.count_skips("console") == 1
        rows = await store.channels.skips("console", None, 10)
        assert [(row.generation, row.skip.position) for row in rows] == [
            (one.state.fence.generation, 2),
            (first, 1),
            (first, 2),
            (first, 3),
        ]
        assert rows[2].skip == one.skip(2, "exhausted")
        after = (rows[1].generation, rows[1].channel.partition, rows[1].skip.position)
        assert await store.channels.skips("console", after, 1) == [rows[2]]
        before = store.channels.skipped_before
        assert await before(one.channel, first, lane(), 9, 9) == [2, 1]
        assert await before(one.channel, first, lane(), 2, 9) == [1]
        assert await before(one.channel, first, lane(), 9, 1) == [2]
        assert await before(one.channel, one.state.fence.generation, lane(), 9, 9) == [2]

    @on_store
    async def test_attempts_are_listed_newest_first_by_what_is_asked(self, store: Store) -> None:
        one = await Lane.of(store)
        refused = one.attempt(3, 1, REFUSED)
        await one.flush(attempts=(one.attempt(1), one.attempt(2, key="other"), refused))
        later = one.attempt(3, 2)
        await one.flush(attempts=(later, one.attempt(4)))
        listed = await store.attempts.attempts("console")
        assert [(a.position, a.attempt) for _, _, a in listed] == [(4, 1), (3, 2), (2, 1), (1, 1), (3, 1)]
        assert [a for _, _, a in listed] == [
            one.attempt(4), later, one.attempt(2, key="other"), one.attempt(1), refused
        ]  # fmt: skip
        assert {channel for _, channel, _ in listed} == {one.channel}
        numbers = [number for number, _, _ in listed]
        assert numbers == sorted(set(numbers), reverse=True)
        ask = store.attempts.attempts
        assert [a.position for _, _, a in await ask("console", key="other")] == [2]
        assert [a.attempt for _, _, a in await ask("console", position=3)] == [2, 1]
        assert [a for _, _, a in await ask("console", outcome="unavailable")] == [refused]
        assert len(await ask("console", outcome="delivered")) == 4
        assert await ask("console", partition=one.partition + 1) == []
        assert [n for n, _, _ in await ask("console", limit=2)] == numbers[:2]
        assert [n for n, _, _ in await ask("console", after=numbers[2], limit=9)] == numbers[3:]
        assert await store.attempts.last_error("console") == (refused.started_at, REFUSED)
        assert await store.attempts.last_error("other") is None

    @on_store
    async def test_attempts_are_pruned_by_age(self, store: Store) -> None:
        one = await Lane.of(store)
        for position in range(1, 6):
            await one.flush(attempts=(one.attempt(position, 1, REFUSED),))
        assert await store.attempts.prune_attempts(NOW, 100) == 0
        assert await store.attempts.prune_attempts(NOW + 4, 2) == 2
        assert await store.attempts.prune_attempts(NOW + 4, 2) == 1
        assert await store.attempts.prune_attempts(NOW + 4, 2) == 0
        assert [a.position for _, _, a in await store.attempts.attempts("console")] == [5, 4]

    @on_store
    async def test_accepting_goes_on_while_channels_are_written(self, store: Store) -> None:
        one = await Lane.of(store, 1)
        for number in range(2, 30):
            await store.log.append([event(number)], NOW)
            await one.flush(Progress(number - 1, number))
        assert (await store.log.heads())[one.partition] == 29
        assert one.state.progress == Progress(28, 29)
