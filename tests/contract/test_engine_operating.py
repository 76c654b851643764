# SPDX-License-Identifier: Apache-2.0
"""Replays, and lanes put right by hand."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.core.channel import ChannelId, FilterRevision, Progress
from fairlead.core.event import partition_of
from fairlead.core.subscription import DeliveryOptions, Matching, Target
from fairlead.engine.commands.replaying import ReplayRequest
from fairlead.errors import (
    EventNotFound,
    Forbidden,
    InvalidRequest,
    InvalidSubscription,
    NotFound,
    NotReplayable,
    WrongState,
)
from tests.contract.engine_scene import ANYONE, NOW, Scene, event, lane, play, principal


async def _delivered(scene: Scene, count: int = 5, **changes: Any) -> ChannelId:
    """Events 1 … `count` of k1, all delivered to console."""
    await scene.publish(*(event(number) for number in range(1, count + 1)))
    await scene.subscribed(**changes)
    await scene.settle_all()
    return scene.channel("k1")


async def _held(scene: Scene, head: int = 2, state: str = "held", **changes: Any) -> ChannelId:
    """The same, but the lane of k1 is held from `head` on."""
    channel = await _delivered(scene, **changes)
    await scene.settle(channel, holds=(scene.hold(head, state),))
    return channel


# -- replay ------------------------------------------------------------------------------------------------


def test_what_retention_deletes_while_a_replay_waits_for_its_turn_is_refused() -> None:
    async def scenario(scene: Scene) -> None:
        (one, _) = await scene.publish(event(1), event(2))
        await scene.subscribed()
        await scene.settle_all()
        place = one.entry.partition, one.entry.position

        async def deleted_meanwhile() -> None:
            assert await scene.store.log.prune(place[0], [place[1]]) == 1

        scene.still.in_quiet = deleted_meanwhile
        before = await scene.state(scene.channel("k1"))
        with pytest.raises(NotReplayable):
            await scene.operating.replay(ANYONE, "console", ReplayRequest(position=place))
        assert await scene.state(scene.channel("k1")) == before

    play(scenario)


def test_a_position_sends_its_channel_back_while_nothing_is_in_flight() -> None:
    async def scenario(scene: Scene) -> None:
        channel = await _delivered(scene)
        before = (await scene.state(channel)).fence
        replayed = await scene.operating.replay(
            ANYONE, "console", ReplayRequest(position=(channel.partition, 3))
        )
        after = await scene.state(channel)
        assert (after.progress.low_water, after.progress.scan_pos) == (2, 2)
        assert after.fence.generation == replayed.generation > before.generation
        assert replayed.document() == {
            "generation": replayed.generation,
            "channels": [{"partition": channel.partition, "from": 3, "to": 5}],
            "events": 3,
        }
        assert scene.still.told[-2:] == [("quiet", "console", [channel.partition]), ("loud", "console")]

    play(scenario)


def test_a_time_sends_every_channel_back_that_has_read_anything_since() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.publish(event(1, "k1"))
        scene.clock.at += 10
        await scene.publish(event(2, "k1"), event(3, "k2"), event(4, "k3"))
        await scene.subscribed()
        await scene.settle_all()
        replayed = await scene.operating.replay(ANYONE, "console", ReplayRequest(time=NOW + 10))
        assert replayed.events == 3
        assert {one.partition for one in replayed.channels} == {
            scene.channel(key).partition for key in ("k1", "k2", "k3")
        }

    play(scenario)


def test_a_time_after_everything_is_no_way_back() -> None:
    async def scenario(scene: Scene) -> None:
        await _delivered(scene)
        with pytest.raises(NotReplayable):
            await scene.operating.replay(ANYONE, "console", ReplayRequest(time=NOW + 60))

    play(scenario)


def test_an_event_is_found_by_source_and_id() -> None:
    async def scenario(scene: Scene) -> None:
        channel = await _delivered(scene)
        request = ReplayRequest(event=("/heat", "a-4"))
        replayed = await scene.operating.replay(ANYONE, "console", request)
        assert [tuple(one) for one in replayed.channels] == [(channel.partition, 4, 5)]
        with pytest.raises(EventNotFound):
            await scene.operating.replay(ANYONE, "console", ReplayRequest(event=("/heat", "nothing")))

    play(scenario)


def test_an_event_under_several_keys_needs_the_key() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.publish(event(1, "k1"), event(1, "k2"))
        await scene.subscribed()
        await scene.settle_all()
        with pytest.raises(WrongState) as caught:
            await scene.operating.replay(ANYONE, "console", ReplayRequest(event=("/heat", "a-1")))
        assert {fault.detail for fault in caught.value.faults} == {lane("k1"), lane("k2")}
        request = ReplayRequest(event=("/heat", "a-1"), key=lane("k2"))
        assert (await scene.operating.replay(ANYONE, "console", request)).events == 1

    play(scenario)


def test_with_a_key_only_that_lane_goes_back() -> None:
    async def scenario(scene: Scene) -> None:
        channel = await _delivered(scene)
        other = next(f"o{n}" for n in range(100) if partition_of(lane(f"o{n}"), 8) == channel.partition)
        await scene.publish(event(9, other))
        await scene.settle_all()
        request = ReplayRequest(position=(channel.partition, 2), key=lane("k1"))
        replayed = await scene.operating.replay(ANYONE, "console", request)
        assert replayed.events == 4
        state = await scene.state(channel)
        assert state.progress.low_water == 6
        assert [(hold.key, hold.head_pos) for hold in state.holds] == [(lane("k1"), 2)]

    play(scenario)


def test_a_key_without_events_there_is_not_replayed() -> None:
    async def scenario(scene: Scene) -> None:
        channel = await _delivered(scene)
        request = ReplayRequest(position=(channel.partition, 2), key="nobody")
        with pytest.raises(EventNotFound):
            await scene.operating.replay(ANYONE, "console", request)
        assert not (await scene.state(channel)).holds

    play(scenario)


def test_a_replay_never_goes_forward() -> None:
    async def scenario(scene: Scene) -> None:
        channel = await _delivered(scene)
        for position in (6, 1000):
            with pytest.raises(NotReplayable):
                await scene.operating.replay(
                    ANYONE, "console", ReplayRequest(position=(channel.partition, position))
                )

    play(scenario)


def test_what_was_pruned_cannot_be_replayed_and_the_oldest_is_told() -> None:
    async def scenario(scene: Scene) -> None:
        channel = await _delivered(scene)
        await scene.store.log.prune(channel.partition, [1, 2])
        with pytest.raises(NotReplayable) as caught:
            await scene.operating.replay(ANYONE, "console", ReplayRequest(position=(channel.partition, 2)))
        assert caught.value.members == {"oldest": {"partition": channel.partition, "position": 3}}
        scene.clock.at += 8 * 86_400
        with pytest.raises(NotReplayable) as caught:
            await scene.operating.replay(ANYONE, "console", ReplayRequest(time=NOW - 60))
        assert "oldest" in caught.value.members

    play(scenario)


@pytest.mark.parametrize(
    "request_",
    [
        ReplayRequest(),
        ReplayRequest(time=NOW, position=(0, 1)),
        ReplayRequest(position=(0, 0)),
        ReplayRequest(position=(99, 1)),
        ReplayRequest(time=NOW, key="k", receiver="library"),
    ],
)
def test_an_impossible_replay_is_refused(request_: ReplayRequest) -> None:
    async def scenario(scene: Scene) -> None:
        await _delivered(scene)
        with pytest.raises(InvalidRequest):
            await scene.operating.replay(ANYONE, "console", request_)

    play(scenario)


def test_the_receiver_changes_with_a_replay_and_every_channel_begins_a_generation() -> None:
    async def scenario(scene: Scene) -> None:
        channel = await _delivered(scene)
        request = ReplayRequest(position=(channel.partition, 4), receiver="library")
        replayed = await scene.operating.replay(ANYONE, "console", request)
        assert [tuple(one) for one in replayed.channels] == [(channel.partition, 4, 5)]
        changed = await scene.subscribing.get(ANYONE, "console")
        assert (changed.options.receiver, changed.revision) == ("library", 2)
        for partition in range(scene.store.log.partitions):
            state = await scene.state(ChannelId("console", partition))
            assert state.fence.generation == replayed.generation
        assert ("adopt", "console", 2, "active") in scene.still.told

    play(scenario)


def test_the_receiver_changes_even_where_nothing_is_sent_again() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        request = ReplayRequest(time=NOW, receiver="library")
        replayed = await scene.operating.replay(ANYONE, "console", request)
        assert (replayed.channels, replayed.events) == ((), 0)
        assert (await scene.subscribing.get(ANYONE, "console")).options.receiver == "library"

    play(scenario)


def test_a_subscription_that_cannot_have_the_receiver_library_says_why() -> None:
    async def scenario(scene: Scene) -> None:
        await _delivered(scene, targets=(Target("https://console.example/", mode="binary"),))
        for request in (
            ReplayRequest(time=NOW, receiver="library"),
            ReplayRequest(time=NOW, settles="confirm"),
        ):
            with pytest.raises(InvalidSubscription):
                await scene.operating.replay(ANYONE, "console", request)

    play(scenario)


def test_retention_does_not_delete_under_a_replay() -> None:
    async def scenario(scene: Scene) -> None:
        channel = await _delivered(scene)
        scene.clock.at += 8 * 86_400
        heads = scene.store.log.heads

        async def replay_meanwhile() -> dict[int, int]:
            """A replay that begins after retention found out what is old."""
            scene.store.log.heads = heads  # type: ignore[method-assign]
            await scene.operating.replay(ANYONE, "console", ReplayRequest(position=(channel.partition, 2)))
            return await heads()

        scene.store.log.heads = replay_meanwhile  # type: ignore[method-assign]
        await scene.retention.prune(lambda: False)
        kept = [entry.position for entry in await scene.store.log.read(channel.partition, 0, 10)]
        assert kept == [2, 3, 4, 5]

    play(scenario)


# -- lanes -------------------------------------------------------------------------------------------------


def test_retry_goes_to_the_dispatcher_once_every_key_has_a_lane() -> None:
    async def scenario(scene: Scene) -> None:
        await _held(scene, state="parked")
        assert await scene.operating.retry(ANYONE, "console", keys=[lane("k1")]) == 1
        assert scene.still.told[-1] == ("retry", "console", [lane("k1")], None)
        with pytest.raises(NotFound) as caught:
            await scene.operating.retry(ANYONE, "console", keys=[lane("k1"), lane("k2")])
        assert lane("k2") in caught.value.detail
        await scene.subscribing.pause(ANYONE, "console")
        with pytest.raises(WrongState):
            await scene.operating.retry(ANYONE, "console", state="parked")

    play(scenario)


def test_a_lane_that_is_only_slow_is_not_held() -> None:
    async def scenario(scene: Scene) -> None:
        await _held(scene, state="slow")
        with pytest.raises(NotFound):
            await scene.operating.release(ANYONE, "console", keys=[lane("k1")])

    play(scenario)


@pytest.mark.parametrize("how", [{}, {"keys": ["x"], "state": "held"}])
def test_lanes_are_named_in_one_way(how: dict[str, Any]) -> None:
    async def scenario(scene: Scene) -> None:
        await _held(scene)
        with pytest.raises(InvalidRequest):
            await scene.operating.release(ANYONE, "console", **how)

    play(scenario)


@pytest.mark.parametrize("how", [{"keys": [lane("k1"), lane("k1")]}, {"state": "parked"}])
def test_release_gives_a_new_schedule_and_the_dispatcher_loads_it(how: dict[str, Any]) -> None:
    async def scenario(scene: Scene) -> None:
        channel = await _held(scene, state="parked")
        assert await scene.operating.release(ANYONE, "console", **how) == 1
        (hold,) = (await scene.state(channel)).holds
        assert (hold.state, hold.attempt, hold.ready_at) == ("held", 0, NOW)
        name, id, partitions = scene.still.told[-1]
        assert (name, id) == ("reload", "console")
        assert channel.partition in partitions

    play(scenario)


def test_skip_drops_the_head_on_record() -> None:
    async def scenario(scene: Scene) -> None:
        channel = await _held(scene)
        who = principal("operate", name="bob")
        assert await scene.operating.skip(who, "console", key=lane("k1"), position=2, reason="poison") == 1
        (hold,) = (await scene.state(channel)).holds
        assert hold.head_pos == 3
        (row,) = await scene.store.channels.skips("console", None, 10)
        assert (row.skip.position, row.skip.id, row.skip.reason, row.skip.by) == (2, "a-2", "operator", "bob")
        assert row.skip.note == "poison"
        assert scene.still.told[-1] == ("reload", "console", [channel.partition])
        assert scene.telemetry.skipped.value == 1

    play(scenario)


def test_only_the_head_can_be_skipped() -> None:
    async def scenario(scene: Scene) -> None:
        await _held(scene)
        for position in (1, 3):
            with pytest.raises(WrongState) as caught:
                await scene.operating.skip(ANYONE, "console", key=lane("k1"), position=position)
            assert caught.value.members == {"head": 2}
        with pytest.raises(NotFound):
            await scene.operating.skip(ANYONE, "console", key=lane("k2"), position=2)
        assert not await scene.store.channels.skips("console", None, 10)

    play(scenario)


def test_the_head_is_the_first_event_that_the_filter_in_force_there_passes() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.publish(event(1), event(2, type="noise"), event(3, type="noise"), event(4))
        await scene.subscribed(matching=Matching(types=("org.example.state",)))
        await scene.settle_all()
        channel = scene.channel("k1")
        await scene.settle(channel, holds=(scene.hold(2),))
        with pytest.raises(WrongState):
            await scene.operating.skip(ANYONE, "console", key=lane("k1"), position=2)
        await scene.subscribed(matching=Matching(types=("noise",)))
        await scene.settle(channel, filter=FilterRevision(3, 2))
        await scene.operating.skip(ANYONE, "console", key=lane("k1"), position=3)

    play(scenario)


def test_what_was_not_read_yet_is_no_head() -> None:
    async def scenario(scene: Scene) -> None:
        channel = await _held(scene, head=5)
        await scene.settle(channel, Progress(4, 4))
        with pytest.raises(WrongState) as caught:
            await scene.operating.skip(ANYONE, "console", key=lane("k1"), position=5)
        assert "nothing is left" in caught.value.detail

    play(scenario)


def test_operating_needs_a_grant_to_operate() -> None:
    async def scenario(scene: Scene) -> None:
        await _held(scene)
        for who in (principal("read", "subscribe", "publish"), principal("operate", subscriptions=("x",))):
            with pytest.raises(Forbidden):
                await scene.operating.retry(who, "console", state="held")
            with pytest.raises(Forbidden):
                await scene.operating.release(who, "console", state="held")
            with pytest.raises(Forbidden):
                await scene.operating.skip(who, "console", key=lane("k1"), position=2)
            with pytest.raises(Forbidden):
                await scene.operating.replay(who, "console", ReplayRequest(time=NOW))
        who = principal("operate", types=("other",))
        with pytest.raises(Forbidden):
            await scene.operating.skip(who, "console", key=lane("k1"), position=2)

    play(scenario)


def test_nothing_is_operated_that_is_not_there() -> None:
    async def scenario(scene: Scene) -> None:
        for call in (
            scene.operating.retry(ANYONE, "x", state="held"),
            scene.operating.release(ANYONE, "x", state="held"),
            scene.operating.skip(ANYONE, "x", key="k", position=1),
            scene.operating.replay(ANYONE, "x", ReplayRequest(time=NOW)),
        ):
            with pytest.raises(NotFound):
                await call

    play(scenario)


def test_a_library_receiver_stays_one_through_a_plain_replay() -> None:
    async def scenario(scene: Scene) -> None:
        channel = await _delivered(scene, options=DeliveryOptions(receiver="library"))
        await scene.operating.replay(ANYONE, "console", ReplayRequest(position=(channel.partition, 1)))
        assert (await scene.subscribing.get(ANYONE, "console")).options.receiver == "library"

    play(scenario)
