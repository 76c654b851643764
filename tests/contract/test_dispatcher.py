# SPDX-License-Identifier: Apache-2.0
"""What the real dispatcher promises, over the real store and in virtual time (design, section 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import cast

import pytest

from fairlead.core.channel import ChannelId, ChannelState, Fence, Progress
from fairlead.core.event import partition_of
from fairlead.core.outcome import Outcome
from fairlead.core.policy import ANYONE
from fairlead.core.queues import Run
from fairlead.core.retry import RetryPolicy
from fairlead.core.subscription import BatchOptions, DeliveryOptions, Matching, Subscription
from fairlead.engine.commands.replaying import ReplayRequest
from fairlead.engine.sending.flusher import Flusher
from fairlead.engine.sending.owner import Owner
from fairlead.engine.settings import BreakerRules, EngineSettings, RetentionRules
from fairlead.errors import FairleadError, StoreBusy, StoreCorrupt
from fairlead.ports import Channels
from fairlead.testing.simulation.disk import DiskFault
from fairlead.testing.store_examples import event, lane
from tests.contract.dispatcher_scene import Scene, play

pytestmark = pytest.mark.may_block("the simulated loop runs the store's writer itself")

DOWN = Outcome("unavailable", 503, "Service Unavailable")
REJECTED = Outcome("rejected", 422, "no")
STEADY = RetryPolicy(first_seconds=10.0, jitter="none")
OPTIONS = DeliveryOptions(retry=STEADY)
SUBJECTS = [f"server-{number}" for number in range(40)]
TWO_OF_ONE_PARTITION = [name for name in SUBJECTS if partition_of(lane(name), 2) == 0][:2]


# -- order -------------------------------------------------------------------------------------------------


def test_each_resource_gets_its_events_in_order_and_once() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe()
        for _ in range(5):
            await scene.publish(*SUBJECTS)
        await scene.until_settled()
        assert len(scene.sink.took) == 5 * len(SUBJECTS)
        for subject in SUBJECTS:
            assert scene.sink.numbers(subject) == sorted(scene.sink.numbers(subject))

    play(scenario)


def test_a_resource_that_fails_holds_back_only_itself() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe(options=OPTIONS)
        bad, good = TWO_OF_ONE_PARTITION
        scene.sink.answers[bad].extend([DOWN, DOWN])
        await scene.publish(bad, good, bad, good)
        await scene.until(lambda: scene.sink.numbers(good) == [2, 4])
        assert scene.sink.numbers(bad) == []
        hold = await scene.until_stored(bad, "held")
        assert hold is not None

        async def nothing_else_is_kept_back() -> bool:
            return (await scene.state(bad)).progress == Progress(4, 4)

        await scene.until(nothing_else_is_kept_back)
        await scene.until(lambda: scene.sink.numbers(bad) == [1, 3])
        await scene.until_settled()
        gaps = [
            scene.sink.at[index]
            for index, one in enumerate(scene.sink.deliveries)
            if one in scene.sink.tries(bad)
        ]
        assert gaps[1] - gaps[0] >= 10.0
        assert gaps[2] - gaps[1] >= 20.0

    play(scenario)


def test_a_subscriber_that_is_down_holds_back_only_itself() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe("dead", options=DeliveryOptions(concurrency=4))
        await scene.subscribe("alive")
        scene.sink.down["dead"] = DOWN
        for _ in range(20):
            await scene.publish(*SUBJECTS)
        await scene.until_settled("alive")
        assert any(view.breaker_open for view in scene.dispatcher.views("dead"))
        assert all(taker == "alive" for taker, _, _ in scene.sink.took)
        held = await scene.store.channels.count_holds("dead")
        assert sum(held.values()) < 20, "a dead subscriber costs no rows"
        del scene.sink.down["dead"]
        await scene.until_settled("dead")
        assert all(scene.sink.numbers(subject, "dead") for subject in SUBJECTS)

    play(scenario, EngineSettings(breaker=BreakerRules(failures=3)))


def test_refusals_at_once_probe_as_soon_as_one_refusal() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe()
        scene.sink.down["console"] = DOWN
        await scene.publish(*SUBJECTS)
        await scene.until(lambda: any(view.breaker_open for view in scene.dispatcher.views("console")))
        opened_at = scene.loop.time()
        del scene.sink.down["console"]
        await scene.until_settled()
        assert scene.loop.time() - opened_at < 10.0

    play(scenario, EngineSettings(breaker=BreakerRules(failures=3)))


def test_a_slow_answer_keeps_nothing_else_back_and_settles_when_it_comes() -> None:
    async def scenario(scene: Scene) -> None:
        slow, other = TWO_OF_ONE_PARTITION
        await scene.subscribe()
        scene.sink.stuck.add(slow)
        await scene.publish(slow, other, slow)
        await scene.until_stored(slow, "slow")
        assert (await scene.state(slow)).progress == Progress(3, 3)
        assert await scene.store.channels.holds("console", None, None, 10) == []
        scene.sink.let_go()
        await scene.until_settled()
        assert scene.sink.numbers(slow) == [1, 3]

    play(scenario)


# -- how fast ----------------------------------------------------------------------------------------------


def test_no_more_requests_are_under_way_than_concurrency_allows() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe(options=DeliveryOptions(concurrency=3))
        await scene.publish(*SUBJECTS)
        await scene.until_settled()
        assert scene.sink.most_at_once == 3

    play(scenario)


def test_rate_bounds_the_requests_a_second() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe(options=DeliveryOptions(rate_per_second=10.0))
        await scene.publish(*SUBJECTS)
        await scene.until_settled()
        gaps = [after - before for before, after in zip(scene.sink.at, scene.sink.at[1:], strict=False)]
        assert min(gaps) >= 0.1 - 1e-6
        assert max(gaps) < 0.2

    play(scenario)


def test_a_429_slows_the_whole_subscription() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe(options=DeliveryOptions(concurrency=1))
        scene.sink.answers[SUBJECTS[0]].append(Outcome("throttled", 429, retry_after_seconds=30.0))
        await scene.publish(*SUBJECTS[:5])
        await scene.until_settled()
        at = dict(zip(scene.sink.at, scene.sink.deliveries, strict=True))
        refused_at = next(
            time for time, one in at.items() if one.parcels[0].entry.event.subject == SUBJECTS[0]
        )
        later = [time for time in at if time > refused_at]
        assert min(later) >= refused_at + 30.0

    play(scenario)


def test_a_target_that_throttles_without_asking_for_a_wait_is_not_hammered() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe()
        scene.sink.answers["x"] += [Outcome("throttled", 503, retry_after_seconds=0.0)] * 8
        await scene.publish("x")
        await scene.until_settled()
        pauses = [after - before for before, after in pairwise(scene.sink.at)]
        assert [pause >= 2**n / 2 for n, pause in enumerate(pauses)] == [True] * 8

    play(scenario)


def test_a_backlog_larger_than_read_ahead_is_sent_from_bounded_memory() -> None:
    async def scenario(scene: Scene) -> None:
        for _ in range(10):
            await scene.publish(*SUBJECTS)
        await scene.subscribe(options=DeliveryOptions(concurrency=4))
        most = 0

        def done() -> bool:
            nonlocal most
            most = max(most, *(len(view.open_positions) for view in scene.dispatcher.views("console")))
            return len(scene.sink.took) == 400

        await scene.until(done)
        assert 0 < most <= 16
        await scene.until_settled()
        for subject in SUBJECTS:
            assert scene.sink.numbers(subject) == sorted(scene.sink.numbers(subject))

    play(scenario, EngineSettings(read_ahead=16))


# -- what ends it ------------------------------------------------------------------------------------------


def test_410_disables_the_subscription_and_keeps_its_events() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe()
        scene.sink.answers["x"].append(Outcome("gone", 410))
        await scene.publish("x")

        async def disabled() -> bool:
            found = await scene.store.subscriptions.get("console")
            return found is not None and (found.state, found.reason) == ("disabled", "gone")

        await scene.until(disabled)
        await scene.publish("x")
        assert len(scene.sink.deliveries) == 1
        await scene.inside(scene.node.subscribing.resume(ANYONE, "console"))
        await scene.until_settled()
        assert scene.sink.numbers("x") == [1, 2]

    play(scenario)


def test_retries_used_up_stop_the_subscription_where_it_wants_that() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe(options=replace(OPTIONS, on_exhausted="stop"))
        scene.sink.answers["x"].append(REJECTED)
        await scene.publish("x", "x")

        async def stopped() -> bool:
            found = await scene.store.subscriptions.get("console")
            return found is not None and (found.state, found.reason) == ("stopped", "exhausted")

        await scene.until(stopped)
        assert len(scene.sink.deliveries) == 1
        await scene.inside(scene.node.subscribing.resume(ANYONE, "console"))
        await scene.until_settled()
        assert scene.sink.numbers("x") == [1, 2]

    play(scenario)


def test_what_is_paused_sends_nothing_and_goes_on_where_it_was() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe()
        await scene.publish("x")
        await scene.until_took(1)
        await scene.inside(scene.node.subscribing.pause(ANYONE, "console"))
        await scene.publish("x", "y")
        before = scene.loop.time()
        await scene.until(lambda: scene.loop.time() > before + 60.0)
        assert len(scene.sink.deliveries) == 1
        await scene.inside(scene.node.subscribing.resume(ANYONE, "console"))
        await scene.until_settled()
        assert scene.sink.numbers("x") == [1, 2]
        assert scene.sink.numbers("y") == [3]

    play(scenario)


def test_a_receiver_of_a_newer_generation_stops_the_subscription_as_store_behind() -> None:
    async def scenario(scene: Scene) -> None:
        made = await scene.subscribe(options=DeliveryOptions(receiver="library"))
        newer = Outcome("stale", 409, generation=made.generation + 1, epoch=0)
        scene.sink.answers["x"].append(newer)
        await scene.publish("x")

        async def stopped() -> bool:
            found = await scene.store.subscriptions.get("console")
            return found is not None and (found.state, found.reason) == ("stopped", "store-behind")

        await scene.until(stopped)
        assert scene.sink.took == []

    play(scenario)


def test_a_receiver_of_a_newer_epoch_gets_a_newer_one_still() -> None:
    async def scenario(scene: Scene) -> None:
        made = await scene.subscribe(options=DeliveryOptions(receiver="library"))
        scene.sink.answers["x"].append(Outcome("stale", 409, generation=made.generation, epoch=70))
        await scene.publish("x", "x")
        await scene.until_settled()
        assert scene.sink.numbers("x") == [1, 2]
        assert scene.sink.tries("x")[-1].fence.epoch == 71
        assert (await scene.state("x")).fence.epoch == 71

    play(scenario)


@pytest.mark.parametrize(
    "trouble", [StoreCorrupt("a row does not hold what was written"), StoreBusy("another program has it")]
)
def test_an_epoch_that_the_store_refuses_is_said_once_and_raised_when_it_can_be(
    trouble: FairleadError, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(scene: Scene) -> None:
        refused: list[Fence] = []

        async def refuse(fence: Fence, **_: object) -> Fence:
            refused.append(fence)
            raise trouble

        made = await scene.subscribe(options=DeliveryOptions(receiver="library"))
        scene.sink.answers["x"].append(Outcome("stale", 409, generation=made.generation, epoch=70))
        with monkeypatch.context() as store:
            store.setattr(scene.store.channels, "fence", refuse)
            await scene.publish("x")
            await scene.until(lambda: len(refused) > 3, "tried again and again")
            assert len(scene.sink.tries("x")) == 1, "nothing is sent that would be stale again"
        await scene.until_settled()
        assert scene.sink.tries("x")[-1].fence.epoch == 71

    play(scenario)
    told = [record for record in caplog.records if "epoch" in record.message]
    assert [vars(record)["detail"] for record in told] == [str(trouble)]


def test_a_channel_that_cannot_be_read_anew_yet_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(scene: Scene) -> None:
        refused: list[ChannelId] = []

        async def refuse(channel: ChannelId) -> ChannelState | None:
            refused.append(channel)
            raise StoreBusy("another program has it")

        made = await scene.subscribe(options=DeliveryOptions(receiver="library"))
        scene.sink.answers["x"].append(Outcome("stale", 409, generation=made.generation, epoch=70))
        with monkeypatch.context() as store:
            store.setattr(scene.store.channels, "load", refuse)
            await scene.publish("x")
            await scene.until(lambda: len(refused) > 3, "tried again and again")
        await scene.until_settled()

    play(scenario)
    told = [record for record in caplog.records if record.message == "a channel cannot be read anew yet"]
    assert [vars(record)["detail"] for record in told] == ["another program has it"]


# -- operators ---------------------------------------------------------------------------------------------


def test_a_parked_lane_is_tried_when_an_operator_says_so() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe(options=OPTIONS)
        scene.sink.answers["x"].extend([REJECTED, REJECTED])
        await scene.publish("x", "x")
        await scene.until_stored("x", "parked")
        operating = scene.node.operating
        assert await scene.inside(operating.retry(ANYONE, "console", keys=[lane("x")])) == 1
        await scene.until(lambda: len(scene.sink.deliveries) == 2)
        await scene.until_stored("x", "parked")
        assert await scene.inside(operating.release(ANYONE, "console", state="parked")) == 1
        await scene.until_settled()
        assert scene.sink.numbers("x") == [1, 2]

    play(scenario)


def test_a_skipped_event_is_never_sent_and_the_next_one_says_so() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe(options=OPTIONS)
        scene.sink.answers["x"].append(REJECTED)
        first, _, _ = await scene.publish("x", "x", "x")
        await scene.until_stored("x", "parked")
        position = first.entry.position
        skip = scene.node.operating.skip(ANYONE, "console", key=lane("x"), position=position)
        assert await scene.inside(skip) == 1
        await scene.until_settled()
        assert scene.sink.numbers("x") == [2, 3]
        _, second, third = scene.sink.tries("x")
        assert second.parcels[0].skipped == (position,)
        assert third.parcels[0].skipped == ()

    play(scenario)


def test_a_skip_by_rule_is_on_record_and_the_lane_goes_on() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe(options=replace(OPTIONS, on_exhausted="skip"))
        scene.sink.answers["x"].append(REJECTED)
        first, _ = await scene.publish("x", "x")
        await scene.until_settled()
        assert scene.sink.numbers("x") == [2]
        (skip,) = await scene.store.channels.skips("console", None, 10)
        assert (skip.skip.position, skip.skip.reason) == (first.entry.position, "exhausted")
        assert scene.sink.tries("x")[-1].parcels[0].skipped == (first.entry.position,)

    play(scenario)


def test_what_was_skipped_is_named_by_the_next_event_of_its_resource_and_by_no_later_one() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe(options=replace(OPTIONS, on_exhausted="skip"))
        taken = Outcome("delivered", 200)
        scene.sink.answers["x"].extend([REJECTED, taken, REJECTED, REJECTED, taken, taken])
        appended = await scene.publish("x", "y", "x", "x", "x", "x", "x")
        await scene.until_settled()
        one, _, _, three, four, _, _ = (each.entry.position for each in appended)
        named = {tries.parcels[0].entry.event.id: tries.parcels[0].skipped for tries in scene.sink.tries("x")}
        assert named["a-3"] == (one,)
        assert named["a-6"] == (three, four)
        assert named["a-7"] == ()

    play(scenario)


@pytest.mark.parametrize("by", ["position", "event", "time"])
def test_a_replay_begins_again_in_order_and_in_a_new_generation(by: str) -> None:
    async def scenario(scene: Scene) -> None:
        made = await scene.subscribe()
        appended = await scene.publish("x", "x", "x")
        await scene.until_settled()
        second = appended[1].entry
        request = {
            "position": ReplayRequest(position=(second.partition, second.position)),
            "event": ReplayRequest(event=(second.event.source, second.event.id)),
            "time": ReplayRequest(time=second.accepted_at),
        }[by]
        await scene.inside(scene.node.operating.replay(ANYONE, "console", request))
        await scene.until_settled()
        again = [1, 2, 3] if by == "time" else [2, 3]
        assert scene.sink.numbers("x") == [1, 2, 3, *again]
        assert scene.sink.tries("x")[-1].fence.generation > made.generation

    play(scenario)


def test_a_replay_of_one_lane_sends_nothing_of_the_others() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe()
        one, other = TWO_OF_ONE_PARTITION
        appended = await scene.publish(one, other, one, other)
        await scene.until_settled()
        first = appended[0].entry
        request = ReplayRequest(position=(first.partition, first.position), key=lane(one))
        await scene.inside(scene.node.operating.replay(ANYONE, "console", request))
        await scene.until_settled()
        assert scene.sink.numbers(one) == [1, 3, 1, 3]
        assert scene.sink.numbers(other) == [2, 4]

    play(scenario)


def test_a_replay_waits_for_what_is_in_flight_and_nothing_old_is_sent_after_it() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe()
        for _ in range(6):
            await scene.publish(*SUBJECTS)
        await scene.until_took(50)
        request = ReplayRequest(time=0.0)
        await scene.inside(scene.node.operating.replay(ANYONE, "console", request))
        await scene.until_settled()
        generations = [one.fence.generation for one in scene.sink.deliveries]
        assert generations == sorted(generations)
        assert len(set(generations)) == 2
        newest = [one for one in scene.sink.deliveries if one.fence.generation == generations[-1]]
        assert len(newest) == 6 * len(SUBJECTS)

    play(scenario)


def test_a_replay_sends_nothing_that_retention_has_deleted_though_memory_had_it() -> None:
    """Sent once from there and failing, it would be gone without a word: held lanes are read from the log."""

    async def scenario(scene: Scene) -> None:
        await scene.subscribe(options=OPTIONS)
        held, other = TWO_OF_ONE_PARTITION
        scene.sink.answers[held].append(DOWN)
        appended = await scene.publish(held, other, other)
        first = appended[0].entry

        async def only_the_held_one_is_kept() -> bool:
            return len(await scene.inside(scene.store.log.read(first.partition, 0, 10))) == 1

        await scene.until(only_the_held_one_is_kept, "retention has deleted what was delivered")
        request = ReplayRequest(position=(first.partition, first.position))
        await scene.inside(scene.node.operating.replay(ANYONE, "console", request))
        await scene.until_settled()
        assert (scene.sink.numbers(held), scene.sink.numbers(other)) == ([1], [2, 3])

    play(scenario, EngineSettings(retention=RetentionRules(keep_seconds=1.0, sweep_seconds=0.5)))


def test_a_retry_outlives_a_channel_that_is_read_anew() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe(options=OPTIONS)
        scene.sink.answers["x"].append(REJECTED)
        await scene.publish("x")
        await scene.until_stored("x", "parked")
        dispatcher = scene.dispatcher
        reloading = asyncio.ensure_future(scene.inside(dispatcher.reload("console")))
        await asyncio.sleep(0)
        assert dispatcher.retry("console", [lane("x")], None) == 1
        await reloading
        await scene.until_settled()
        assert scene.sink.numbers("x") == [1]

    play(scenario)


# -- filters -----------------------------------------------------------------------------------------------


def test_a_changed_filter_holds_from_the_answer_to_the_call() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe(matching=Matching(types=("org.example.a",)))
        await scene.publish("x", type="org.example.a")
        await scene.publish("x", type="org.example.b")
        wanted = replace(await scene.stored(), matching=Matching(types=("org.example.b",)))
        put = await scene.inside(scene.node.subscribing.create(ANYONE, wanted, replace=True))
        assert not put.pending
        await scene.publish("x", type="org.example.a")
        await scene.publish("x", type="org.example.b")
        await scene.until_settled()
        assert scene.sink.numbers("x") == [1, 4]

    play(scenario)


def test_a_filter_changed_while_channels_are_still_to_come_holds_on_all_of_them() -> None:
    async def scenario(scene: Scene) -> None:
        load, may_load = scene.store.channels.load, asyncio.Event()

        async def late(channel: ChannelId) -> ChannelState | None:
            if channel.partition == 1:
                await may_load.wait()
            return await load(channel)

        scene.store.channels.load = late  # type: ignore[method-assign]
        made = asyncio.create_task(scene.subscribe(matching=Matching(types=("org.example.a",))))
        await scene.until(lambda: scene.dispatcher.serving("console") is not None)
        wanted = replace(await scene.stored(), matching=Matching(types=("org.example.b",)))
        put = asyncio.create_task(scene.inside(scene.node.subscribing.create(ANYONE, wanted, replace=True)))
        await scene.until(lambda: _served(scene).matching == wanted.matching)
        may_load.set()
        assert not (await put).pending
        subjects = [f"x{number}" for number in range(8)]
        await scene.publish(*subjects, type="org.example.a")
        await scene.publish(*subjects, type="org.example.b")
        await made
        await scene.until_settled()
        assert [scene.sink.numbers(subject) for subject in subjects] == [[9 + number] for number in range(8)]

    play(scenario)


def _served(scene: Scene) -> Subscription:
    subscriber = scene.dispatcher.serving("console")
    assert subscriber is not None
    return subscriber.subscription


def test_a_held_lane_is_matched_by_the_filter_of_its_events_positions() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe(matching=Matching(types=("org.example.a",)), options=OPTIONS)
        scene.sink.answers["x"].append(DOWN)
        await scene.publish("x", type="org.example.a")
        await scene.publish("x", type="org.example.b")
        await scene.until_stored("x", "held")
        wanted = replace(await scene.stored(), matching=Matching(types=("org.example.b",)))
        await scene.inside(scene.node.subscribing.create(ANYONE, wanted, replace=True))
        await scene.publish("x", type="org.example.a")
        await scene.publish("x", type="org.example.b")
        await scene.crash()
        await scene.until_settled()
        assert scene.sink.numbers("x") == [1, 4]

    play(scenario)


# -- batches -----------------------------------------------------------------------------------------------


def test_a_batch_waits_for_company_and_not_longer_than_max_wait() -> None:
    async def scenario(scene: Scene) -> None:
        batch = BatchOptions(max_events=10, max_wait_seconds=2.0)
        await scene.subscribe(options=DeliveryOptions(batch=batch))
        before = scene.loop.time()
        one, other = TWO_OF_ONE_PARTITION
        await scene.publish(one, other, one)
        await scene.until_took(3)
        (delivery,) = scene.sink.deliveries
        assert scene.sink.at[0] >= before + 2.0
        assert [(parcel.entry.position, parcel.prev) for parcel in delivery.parcels] == [
            (1, 0),
            (3, 1),
            (2, 0),
        ]
        assert delivery.batch

    play(scenario)


def test_a_batch_that_few_keys_can_fill_does_not_wait() -> None:
    async def scenario(scene: Scene) -> None:
        batch = BatchOptions(max_events=4, max_wait_seconds=60.0)
        await scene.subscribe(options=DeliveryOptions(batch=batch))
        before = scene.loop.time()
        await scene.publish(*[SUBJECTS[0]] * 4)
        await scene.until_took(4)
        assert [len(each.parcels) for each in scene.sink.deliveries] == [4]
        assert scene.sink.at[0] < before + 60.0

    play(scenario)


def test_a_batch_keeps_within_its_bytes() -> None:
    async def scenario(scene: Scene) -> None:
        batch = BatchOptions(max_events=100, max_bytes=1000, max_wait_seconds=0.1)
        await scene.publish(*SUBJECTS, *SUBJECTS)
        await scene.subscribe(options=DeliveryOptions(batch=batch))
        await scene.until_settled()
        sizes = [sum(one.entry.event.size for one in each.parcels) for each in scene.sink.deliveries]
        assert max(sizes) <= 1000
        assert max(len(each.parcels) for each in scene.sink.deliveries) > 1

    play(scenario)


def test_a_lane_whose_batch_failed_goes_alone_and_the_others_settle() -> None:
    async def scenario(scene: Scene) -> None:
        batch = BatchOptions(max_events=10, max_wait_seconds=0.1)
        await scene.subscribe(options=replace(OPTIONS, batch=batch))
        bad, good = TWO_OF_ONE_PARTITION
        scene.sink.answers[bad].append(DOWN)
        await scene.publish(bad, good, bad, good)
        await scene.until_settled()
        assert scene.sink.numbers(good) == [2, 4]
        assert scene.sink.numbers(bad) == [1, 3]
        assert [len(one.parcels) for one in scene.sink.tries(bad)][:2] == [4, 1]

    play(scenario)


def test_a_batch_that_was_begun_goes_whole_though_its_subscription_takes_none_any_more() -> None:
    async def scenario(scene: Scene) -> None:
        batch = BatchOptions(max_events=4, max_wait_seconds=60.0)
        former = await scene.subscribe(options=replace(OPTIONS, batch=batch))
        subscriber = scene.dispatcher.serving("console")
        assert subscriber is not None
        start = subscriber._start

        def replaced_meanwhile(owner: Owner, runs: list[Run], now: float) -> None:
            start(owner, runs, now)
            subscriber.replace(replace(former, options=OPTIONS))

        subscriber._start = replaced_meanwhile  # type: ignore[method-assign]
        await scene.publish(*[SUBJECTS[0]] * 4)
        await scene.until_settled()
        assert [len(each.parcels) for each in scene.sink.deliveries] == [4]
        assert [each.batch for each in scene.sink.deliveries] == [True]

    play(scenario)


# -- restarts ----------------------------------------------------------------------------------------------


def test_a_start_goes_on_where_the_store_says() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe(options=OPTIONS)
        bad, good = TWO_OF_ONE_PARTITION
        scene.sink.answers[bad].append(DOWN)
        await scene.publish(bad, good, bad)
        await scene.until_stored(bad, "held")
        await scene.until(lambda: scene.sink.numbers(good) == [2])
        await scene.stop()
        await scene.start()
        await scene.until_settled()
        assert scene.sink.numbers(bad) == [1, 3]
        assert scene.sink.numbers(good) == [2]

    play(scenario)


def test_a_stop_waits_for_what_is_in_flight_and_stores_it() -> None:
    async def scenario(scene: Scene) -> None:
        scene.sink.seconds = 3.0
        await scene.subscribe()
        await scene.publish(*SUBJECTS)
        await scene.until(lambda: len(scene.sink.deliveries) == len(SUBJECTS))
        await scene.stop()
        assert len(scene.sink.took) == len(SUBJECTS)
        await scene.start()
        await scene.until_settled()
        assert len(scene.sink.deliveries) == len(SUBJECTS)

    play(scenario)


def test_what_does_not_end_within_the_grace_is_sent_again_after_the_start() -> None:
    async def scenario(scene: Scene) -> None:
        scene.sink.stuck.add("x")
        await scene.subscribe()
        await scene.publish("x")
        await scene.until(lambda: len(scene.sink.deliveries) == 1)
        await scene.stop(grace_seconds=5.0)
        assert scene.sink.took == []
        scene.sink.let_go()
        await scene.start()
        await scene.until_settled()
        assert scene.sink.numbers("x") == [1]

    play(scenario)


def test_a_crash_loses_nothing_and_repeats_at_most_the_last_request_of_each_resource() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe()
        for _ in range(3):
            await scene.publish(*SUBJECTS)
            await scene.until_took(len(scene.sink.took) + 7)
            await scene.crash()
        await scene.until_settled()
        for subject in SUBJECTS:
            numbers = scene.sink.numbers(subject)
            assert numbers == sorted(numbers)
            assert len(set(numbers)) == 3

    play(scenario)


@pytest.mark.parametrize("then", ["reload", "delete"])
def test_a_stop_leaves_nothing_behind_whatever_was_going_on(then: str) -> None:
    async def scenario(scene: Scene) -> None:
        scene.sink.stuck.add("x")
        await scene.subscribe()
        await scene.publish("x", "y")
        await scene.until_took(1)
        if then == "reload":
            await scene.inside(scene.dispatcher.reload("console"))
        else:
            await scene.inside(scene.node.subscribing.delete(ANYONE, "console"))
            await scene.subscribe()
        await scene.stop(grace_seconds=2.0)
        assert not scene.at_work()

    play(scenario)


# -- the hand-over -----------------------------------------------------------------------------------------


def test_what_is_offered_out_of_turn_or_never_is_sent_all_the_same() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe()
        await scene.publish("x")
        await scene.until_took(1)
        appended = []
        for number in range(100, 110):
            appended += await scene.inside(scene.store.log.append([event(number, "x")], scene.clock.now()))
        late = [*appended[5:7], appended[9], appended[3]]  # the others' hand-over is lost

        async def offer() -> None:
            for one in late:
                scene.dispatcher.offer([one])

        await scene.inside(offer())
        await scene.until_took(11)
        assert scene.sink.numbers("x") == [1, *range(100, 110)]

    play(scenario)


def test_a_reload_keeps_what_was_settled_but_not_stored() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe(options=DeliveryOptions(ack_persist="lazy"))
        for round in range(8):
            await scene.publish(*SUBJECTS)
            await scene.until_took(round * len(SUBJECTS) + 11)
            await scene.inside(scene.dispatcher.reload("console"))
            if round % 2:
                pause = scene.node.subscribing.pause(ANYONE, "console")
                await scene.inside(pause)
                await scene.inside(scene.node.subscribing.resume(ANYONE, "console"))
            await scene.until_settled()
        for subject in SUBJECTS:
            assert len(scene.sink.numbers(subject)) == 8

    play(scenario)


# -- a damaged store ---------------------------------------------------------------------------------------


def damage(scene: Scene, subject: str, number: int) -> Callable[[], None]:
    """Damage the row of an event; what is returned mends it."""
    row = (lane(subject), f"a-{number}")
    ((digest,),) = scene.database.execute("SELECT digest FROM log WHERE key = ? AND id = ?", row).fetchall()
    set_digest = "UPDATE log SET digest = ? WHERE key = ? AND id = ?"
    scene.database.execute(set_digest, (bytes(16), *row))
    return lambda: (scene.database.execute(set_digest, (digest, *row)), None)[1]


def test_a_damaged_row_stops_its_channel_alone_is_shown_and_passed_once_it_is_mended() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe()
        await scene.inside(scene.node.subscribing.pause(ANYONE, "console"))
        channels = {partition_of(lane(one), 2): one for one in SUBJECTS}
        await scene.publish(*channels.values(), *channels.values())
        mend = damage(scene, channels[0], 1 if channels[0] == next(iter(channels.values())) else 2)
        await scene.crash()
        status = await scene.inside(scene.node.queries.status(await scene.stored()))
        assert "damage" not in status
        await scene.inside(scene.node.subscribing.resume(ANYONE, "console"))
        await scene.until(lambda: len(scene.sink.numbers(channels[1])) == 2)
        await scene.until(lambda: bool(scene.dispatcher.damage))
        status = await scene.inside(scene.node.queries.status(await scene.stored()))
        assert [one["partition"] for one in status["damage"]] == [0]
        assert "fairlead store check" in status["damage"][0]["detail"]
        assert (await scene.inside(scene.node.queries.readiness()))["store"] == "damaged"
        assert not scene.sink.numbers(channels[0])
        mend()
        await scene.until(lambda: len(scene.sink.numbers(channels[0])) == 2)
        assert scene.sink.numbers(channels[0]) == sorted(scene.sink.numbers(channels[0]))
        assert (await scene.inside(scene.node.queries.readiness()))["store"] == "ok"

    play(scenario)


def test_a_damaged_row_met_at_the_hand_over_loses_nothing_behind_it() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe()
        await scene.publish("x")
        await scene.until_took(1)
        appended = []
        for number in (100, 101, 102):
            appended += await scene.inside(scene.store.log.append([event(number, "x")], scene.clock.now()))
        mend = damage(scene, "x", 100)

        async def offer() -> None:
            scene.dispatcher.offer(appended[1:2])  # the hand-over of the first is lost

        await scene.inside(offer())
        await scene.until(lambda: bool(scene.dispatcher.damage))
        await scene.accept([event(103, "x")])
        mend()
        await scene.until_took(5)
        assert scene.sink.numbers("x") == [1, 100, 101, 102, 103]
        assert not scene.dispatcher.damage
        damage(scene, "x", 100)
        await scene.inside(scene.node.subscribing.delete(ANYONE, "console"))

    play(scenario)


# -- a store that refuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["busy", "full"])
def test_lanes_whose_settlement_cannot_be_stored_pause_and_go_on_by_themselves(fault: DiskFault) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe()
        for _ in range(3):
            await scene.publish(*SUBJECTS)
        await scene.until_took(20)
        scene.database.fault = fault
        before = scene.loop.time()
        await scene.until(lambda: scene.loop.time() > before + 30.0)
        at_most_one_more_each = len(scene.sink.took)
        await scene.until(lambda: scene.loop.time() > before + 60.0)
        assert len(scene.sink.took) == at_most_one_more_each < 3 * len(SUBJECTS)
        scene.database.fault = None
        await scene.until_settled()
        for subject in SUBJECTS:
            assert scene.sink.numbers(subject) == sorted(set(scene.sink.numbers(subject)))
            assert len(scene.sink.numbers(subject)) == 3

    play(scenario)


def test_a_flusher_that_a_defect_ends_does_not_end_unnoticed(caplog: pytest.LogCaptureFixture) -> None:
    class Defective:
        def to_flush(self, everything: bool) -> None:
            raise ZeroDivisionError("a defect")

        def flushed(self, result: object) -> None: ...

    async def main() -> None:
        flusher = Flusher(cast(Channels, None))
        flusher.start()
        flusher.want(Defective(), hurry=True)
        async with asyncio.timeout(10):
            while not caplog.records:
                await asyncio.sleep(0)
        await flusher.stop()

    asyncio.run(main())
    (record,) = caplog.records
    assert record.levelname == "CRITICAL"
    assert record.exc_info


# -- changes while something is in flight ------------------------------------------------------------------


def test_a_late_410_does_not_disable_a_subscription_made_anew_under_its_name() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe()
        scene.sink.stuck.add("x")
        scene.sink.answers["x"].append(Outcome("gone", 410))
        await scene.publish("x")
        await scene.until(lambda: len(scene.sink.deliveries) == 1)
        await scene.inside(scene.node.subscribing.delete(ANYONE, "console"))
        await scene.subscribe(start="now")
        scene.sink.let_go()
        await scene.publish("y")
        await scene.until_settled()
        assert scene.sink.numbers("y") == [2]
        assert (await scene.stored()).state == "active"

    play(scenario)


def test_of_two_filters_in_a_row_the_last_is_in_force_also_after_a_crash() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe()
        for name in ("a", "b", "c", "d"):
            wanted = replace(await scene.stored(), matching=Matching(types=(f"org.example.{name}",)))
            await scene.inside(scene.node.subscribing.create(ANYONE, wanted, replace=True))
        await scene.publish("x", type="org.example.c")
        await scene.publish("x", type="org.example.d")
        await scene.crash()
        await scene.publish("x", type="org.example.c")
        await scene.publish("x", type="org.example.d")
        await scene.until_settled()
        assert scene.sink.numbers("x") == [2, 4]

    play(scenario)


def test_other_options_hold_at_once_and_a_new_sink_is_tried_at_once() -> None:
    async def scenario(scene: Scene) -> None:
        made = await scene.subscribe()
        scene.sink.down["console"] = DOWN
        await scene.publish(*SUBJECTS)
        await scene.until(lambda: any(view.breaker_open for view in scene.dispatcher.views("console")))
        del scene.sink.down["console"]
        moved = replace(
            await scene.stored(), targets=(replace(made.targets[0], sink="https://new.example/"),)
        )
        await scene.inside(scene.node.subscribing.create(ANYONE, moved, replace=True))
        assert not any(view.breaker_open for view in scene.dispatcher.views("console"))
        await scene.until_settled()
        assert {one.target.sink for one in scene.sink.deliveries[-5:]} == {"https://new.example/"}

    play(scenario)


def test_what_is_skipped_while_its_lane_is_tried_is_not_sent_after_the_call() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribe(options=replace(OPTIONS, retry=RetryPolicy(first_seconds=0.5, jitter="none")))
        scene.sink.answers["x"].extend([DOWN] * 100)
        first, _ = await scene.publish("x", "x")
        await scene.until(lambda: len(scene.sink.tries("x")) == 3)
        await scene.until_stored("x", "held")
        position = first.entry.position
        skip = scene.node.operating.skip(ANYONE, "console", key=lane("x"), position=position)
        await scene.inside(skip)
        tries = len(scene.sink.deliveries)
        scene.sink.answers.clear()
        await scene.until_settled()
        assert all(one.parcels[0].entry.position != position for one in scene.sink.deliveries[tries:])
        assert scene.sink.numbers("x") == [2]

    play(scenario)


def test_a_fence_is_asked_for_where_a_shared_stores_receiver_has_not_answered_yet() -> None:
    async def scenario(scene: Scene) -> None:
        scene.store.shared = True
        await scene.subscribe(options=DeliveryOptions(receiver="library"))
        wanted = replace(await scene.stored(), matching=Matching(types=("org.example.a",)))
        put = await scene.inside(scene.node.subscribing.create(ANYONE, wanted, replace=True))
        assert not put.pending
        assert [len(one.parcels) for one in scene.sink.deliveries] == [0, 0]  # one of each partition

    play(scenario)


def test_a_filter_that_cannot_be_in_force_in_time_is_pending_and_comes_into_force_by_itself() -> None:
    async def scenario(scene: Scene) -> None:
        scene.store.shared = True
        scene.sink.heard = False
        await scene.subscribe(options=DeliveryOptions(receiver="library"))
        wanted = replace(await scene.stored(), matching=Matching(types=("org.example.a",)))
        put = await scene.inside(scene.node.subscribing.create(ANYONE, wanted, replace=True))
        assert put.pending
        await scene.publish("x", type="org.example.b")
        await scene.until_took(1)  # the old filter is in force
        scene.sink.heard = True
        await scene.until(lambda: not any(view.pending_filter for view in scene.dispatcher.views("console")))
        await scene.publish("x", type="org.example.b")
        await scene.publish("x", type="org.example.a")
        await scene.until_settled()
        assert scene.sink.numbers("x") == [1, 3]

    play(scenario)
