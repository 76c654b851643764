# SPDX-License-Identifier: Apache-2.0
"""The engine on a bus and between a bus and REST, in virtual time (design, section 6, "Relay")."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from fairlead.core.answer import AnswerDocument
from fairlead.core.channel import Fence
from fairlead.core.outcome import Outcome
from fairlead.core.subscription import DeliveryOptions, Target
from fairlead.engine.queries.lag import lag_of
from fairlead.engine.settings import EngineSettings
from fairlead.errors import FairleadError, StoreCorrupt, StoreFull
from fairlead.ports import Delivery, LinkHealth, Published
from tests.contract.bus_scene import HandBus, answer_to
from tests.contract.dispatcher_scene import Scene, play

pytestmark = pytest.mark.may_block("the simulated loop runs the store's writer itself")

BUS = Target("amqps://mq.example/vh", protocol="AMQP", settings={"shards": 1})
REST = Target("https://console.example/hook")
LIBRARY = DeliveryOptions(receiver="library", settles="applied")


def on_bus(scenario: Callable[[Scene, HandBus], Coroutine[Any, Any, None]], **options: Any) -> None:
    made: list[HandBus] = []

    def bus(loop: Any) -> HandBus:
        made.append(HandBus(loop))
        return made[0]

    async def run(scene: Scene) -> None:
        await scenario(scene, made[0])

    play(run, EngineSettings(**options), bus)


async def answer(scene: Scene, *deliveries: Delivery, result: Any = "applied") -> None:
    for delivery in deliveries:
        await say(scene, answer_to(delivery, result))


async def say(scene: Scene, document: AnswerDocument) -> None:
    async def inside() -> None:
        scene.dispatcher.answered(document)

    await scene.inside(inside())


def places(deliveries: list[Delivery]) -> list[tuple[str, int, int]]:
    """Subject, number of the event, and whether it hangs on another (`prev`)."""
    found = []
    for one in deliveries:
        parcel = one.parcels[0]
        event = parcel.entry.event
        found.append((event.subject or "", int(event.id.removeprefix("a-")), parcel.prev))
    return found


def test_several_events_of_a_key_are_under_way_and_chained() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS,), options=LIBRARY)
        (one, two, other) = await scene.publish("k1", "k1", "k2")
        await scene.until(lambda: len(bus.events) == 3)
        first = one.entry.position
        assert ("k1", 1, 0) in places(bus.events)
        assert ("k1", 2, first) in places(bus.events)
        by_channel = {(one.fence.channel.partition, one.seq) for one in bus.events}
        assert len(by_channel) == 3, "flseq counts per channel"
        await answer(scene, *bus.events)
        await scene.until_settled()
        assert two.entry.position > first
        assert other.entry.key != one.entry.key

    on_bus(scenario)


def test_a_confirm_settles_nothing() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS,), options=LIBRARY)
        await scene.publish("k1")
        await scene.until(lambda: len(bus.events) == 1)
        await scene.crash()
        await scene.until(lambda: len(bus.events) == 2)
        earlier, later = bus.events
        assert later.fence.epoch > earlier.fence.epoch
        await answer(scene, later)
        await scene.until_settled()

    on_bus(scenario)


def test_an_answer_of_an_older_epoch_settles_and_one_of_an_older_generation_does_not() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS,), options=LIBRARY)
        await scene.publish("k1", "k1")
        await scene.until(lambda: len(bus.events) == 2)
        old = bus.events[0]
        generation = old.fence.generation
        stale = answer_to(bus.events[1])
        await say(scene, msgspec.structs.replace(stale, generation=generation - 1))
        bus.turn(up=False)
        bus.turn(up=True)
        await scene.until(lambda: len(bus.events) == 4)
        assert places(bus.events[2:]) == places(bus.events[:2]), "everything unsettled is published again"
        await say(scene, stale)
        await scene.until_settled()

    on_bus(scenario)


def test_the_bus_fails_rest_takes_over_in_order_and_the_bus_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "fairlead.engine.sending")

    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS, REST), options=LIBRARY)
        await scene.publish("k1", "k1")
        await scene.until(lambda: len(bus.events) == 2)
        epoch = bus.events[0].fence.epoch
        bus.turn(up=False)
        await scene.until_took(2)
        assert scene.sink.numbers("k1") == [1, 2]
        assert all(one.fence.epoch > epoch for one in scene.sink.deliveries)
        await scene.until_settled()
        bus.turn(up=True)
        await scene.until(lambda: any(not one.parcels for one in bus.published), "a probe")
        probes = [one for one in bus.published if not one.parcels]
        await answer(scene, *probes)
        await scene.until(lambda: all(view.fence.target == 0 for view in scene.dispatcher.views("console")))
        await scene.publish("k1")
        await scene.until(lambda: len(bus.events) == 3)
        await answer(scene, bus.events[2])
        await scene.until_settled()
        views = scene.dispatcher.views("console")
        assert all(view.route is not None and view.route.switches == 2 for view in views)

    on_bus(scenario)
    said = [vars(one) for one in caplog.records if one.name.endswith("channel_route")]
    assert {(one["levelname"], one["message"], one["target"]) for one in said} == {
        ("WARNING", "a channel goes on over another target", 1),
        ("INFO", "a channel returns to a target that it prefers", 0),
    }
    assert {(one["subscription"], one["partition"]) for one in said} == {("console", 0), ("console", 1)}


@pytest.mark.parametrize(
    "trouble", [StoreCorrupt("a row does not hold what was written"), StoreFull("the disk is full")]
)
def test_a_switch_that_the_store_refuses_is_said_once_and_made_when_it_can_be(
    trouble: FairleadError, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = "a channel cannot go on over another target yet"

    async def scenario(scene: Scene, bus: HandBus) -> None:
        refused: list[Fence] = []

        async def refuse(fence: Fence, **_: object) -> Fence:
            refused.append(fence)
            raise trouble

        def probes() -> list[Delivery]:
            return [one for one in bus.published if not one.parcels]

        def stands_still() -> list[logging.LogRecord]:
            return [record for record in caplog.records if record.message == said]

        async def refused_for_long(times: int) -> None:
            refused.clear()
            await scene.until(lambda: len(refused) > 20, "tried again and again")
            said_of = [(vars(record)["subscription"], vars(record)["partition"]) for record in stands_still()]
            assert len(set(said_of)) == 2
            assert len(said_of) == 2 * times, "once for each channel, and again for another trouble"
            assert {vars(record)["detail"] for record in stands_still()} == {str(trouble)}

        def all_on(target: int) -> bool:
            return all(view.fence.target == target for view in scene.dispatcher.views("console"))

        await scene.subscribe(targets=(BUS, REST), options=LIBRARY)
        with monkeypatch.context() as store:
            store.setattr(scene.store.channels, "fence", refuse)
            bus.turn(up=False)
            await refused_for_long(1)
        await scene.until(lambda: all_on(1))
        with monkeypatch.context() as store:
            store.setattr(scene.store.channels, "fence", refuse)
            bus.turn(up=True)
            await scene.until(lambda: len(probes()) == 2)
            await answer(scene, *probes())
            await refused_for_long(2)
        await scene.until(lambda: all_on(0))

    on_bus(scenario)


def test_silence_on_the_bus_makes_it_suspect_and_rest_goes_on() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS, REST), options=LIBRARY)
        await scene.publish("k1")
        await scene.until_took(1)
        assert len(bus.events) == 1
        assert 15 <= scene.loop.time() <= 25, "the subscription's timeout, and the suspicion"

    on_bus(scenario)


def test_without_another_target_silence_is_said_and_nothing_is_published_again_and_again() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS,), options=LIBRARY)
        await scene.publish("k1", "k1", "k1")
        await scene.until(lambda: len(bus.events) == 3)
        await scene.until(lambda: scene.loop.time() > 120)
        assert len(bus.events) == 3
        owned = [view for view in scene.dispatcher.views("console") if view.open_positions]
        (view,) = owned
        assert view.route is not None
        assert view.route.state == "suspect"
        assert "answered" in view.route.reason
        await answer(scene, *bus.events)
        await scene.until_settled()

    on_bus(scenario)


def test_silence_is_said_with_what_keeps_answers_from_coming() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS,), options=LIBRARY)
        for link in bus.links:
            link.health = LinkHealth(True, link.health.since, deaf="the reply queue is refused")
        await scene.publish("k1")

        def reasons() -> list[str]:
            return [one.route.reason for one in scene.dispatcher.views("console") if one.route is not None]

        said = "no receiver has answered for 15 s; the reply queue is refused"
        await scene.until(lambda: said in reasons())

    on_bus(scenario)


def test_a_channel_that_waits_for_its_bus_says_why_once_and_again_when_it_is_for_another_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "fairlead.engine.sending.obstacles")

    async def scenario(scene: Scene, bus: HandBus) -> None:
        def of_the_channel_in_use() -> tuple[str, str]:
            views = scene.dispatcher.views("console")
            (route,) = {view.route for view in views if view.route and view.route.unanswered}
            return route.reason, route.obstacle

        async def until_obstacle(reason: str, obstacle: str) -> None:
            await scene.until(lambda: of_the_channel_in_use() == (reason, obstacle))

        await scene.subscribe(targets=(BUS,), options=LIBRARY)
        bus.result = None
        await scene.publish("k1")
        await scene.until(lambda: bool(said()))
        assert of_the_channel_in_use() == ("the broker does not confirm what it was given", "")
        bus.result = Published("refused", "mq did not take it (basic.nack)")
        await until_obstacle("the broker does not confirm what it was given", bus.result.detail)
        bus.result = Published("confirmed")
        await until_obstacle("the broker does not confirm what it was given", "no receiver has answered")
        await scene.until(lambda: len(said()) == 3)
        await answer(scene, *bus.published)
        await scene.until(lambda: len(said()) == 4)
        await scene.until_settled()

    def said() -> list[tuple[str, str]]:
        return [(one.message, getattr(one, "detail", "")) for one in caplog.records]

    on_bus(scenario)
    assert said() == [
        ("a channel waits for its bus", "the broker does not confirm what it was given"),
        ("a channel waits for its bus", "mq did not take it (basic.nack)"),
        ("a channel waits for its bus", "no receiver has answered"),
        ("a channel has its bus again", ""),
    ]


def test_a_receiver_that_answers_no_more_is_said_where_the_channel_has_nowhere_to_go(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "fairlead.engine.sending.obstacles")

    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS,), options=LIBRARY)
        await scene.publish("k1")
        await scene.until(lambda: bool(bus.events))
        await answer(scene, *bus.events)
        await scene.until_settled()
        await scene.publish("k1")
        await scene.until(lambda: bool(caplog.records))

    on_bus(scenario)
    (said,) = caplog.records
    assert (said.message, getattr(said, "detail", "")) == (
        "a channel waits for its bus", "no receiver has answered",
    )  # fmt: skip


def test_a_channel_that_has_somewhere_to_go_is_not_said_to_wait(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fairlead.engine.sending.obstacles")

    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS, REST), options=LIBRARY)
        bus.turn(up=False, detail="connection refused")
        await scene.until(lambda: {one.fence.target for one in scene.dispatcher.views("console")} == {1})
        await scene.until(lambda: scene.loop.time() > 60)

    on_bus(scenario)
    assert {one.message for one in caplog.records} == {"a channel goes on over another target"}


def test_a_channel_that_waits_for_a_bus_that_is_away_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fairlead.engine.sending.obstacles")

    def said() -> list[tuple[str, str]]:
        return [(one.message, getattr(one, "detail", "")) for one in caplog.records]

    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS,), options=LIBRARY)
        bus.turn(up=False, detail="the certificate has expired")
        channels = len(scene.dispatcher.views("console"))
        waits = [("a channel waits for its bus", "the certificate has expired")] * channels
        await scene.until(lambda: said() == waits)
        bus.turn(up=False, detail="connection refused")
        await scene.until(lambda: scene.loop.time() > 60)
        bus.turn(up=True)
        await scene.until(lambda: said() == [*waits, *[("a channel has its bus again", "")] * channels])

    on_bus(scenario)


def test_a_failed_event_holds_its_lane_and_never_moves_the_channel() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS, REST), options=LIBRARY)
        await scene.publish("k1", "k1", "k2")
        await scene.until(lambda: len(bus.events) == 3)
        failing = next(one for one in bus.events if places([one])[0][:2] == ("k1", 1))
        chained = next(one for one in bus.events if places([one])[0][:2] == ("k1", 2))
        await answer(scene, failing, result="failed")
        await answer(scene, chained, result="chain")
        await answer(scene, next(one for one in bus.events if places([one])[0][0] == "k2"))
        held = await scene.until_stored("k1", "held")
        assert held is not None
        assert held.attempt == 1
        assert held.last is not None
        assert held.last.kind == "unavailable"
        assert held.last.status is None
        await scene.until(lambda: len(bus.events) == 4, "the head again, alone")
        assert places(bus.events[3:]) == [("k1", 1, 0)]
        await answer(scene, bus.events[3])
        await scene.until(lambda: len(bus.events) == 5)
        await answer(scene, bus.events[4])
        await scene.until_settled()
        assert not scene.sink.deliveries, "no event moves the channel"

    on_bus(scenario)


def test_a_rejected_event_is_parked_at_once() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS,), options=LIBRARY)
        await scene.publish("k1", "k1")
        await scene.until(lambda: len(bus.events) == 2)
        await answer(scene, bus.events[0], result="rejected")
        parked = await scene.until_stored("k1", "parked")
        assert parked is not None
        assert parked.last is not None
        assert parked.last.kind == "rejected"

    on_bus(scenario)


def test_a_lost_message_is_sent_again_when_its_successor_is_out_of_chain() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS,), options=LIBRARY)
        await scene.publish("k1", "k1")
        await scene.until(lambda: len(bus.events) == 2)
        await answer(scene, bus.events[1], result="chain")
        await scene.until(lambda: len(bus.events) == 4)
        assert places(bus.events[2:]) == places(bus.events[:2])
        await answer(scene, *bus.events[2:])
        await scene.until_settled()

    on_bus(scenario)


def test_the_window_bounds_what_is_under_way() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS,), options=LIBRARY)
        await scene.publish(*["k1"] * 10)
        await scene.until(lambda: len(bus.events) == 4)
        await answer(scene, bus.events[0])
        await scene.until(lambda: len(bus.events) == 5)
        while len(bus.events) < 10:
            seen = len(bus.events)
            await answer(scene, bus.events[-1])
            await scene.until(lambda seen=seen: len(bus.events) > seen)  # type: ignore[misc]
        await answer(scene, *bus.events)
        await scene.until_settled()

    on_bus(scenario, window=4)


def test_no_queue_makes_the_bus_suspect_and_the_reason_is_shown() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS, REST), options=LIBRARY)
        bus.result = Published("unroutable", "no queue is bound to routing key console")
        await scene.publish("k1")
        await scene.until_took(1)
        views = [view for view in scene.dispatcher.views("console") if view.fence.target == 1]
        (view,) = views
        assert view.route is not None
        assert view.route.reason == "no queue is bound to routing key console"

    on_bus(scenario)


def test_where_the_confirm_settles_a_plain_consumer_needs_no_answer() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS,), options=DeliveryOptions(settles="confirm"))
        await scene.publish("k1", "k1", "k2")
        await scene.until_settled()
        assert [one for one in places(bus.events) if one[0] == "k1"] == [("k1", 1, 0), ("k1", 2, 0)]
        assert [one.seq for one in bus.events if places([one])[0][0] == "k1"] == [1, 2]

    on_bus(scenario)


def test_what_no_bus_can_carry_parks_its_lane_and_never_moves_the_channel() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        options = DeliveryOptions(settles="confirm", failover="switch")
        await scene.subscribe(targets=(BUS, REST), options=options)
        bus.result = Published("impossible", "AMQP cannot carry the message")
        await scene.publish("k1")
        assert await scene.until_stored("k1", "parked") is not None
        bus.result = Published("confirmed")
        await scene.publish("k2")
        await scene.until(lambda: len(bus.events) == 2)
        assert not scene.sink.deliveries
        views = [one.route for one in scene.dispatcher.views("console")]
        assert {one.state for one in views if one is not None} == {"bus"}

    on_bus(scenario)


def test_with_failover_off_a_confirm_channel_waits_for_its_bus() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        options = DeliveryOptions(settles="confirm", failover="off")
        await scene.subscribe(targets=(BUS, REST), options=options)
        bus.turn(up=False)
        await scene.publish("k1")
        await scene.until(lambda: scene.loop.time() > 60)
        assert not scene.sink.deliveries
        bus.turn(up=True)
        await scene.until_settled()
        assert [number for _, number, _ in places(bus.events)] == [1]

    on_bus(scenario)


def test_with_failover_switch_a_confirm_channel_goes_over_at_once() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        options = DeliveryOptions(settles="confirm", failover="switch")
        await scene.subscribe(targets=(BUS, REST), options=options)
        bus.turn(up=False)
        await scene.publish("k1", "k1")
        await scene.until_took(2)

    on_bus(scenario)


def test_a_target_that_answers_and_takes_nothing_is_not_said_to_be_silent() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        def reasons() -> list[str]:
            return [one.route.reason for one in scene.dispatcher.views("console") if one.route is not None]

        await scene.subscribe(targets=(REST, Target("https://other.example/hook")))
        scene.sink.down["console"] = Outcome("unavailable", 401, "answered 401 Unauthorized")
        await scene.publish(*[f"k{number}" for number in range(12)])
        await scene.until(lambda: "the target answers 401" in reasons())
        scene.sink.down["console"] = Outcome("unavailable", detail="connection refused")
        await scene.until(lambda: "the target does not answer" in reasons())

    on_bus(scenario)


def test_of_two_rest_targets_the_second_takes_over_when_the_first_is_down() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        second = Target("https://other.example/hook")
        await scene.subscribe(targets=(REST, second))
        down = Outcome("unavailable", 503, "answered 503")
        scene.sink.down["console"] = down
        await scene.publish(*[f"k{number}" for number in range(12)])
        await scene.until(lambda: any(one.target == second for one in scene.sink.deliveries))
        scene.sink.down.clear()
        await scene.until_settled()

    on_bus(scenario)


async def lag(scene: Scene) -> int:
    """What the status says is left to deliver."""
    stored = await scene.stored()
    return int((await scene.inside(scene.node.queries.status(stored)))["lag_events"])


def test_the_lag_is_whole_also_while_slow_lanes_get_their_holds_after_a_switch() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS, REST), options=LIBRARY)
        scene.sink.stuck = {"k1", "k2"}
        await scene.publish(*["k1", "k2"] * 10)
        await scene.until(lambda: len(bus.events) == 20)
        bus.turn(up=False)
        seen: set[int] = set()

        async def are_stored() -> bool:
            seen.add(await lag(scene))
            return all([(await scene.state(key)).holds for key in ("k1", "k2")])

        await scene.until(are_stored)
        assert min(seen) == 20, seen
        scene.sink.let_go()
        await scene.until_settled()

    on_bus(scenario)


def test_the_lag_is_whole_as_soon_as_a_node_has_started() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS,), options=LIBRARY)
        await scene.publish(*["k1"] * 20)
        await scene.until(lambda: len(bus.events) == 20)
        await scene.until(lambda: scene.loop.time() > 2)  # what was read is on disk
        assert (await scene.state("k1")).progress.scan_pos == 20
        await scene.crash()
        views = scene.dispatcher.views("console")  # nothing was read again yet
        assert not any(view.open_positions for view in views)
        heads = await scene.inside(scene.store.log.heads())
        kept = {partition: range(1, head + 1) for partition, head in heads.items()}
        whole = await scene.inside(lag_of(scene.store, "console", views, kept=kept, now=scene.clock.now()))
        assert whole.events == 20
        await answer(scene, *bus.events)
        await scene.until_settled()
        assert await lag(scene) == 0

    on_bus(scenario)


def test_a_put_that_changes_the_targets_begins_with_the_first() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS, REST), options=LIBRARY)
        bus.turn(up=False)
        await scene.publish("k1")
        await scene.until_took(1)
        other = Target("amqps://other.example/vh", protocol="AMQP", settings={"shards": 1})
        await scene.subscribe(targets=(other,), options=LIBRARY)
        assert [link.target for link in bus.links] == [other]
        bus.turn(up=True)
        await scene.publish("k1")
        await scene.until(lambda: len(bus.events) == 1)
        await answer(scene, *bus.events)
        await scene.until_settled()

    on_bus(scenario)


def test_a_put_that_takes_the_bus_away_sends_what_was_under_way_over_rest() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        confirm = DeliveryOptions(settles=None, receiver="library")
        await scene.subscribe(targets=(REST, BUS), options=LIBRARY)
        await scene.subscribe(targets=(BUS,), options=LIBRARY)
        await scene.publish("k1", "k1")
        await scene.until(lambda: len(bus.events) == 2)
        stored = await scene.stored()
        changed = replace(stored, targets=(REST,), options=confirm)
        await scene.inside(scene.store.subscriptions.replace(changed, stored.revision))
        await scene.inside(scene.dispatcher.adopt(await scene.stored()))
        await scene.until_took(2)
        await scene.until_settled()
        assert not bus.links

    on_bus(scenario)


def test_a_start_remembers_since_when_and_why_a_channel_is_where_it_is() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS, REST), options=LIBRARY)
        bus.turn(up=False)
        await scene.publish("k1")
        await scene.until_took(1)
        await scene.until_settled()

        async def route() -> tuple[str, str]:
            status = await scene.inside(scene.node.queries.status(await scene.stored()))
            (found,) = (one for one in status["routes"] if one["state"] == "rest")
            return found["reason"], found["since"][: len("2026-11-22T14:50:05")]

        before = await route()
        assert before[0]
        await scene.until(lambda: scene.loop.time() > 60)
        await scene.crash()
        assert await route() == before

    on_bus(scenario)


def test_a_target_that_is_gone_at_a_start_is_left_for_the_first() -> None:
    async def scenario(scene: Scene, bus: HandBus) -> None:
        await scene.subscribe(targets=(BUS, REST), options=LIBRARY)
        bus.turn(up=False)
        await scene.publish("k1")
        await scene.until_took(1)
        stored = await scene.stored()
        changed = replace(stored, targets=(REST,), options=DeliveryOptions(receiver="library"))
        await scene.inside(scene.store.subscriptions.replace(changed, stored.revision))
        await scene.crash()
        await scene.publish("k1")
        await scene.until_took(2)
        await scene.until_settled()

    on_bus(scenario)
