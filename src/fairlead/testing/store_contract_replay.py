# SPDX-License-Identifier: Apache-2.0
"""What every store does to a channel from outside: replay, release, skip, retention (design, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fairlead.core.channel import ChannelFlush, ChannelId, Progress, ReplayFrom
from fairlead.errors import Fenced, NotFound, NotReplayable
from fairlead.ports import Store
from fairlead.testing.store_examples import NOW, NOW_MS, Lane, lane, on_store, subscription


async def refusal_of(
    store: Store, starts: Sequence[ReplayFrom], id: str = "console"
) -> NotReplayable | NotFound:
    """Why a replay that must be refused is."""
    try:
        await store.channels.replay(id, starts, NOW_MS + 9)
    except (NotReplayable, NotFound) as refusal:
        return refusal
    raise AssertionError("the replay was not refused")


async def is_fenced(one: Lane, old: ChannelFlush) -> bool:
    """Whether a flush of an owner that has not read the channel again is refused, and changes nothing."""
    before = await one.store.channels.load(one.channel)
    (result,) = await one.store.channels.flush([old])
    return isinstance(result, Fenced) and await one.store.channels.load(one.channel) == before


class ReplayContract:
    """Going back, releasing, skipping, expiring."""

    @on_store
    async def test_a_replay_reads_again_from_its_start_in_a_new_generation(self, store: Store) -> None:
        one = await Lane.of(store)
        await one.flush(Progress(4, 5))
        old = one.state.fence
        state = await one.replay(2, now_ms=NOW_MS + 5000)
        assert state.progress == Progress(1, 1)
        assert (state.fence.generation, state.fence.epoch) == (NOW_MS + 5000, old.epoch + 1)
        assert await is_fenced(one, ChannelFlush(old, Progress(5, 5)))
        stored = await store.subscriptions.get("console")
        assert stored is not None
        assert stored.generation == NOW_MS + 5000

    @on_store
    async def test_a_generation_is_greater_than_the_last_even_if_the_clock_went_back(
        self, store: Store
    ) -> None:
        one = await Lane.of(store)
        await one.flush(Progress(5, 5))
        assert (await one.replay(1, now_ms=5)).fence.generation == NOW_MS + 1
        assert (await one.replay(1, now_ms=5)).fence.generation == NOW_MS + 2

    @on_store
    async def test_a_replay_drops_holds_at_or_above_its_start_and_renews_those_below(
        self, store: Store
    ) -> None:
        one = await Lane.of(store)
        await one.flush(
            Progress(5, 5), holds=(one.hold(2, key="a"), one.hold(3, key="b"), one.hold(1, "parked", key="c"))
        )
        state = await one.replay(3)
        assert {hold.key for hold in state.holds} == {"a", "c"}
        below, parked = state.holds
        assert (below.head_pos, below.attempt, below.state) == (2, 0, "held")
        assert below.ready_at <= NOW + 1
        assert (parked.head_pos, parked.attempt, parked.state) == (1, 0, "parked")

    @on_store
    async def test_a_replay_forgets_nothing_that_is_still_open_below_its_start(self, store: Store) -> None:
        one = await Lane.of(store)
        await one.flush(Progress(1, 5, ((3, 3), (5, 5))))
        state = await one.replay(4)
        assert state.progress == Progress(1, 3, ((3, 3),))
        assert (await one.replay(2)).progress == Progress(1, 1)

    @on_store
    async def test_a_keyed_replay_sends_one_lane_back_and_leaves_the_others(self, store: Store) -> None:
        one = await Lane.of(store)
        other = one.hold(4, "parked", "other")
        await one.flush(Progress(3, 5, ((5, 5),)), holds=(other,), skips=(one.skip(1),))
        old = one.state.fence
        state = await one.replay(2, lane())
        assert state.progress == Progress(3, 5, ((5, 5),))
        assert other in state.holds
        (mine,) = (hold for hold in state.holds if hold.key == lane())
        assert (mine.head_pos, mine.attempt, mine.state) == (2, 0, "held")
        assert mine.ready_at <= NOW + 1
        assert state.fence.generation > old.generation
        assert state.skipped == frozenset()
        assert await is_fenced(one, ChannelFlush(old, released=(lane(),)))

    @on_store
    async def test_a_keyed_replay_never_moves_a_lane_forward(self, store: Store) -> None:
        one = await Lane.of(store)
        await one.flush(Progress(5, 5), holds=(one.hold(2, "parked"),))
        (mine,) = (await one.replay(4, lane())).holds
        assert (mine.head_pos, mine.attempt, mine.state) == (2, 0, "held")
        (mine,) = (await one.replay(1, lane())).holds
        assert mine.head_pos == 1

    @on_store
    async def test_a_keyed_replay_hides_nothing_that_is_still_open_of_its_lane(self, store: Store) -> None:
        one = await Lane.of(store)
        await one.flush(Progress(1, 5, ((2, 2), (4, 4))))
        (mine,) = (await one.replay(5, lane())).holds
        assert mine.head_pos == 3

    @on_store
    async def test_going_forward_is_refused_and_changes_nothing(self, store: Store) -> None:
        one = await Lane.of(store)
        await one.flush(Progress(3, 3))
        before = one.state
        for start in (ReplayFrom(one.partition, 5), ReplayFrom(one.partition, 4, lane())):
            assert isinstance(await refusal_of(store, [ReplayFrom(one.partition, 1), start]), NotReplayable)
            assert await one.reload() == before
        stored = await store.subscriptions.get("console")
        assert stored is not None
        assert stored.generation == before.fence.generation

    @on_store
    async def test_going_back_to_what_was_pruned_is_refused_with_the_oldest(self, store: Store) -> None:
        one = await Lane.of(store)
        await one.flush(Progress(5, 5))
        await store.log.prune(one.partition, [1, 2])
        refusal = await refusal_of(store, [ReplayFrom(one.partition, 2)])
        assert refusal.members["oldest"] == {"partition": one.partition, "position": 3}
        assert (await one.replay(3)).progress == Progress(2, 2)

    @on_store
    async def test_several_channels_go_back_at_once(self, store: Store) -> None:
        await Lane.of(store)
        starts = [ReplayFrom(partition, 1) for partition in range(store.log.partitions)]
        fences = await store.channels.replay("console", starts, NOW_MS + 7)
        assert set(fences) == set(range(store.log.partitions))
        assert {fence.generation for fence in fences.values()} == {NOW_MS + 7}
        assert isinstance(await refusal_of(store, starts, "nobody"), NotFound)

    @on_store
    async def test_a_replacement_is_stored_with_the_replay_or_not_at_all(self, store: Store) -> None:
        one = await Lane.of(store)
        await one.flush(Progress(5, 5))
        plain = await store.subscriptions.get("console")
        assert plain is not None
        library = replace(plain, options=replace(plain.options, receiver="library"))
        try:
            await store.channels.replay("console", [ReplayFrom(one.partition, 9)], NOW_MS, library)
            raise AssertionError("the replay was not refused")
        except NotReplayable:
            assert await store.subscriptions.get("console") == plain
        await store.channels.replay("console", [ReplayFrom(one.partition, 1)], NOW_MS, library)
        stored = await store.subscriptions.get("console")
        assert stored is not None
        assert (stored.options.receiver, stored.revision) == ("library", plain.revision + 1)

    @on_store
    async def test_a_released_lane_begins_a_new_schedule_now(self, store: Store) -> None:
        one = await Lane.of(store)
        await one.flush(
            Progress(5, 5), holds=(one.hold(1, key="a"), one.hold(2, "parked", "b"), one.hold(3, "slow", "c"))
        )
        old = one.state.fence
        release = store.channels.release
        assert await release(one.channel, ["b", "b", "c", "unknown"], None, NOW) == 1
        state = await one.reload()
        assert state.fence == replace(old, epoch=old.epoch + 1)
        assert await is_fenced(one, ChannelFlush(old, released=("b",)))
        released = {hold.key: hold for hold in state.holds}
        assert (released["b"].attempt, released["b"].state, released["b"].ready_at) == (0, "held", NOW)
        assert released["b"].since == NOW
        assert released["a"].attempt == 3
        assert released["c"].state == "slow"
        assert await release(one.channel, None, "parked", NOW) == 0
        assert (await one.reload()).fence == state.fence
        assert await release(one.channel, None, "held", NOW + 1) == 2
        assert await release(one.channel, None, None, NOW + 1) == 2
        assert await release(ChannelId("nobody", 0), None, None, NOW) == 0

    @on_store
    async def test_an_operator_skips_the_head_that_was_named_and_no_other(self, store: Store) -> None:
        one = await Lane.of(store)
        await one.flush(Progress(5, 5), holds=(one.hold(2, "parked"), one.hold(3, "slow", "c")))
        old = one.state
        skip = store.channels.skip
        assert not await skip(one.channel, one.skip(3), 3, NOW)
        assert not await skip(one.channel, one.skip(3, key="c"), 3, NOW)
        assert not await skip(one.channel, one.skip(2, key="unknown"), 2, NOW)
        assert await one.reload() == old
        assert await skip(one.channel, one.skip(3), 2, NOW)
        state = await one.reload()
        mine = next(hold for hold in state.holds if hold.key == lane())
        assert (mine.head_pos, mine.attempt, mine.state, mine.ready_at) == (4, 0, "held", NOW)
        assert state.skipped == {lane()}
        assert state.fence == replace(old.fence, epoch=old.fence.epoch + 1)
        assert [row.skip for row in await store.channels.skips("console", None, 9)] == [one.skip(3)]
        assert await is_fenced(one, ChannelFlush(old.fence, Progress(5, 5)))

    @on_store
    async def test_expired_events_go_with_a_skip_for_each_who_waited(self, store: Store) -> None:
        one = await Lane.of(store)
        await store.subscriptions.create(subscription("other"), NOW_MS)
        gone = ChannelId("gone", one.partition)
        old = one.state.fence
        skips = {one.channel: [one.skip(1, "retention"), one.skip(2, "retention")], gone: [one.skip(1)]}
        assert await store.channels.expire(skips, one.partition, [1, 2, 99]) == 2
        assert (await store.log.oldest())[one.partition] == 3
        rows = await store.channels.skips("console", None, 9)
        assert [row.skip for row in rows] == skips[one.channel]
        assert (await one.reload()).fence.epoch == old.epoch + 1
        assert await is_fenced(one, ChannelFlush(old, Progress(2, 2)))
        assert await store.channels.count_skips("other") == 0
        assert await store.channels.count_skips("gone") == 0

    @on_store
    async def test_a_lane_of_which_the_log_keeps_nothing_goes_with_its_last_event(self, store: Store) -> None:
        one = await Lane.of(store)
        await one.flush(Progress(5, 5), holds=(one.hold(1),))
        await store.channels.expire({one.channel: []}, one.partition, [1, 2, 3, 4])
        assert len((await one.reload()).holds) == 1, "one event is left of it"
        await store.channels.expire({one.channel: []}, one.partition, [5])
        assert not (await one.reload()).holds
