# SPDX-License-Identifier: Apache-2.0
"""What can be looked at, and that a limited reader sees no more than its grants say."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.core.channel import Attempt, FilterRevision, Progress, Skip
from fairlead.core.durations import format_time
from fairlead.core.log import EventQuery
from fairlead.core.outcome import DELIVERED
from fairlead.core.subscription import Matching, Target
from fairlead.engine.commands.replaying import ReplayRequest
from fairlead.engine.sending.views import RouteView
from fairlead.engine.settings import DAY_SECONDS, EngineSettings, RetentionRules
from fairlead.errors import Forbidden, InvalidQuery, NotFound
from tests.contract.engine_scene import ANYONE, NOW, REFUSED, Scene, event, lane, play, principal

MINE = ("/heat",)
AGED = EngineSettings(retention=RetentionRules(max_age_seconds=DAY_SECONDS))


def never() -> bool:
    return False


def _ids(items: list[dict[str, Any]]) -> list[str]:
    return [msgspec.json.decode(item["event"])["id"] for item in items]


async def _deliveries(scene: Scene, number: int = 1, who: Any = ANYONE) -> dict[str, str]:
    page = await scene.queries.events(who, EventQuery(source="/heat", id=f"a-{number}"))
    (item,) = page.items
    return {one["subscription"]: one["state"] for one in item["deliveries"]}


# -- events ------------------------------------------------------------------------------------------------


def test_an_event_is_shown_whole_with_its_place() -> None:
    async def scenario(scene: Scene) -> None:
        (appended,) = await scene.publish(event(1))
        page = await scene.queries.events(ANYONE, EventQuery())
        (item,) = page.items
        document = msgspec.json.decode(item.pop("event"))
        assert (document["id"], document["data"]) == ("a-1", {"n": 1})
        assert item == {
            "partition": appended.entry.partition,
            "position": 1,
            "key": "/heat k1",
            "accepted_at": "2026-11-22T14:50:00Z",
        }
        assert page.next is None

    play(scenario)


@settings(max_examples=25, deadline=None)
@given(limit=st.integers(1, 7), seen=st.integers(0, 3))
def test_pages_show_every_event_once_whatever_arrives_between_them(limit: int, seen: int) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.publish(*(event(number, f"k{number % 5}") for number in range(12)))
        before = await scene.store.log.heads()
        found: list[tuple[int, int]] = []
        after = None
        for _ in range(60):
            page = await scene.queries.events(ANYONE, EventQuery(limit=limit), after=after)
            places = [(item["partition"], item["position"]) for item in page.items]
            assert places == sorted(places)
            found += places
            after = page.next
            if after is None:
                break
            arriving = seen if len(found) < 9 else 0
            await scene.publish(*(event(100 + len(found) + n, "k1") for n in range(arriving)))
        assert len(found) == len(set(found))
        assert {(partition, n + 1) for partition, head in before.items() for n in range(head)} <= set(found)

    play(scenario)


def test_a_cursor_of_another_list_is_refused() -> None:
    async def scenario(scene: Scene) -> None:
        for after in ("nonsense", "é", "W10x", "WzFd", "W1stMSwyXV0"):
            with pytest.raises(InvalidQuery) as caught:
                await scene.queries.events(ANYONE, EventQuery(), after=after)
            assert caught.value.faults[0].query == "after"

    play(scenario)


def test_a_follower_is_woken_by_what_arrives_and_misses_nothing() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.publish(event(1))
        waiting = asyncio.ensure_future(scene.queries.events(ANYONE, EventQuery(), follow=True))
        while not scene.ingest.arrivals._waiting:
            await asyncio.sleep(0)
        while scene.ingest.arrivals._waiting:
            await scene.publish(event(2))
            await asyncio.sleep(0)
        first = await waiting
        assert _ids(first.items) == ["a-2"]
        await scene.publish(event(3), event(4, "k2"))
        second = await scene.queries.events(ANYONE, EventQuery(), after=first.next, follow=True)
        assert sorted(_ids(second.items)) == ["a-3", "a-4"]
        third = await scene.queries.events(
            ANYONE, EventQuery(), after=second.next, follow=True, wait_seconds=0
        )
        assert third.items == []
        assert third.next is not None

    play(scenario)


def test_following_ends_when_the_relay_stops() -> None:
    async def scenario(scene: Scene) -> None:
        waiting = asyncio.ensure_future(scene.queries.events(ANYONE, EventQuery(), follow=True))
        await asyncio.sleep(0)
        await scene.ingest.stop()
        assert (await waiting).items == []

    play(scenario)


def test_a_limited_reader_sees_its_events_only() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.publish(event(1), event(2, source="/nova"), event(3, type="secret"))
        page = await scene.queries.events(principal("read", sources=MINE), EventQuery())
        assert sorted(_ids(page.items)) == ["a-1", "a-3"]
        page = await scene.queries.events(principal("read", types=("org.*",)), EventQuery())
        assert sorted(_ids(page.items)) == ["a-1", "a-2"]
        for who in (principal("publish"), principal("read", subscriptions=("console",))):
            with pytest.raises(Forbidden):
                await scene.queries.events(who, EventQuery())

    play(scenario)


# -- what became of an event -------------------------------------------------------------------------------


def test_an_event_that_nobody_has_read_is_pending() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        await scene.publish(event(1))
        assert await _deliveries(scene) == {"console": "pending"}

    play(scenario)


def test_the_first_open_event_of_a_key_in_flight_is_in_flight() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        await scene.publish(event(1), event(2))
        state = await scene.state(scene.channel("k1"))
        scene.see(state, open_positions=[1, 2], in_flight_keys=frozenset({lane("k1")}))
        assert await _deliveries(scene, 1) == {"console": "in_flight"}
        assert await _deliveries(scene, 2) == {"console": "pending"}

    play(scenario)


def test_what_is_settled_on_disk_is_delivered() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        await scene.publish(event(1), event(2), event(3))
        await scene.settle(scene.channel("k1"), Progress(1, 3, ((3, 3),)))
        assert [(await _deliveries(scene, n))["console"] for n in (1, 2, 3)] == [
            "delivered",
            "pending",
            "delivered",
        ]

    play(scenario)


@pytest.mark.parametrize("state", ["held", "parked"])
def test_a_held_lane_shows_in_its_events_from_the_head_on(state: str) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        await scene.publish(event(1), event(2), event(3))
        channel = scene.channel("k1")
        await scene.settle(channel, Progress(2, 2), holds=(scene.hold(2, state),))
        assert [(await _deliveries(scene, n))["console"] for n in (1, 2, 3)] == [
            "delivered",
            state,
            "pending",
        ]

    play(scenario)


def test_a_skipped_event_is_skipped_until_a_replay() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        await scene.publish(event(1))
        channel = scene.channel("k1")
        skip = Skip(lane("k1"), 1, "/heat", "a-1", "exhausted", "on_exhausted", NOW)
        await scene.settle(channel, Progress(1, 1), skips=(skip,))
        assert await _deliveries(scene) == {"console": "skipped"}
        await scene.operating.replay(ANYONE, "console", ReplayRequest(position=(channel.partition, 1)))
        assert await _deliveries(scene) == {"console": "pending"}

    play(scenario)


def test_an_event_is_filtered_by_the_revision_in_force_at_its_position() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed(matching=Matching(types=("noise",)))
        await scene.publish(event(1), event(2))
        await scene.subscribed(matching=Matching())
        channel = scene.channel("k1")
        await scene.settle(channel, Progress(1, 1), filter=FilterRevision(2, 2))
        assert [(await _deliveries(scene, n))["console"] for n in (1, 2)] == ["filtered", "pending"]

    play(scenario)


def test_an_event_from_before_the_subscription_was_not_delivered_to_it() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.publish(event(1))
        scene.clock.at += 1
        await scene.subscribed(start="now")
        assert await _deliveries(scene) == {"console": "filtered"}
        channel = scene.channel("k1")
        attempt = Attempt(1, lane("k1"), 1, 0, scene.clock.at, 5, DELIVERED)
        await scene.settle(channel, attempts=(attempt,))
        assert await _deliveries(scene) == {"console": "delivered"}

    play(scenario)


def test_deliveries_are_shown_of_subscriptions_that_the_reader_may_read() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed("console")
        await scene.subscribed("audit")
        await scene.publish(event(1))
        assert set(await _deliveries(scene)) == {"audit", "console"}

    play(scenario)


# -- lanes, skips, attempts, channels ----------------------------------------------------------------------


async def _two_lanes(scene: Scene) -> None:
    await scene.subscribed()
    await scene.publish(event(1), event(2), event(3, "k2", source="/nova"))
    await scene.settle_all()
    await scene.settle(scene.channel("k1"), holds=(scene.hold(1),))
    nova = next(entry for entry in await scene.store.log.search(EventQuery(source="/nova")))
    channel = scene.channel("k1")._replace(partition=nova.partition)
    held = scene.hold(nova.position, "parked")
    held = type(held)(nova.key, nova.position, 9, NOW, "parked", NOW, REFUSED, NOW)
    await scene.settle(channel, holds=(held,))


def test_a_lane_shows_its_real_head_and_how_many_wait() -> None:
    async def scenario(scene: Scene) -> None:
        await _two_lanes(scene)
        page = await scene.queries.lanes(ANYONE, "console", state="held")
        assert page.items == [
            {
                "key": "/heat k1",
                "partition": scene.channel("k1").partition,
                "state": "held",
                "head": {"position": 1, "source": "/heat", "id": "a-1", "type": "org.example.state"},
                "waiting": 2,
                "attempt": 3,
                "ready_at": "2026-11-22T14:51:00Z",
                "since": "2026-11-22T14:49:00Z",
                "last_outcome": {
                    "outcome": "unavailable",
                    "status": 503,
                    "detail": "Service Unavailable",
                    "target": 0,
                    "at": "2026-11-22T14:49:59Z",
                },
            }
        ]
        assert page.members == {"counts": {"held": 1, "parked": 1}}

    play(scenario)


def test_a_lane_that_is_held_while_lanes_are_read_is_counted_only_if_it_is_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        await scene.publish(event(1))
        read: list[str] = []

        def after_the_first_look(look: str) -> None:
            real = getattr(scene.store.channels, look)

            async def looked(*arguments: Any) -> Any:
                found = await real(*arguments)
                read.append(look)
                if len(read) == 1:
                    await scene.settle(scene.channel("k1"), Progress(0, 1), holds=(scene.hold(1),))
                return found

            monkeypatch.setattr(scene.store.channels, look, looked)

        after_the_first_look("count_holds")
        after_the_first_look("holds")
        page = await scene.queries.lanes(ANYONE, "console")
        assert sorted(read) == ["count_holds", "holds"]
        assert page.members["counts"]["held"] <= len(page.items)

    play(scenario)


def test_lanes_come_in_pages() -> None:
    async def scenario(scene: Scene) -> None:
        await _two_lanes(scene)
        first = await scene.queries.lanes(ANYONE, "console", limit=1)
        second = await scene.queries.lanes(ANYONE, "console", limit=1, after=first.next)
        assert len({item["key"] for page in (first, second) for item in page.items}) == 2
        assert second.next is None

    play(scenario)


def test_a_limited_reader_sees_its_lanes_skips_and_attempts_only() -> None:
    async def scenario(scene: Scene) -> None:
        await _two_lanes(scene)
        channel = scene.channel("k1")
        skips = [Skip(lane("k1"), 2, source, "a-2", "operator", "bob", NOW) for source in ("/heat",)]
        attempt = Attempt(1, lane("k1"), 1, 0, NOW, 12, REFUSED)
        await scene.settle(channel, skips=tuple(skips), attempts=(attempt,))
        for who, count in (
            (principal("read", sources=MINE), 1),
            (principal("read", sources=("/other",)), 0),
            (principal("operate", sources=MINE), 1),
        ):
            assert len((await scene.queries.lanes(who, "console")).items) == count
            assert len((await scene.queries.skips(who, "console")).items) == count
            assert len((await scene.queries.attempts(who, "console")).items) == count
        with pytest.raises(Forbidden):
            await scene.queries.lanes(principal("read", subscriptions=("x",)), "console")

    play(scenario)


def test_attempts_come_newest_first_whichever_channel_stored_its_own_first() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        other = next(f"k{n}" for n in range(2, 99) if scene.channel(f"k{n}") != scene.channel("k1"))
        for subject, seconds in (("k1", (1, 4)), (other, (2, 3))):
            tries = [Attempt(1, lane(subject), 1, 0, NOW + at, 5, REFUSED) for at in seconds]
            await scene.settle(scene.channel(subject), attempts=tuple(tries))
        items = (await scene.queries.attempts(ANYONE, "console")).items
        assert [item["started_at"] for item in items] == [format_time(NOW + at) for at in (4, 3, 2, 1)]

    play(scenario)


def test_skips_and_attempts_are_listed_as_the_interface_says() -> None:
    async def scenario(scene: Scene) -> None:
        await _two_lanes(scene)
        channel = scene.channel("k1")
        skips = tuple(Skip(lane("k1"), n, "/heat", f"a-{n}", "operator", "bob", NOW) for n in (1, 2))
        tries = tuple(Attempt(n, lane("k1"), 4, 0, NOW, 12, REFUSED) for n in (1, 2))
        await scene.settle(channel, skips=skips, attempts=tries)
        page = await scene.queries.skips(ANYONE, "console", limit=1)
        assert page.items == [
            {
                "key": "/heat k1",
                "partition": channel.partition,
                "position": 1,
                "source": "/heat",
                "id": "a-1",
                "reason": "operator",
                "by": "bob",
                "at": "2026-11-22T14:50:00Z",
            }
        ]
        rest = await scene.queries.skips(ANYONE, "console", after=page.next)
        assert [item["position"] for item in rest.items] == [2]
        newest = await scene.queries.attempts(ANYONE, "console", limit=1)
        assert newest.items == [
            {
                "partition": channel.partition,
                "position": 2,
                "key": "/heat k1",
                "attempt": 4,
                "target": 0,
                "started_at": "2026-11-22T14:50:00Z",
                "duration_ms": 12,
                "outcome": "unavailable",
                "status": 503,
                "detail": "Service Unavailable",
            }
        ]
        older = await scene.queries.attempts(ANYONE, "console", after=newest.next, outcome="unavailable")
        assert [item["position"] for item in older.items] == [1]

    play(scenario)


def test_channels_show_fence_and_breaker() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        state = await scene.state(scene.channel("k1"))
        scene.see(state, breaker_open=True, in_flight_keys=frozenset({"a", "b"}))
        items = (await scene.queries.channels(ANYONE, "console")).items
        assert [item["partition"] for item in items] == list(range(8))
        item = items[scene.channel("k1").partition]
        assert (item["state"], item["transport"], item["unanswered"]) == ("open", "http", 2)
        assert (item["generation"], item["epoch"]) == (state.fence.generation, state.fence.epoch)

    play(scenario)


def test_a_channel_s_target_and_state_are_of_one_moment() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        state = await scene.state(scene.channel("k1"))
        route = RouteView("suspect", "connection refused", "", scene.clock.at, 0, 0)
        scene.see(state, route=route)
        await scene.store.channels.fence(state.fence, target=1, reason="connection refused")  # just now
        item = (await scene.queries.channels(ANYONE, "console")).items[scene.channel("k1").partition]
        assert (item["target"], item["state"], item["epoch"]) == (0, "suspect", state.fence.epoch)

    play(scenario)


def test_lists_of_a_subscription_that_is_not_there_are_not_found() -> None:
    async def scenario(scene: Scene) -> None:
        queries = scene.queries
        for call in (queries.lanes, queries.skips, queries.attempts, queries.channels):
            with pytest.raises(NotFound):
                await call(ANYONE, "nothing")

    play(scenario)


# -- status and metrics ------------------------------------------------------------------------------------


async def _status(scene: Scene) -> dict[str, Any]:
    return await scene.queries.status(await scene.subscribing.get(ANYONE, "console"))


def test_lag_is_zero_exactly_when_nothing_is_left_to_deliver() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        channel = scene.channel("k1")
        scene.see(await scene.state(channel))
        await scene.publish(event(1), event(2))
        scene.clock.at += 5
        status = await _status(scene)
        assert (status["lag_events"], status["lag_seconds"]) == (2, 5.0)
        await scene.settle(channel, Progress(0, 2))
        scene.see(await scene.state(channel), open_positions=[2])
        assert (await _status(scene))["lag_events"] == 1
        scene.see(await scene.state(channel), holds=1, taken_over=((1, 2),))
        status = await _status(scene)
        taken_over = (status["lag_events"], status["lag_seconds"])
        assert taken_over == (2, 5.0), "what a hold took over before it is stored"
        await scene.settle(channel, Progress(2, 2), holds=(scene.hold(2),))
        scene.see(await scene.state(channel), holds=1)
        status = await _status(scene)
        assert (status["lag_events"], status["held_lanes"], status["lag_seconds"]) == (1, 1, 65.0)
        await scene.settle(channel, Progress(2, 2), released=(lane("k1"),))
        scene.see(await scene.state(channel))
        status = await _status(scene)
        assert (status["lag_events"], status["lag_seconds"]) == (0, 0.0)

    play(scenario)


def test_what_retention_has_deleted_is_no_lag_of_a_paused_subscription() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        await scene.subscribing.pause(ANYONE, "console")
        await scene.publish(event(1), event(2), event(3))
        channel = scene.channel("k1")
        scene.see(await scene.state(channel))
        scene.clock.at += DAY_SECONDS + 1
        await scene.publish(event(4))
        assert (await _status(scene))["lag_events"] == 4
        assert await scene.expiry.expire(never) == 3
        status = await _status(scene)
        assert (status["lag_events"], status["lag_seconds"], status["skipped_events"]) == (1, 0.0, 3)
        scene.clock.at += DAY_SECONDS + 1
        assert await scene.expiry.expire(never) == 1
        status = await _status(scene)
        assert (status["lag_events"], status["lag_seconds"], status["skipped_events"]) == (0, 0.0, 4)

    play(scenario, AGED)


def test_a_held_lane_of_which_retention_has_left_nothing_is_no_lag() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.publish(event(1), event(2))
        await scene.subscribed()
        await scene.settle_all()
        channel = scene.channel("k1")
        state = await scene.settle(channel, holds=(scene.hold(1),))
        await scene.subscribing.pause(ANYONE, "console")
        scene.see(state, holds=1)
        assert (await _status(scene))["lag_events"] == 2
        scene.clock.at += DAY_SECONDS + 1
        assert await scene.expiry.expire(never) == 2
        status = await _status(scene)
        assert (status["lag_events"], status["lag_seconds"]) == (0, 0.0)

    play(scenario, AGED)


def test_a_status_has_every_member_of_the_interface() -> None:
    async def scenario(scene: Scene) -> None:
        made = await scene.subscribed()
        attempt = Attempt(1, lane("k1"), 1, 0, NOW, 12, REFUSED)
        await scene.settle(scene.channel("k1"), attempts=(attempt,))
        assert await _status(scene) == {
            "state": "active",
            "reason": None,
            "since": "2026-11-22T14:50:00Z",
            "revision": 1,
            "generation": made.generation,
            "guarantee": "first-run-ordered",
            "public_key": None,
            "lag_events": 0,
            "lag_seconds": 0.0,
            "rate_per_second": 1.2,
            "held_lanes": 0,
            "parked_lanes": 0,
            "skipped_events": 0,
            "active_targets": {"0": 1},
            "last_error": {
                "at": "2026-11-22T14:50:00Z",
                "outcome": "unavailable",
                "status": 503,
                "detail": "Service Unavailable",
            },
        }
        scene.see(await scene.state(scene.channel("k1")), pending_filter=True)
        assert (await _status(scene))["filter_pending"] is True

    play(scenario)


def test_answers_over_http_are_told_to_be_unauthenticated() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed(targets=(Target("HTTP://127.0.0.1/"),))
        assert (await _status(scene))["guarantee"] == "first-run-ordered unauthenticated-answers"

    play(scenario)


def test_metrics_have_the_names_of_the_interface() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        await scene.publish(event(1))
        await scene.settle(scene.channel("k1"), Progress(1, 1), holds=(scene.hold(1),))
        scene.see(await scene.state(scene.channel("k1")), holds=1)
        text = await scene.queries.metrics_text(ANYONE)
        partition = scene.channel("k1").partition
        for line in (
            "fairlead_events_accepted_total 1",
            "fairlead_events_duplicates_total 0",
            'fairlead_lag_events{subscription="console"} 1',
            "fairlead_lag_seconds 60.0",
            'fairlead_lanes{subscription="console",state="held"} 1',
            'fairlead_lanes{subscription="console",state="parked"} 0',
            "fairlead_skipped_total 0",
            f'fairlead_channel_target{{subscription="console",partition="{partition}"}} 0',
            "fairlead_switches_total 0",
            "fairlead_accept_seconds_count 1",
            "fairlead_delivery_seconds_count 0",
            "fairlead_commit_seconds_count 0",
        ):
            assert f"{line}\n" in text
        assert "fairlead_log_bytes " in text
        assert "console" not in await scene.queries.metrics_text(principal("read", subscriptions=("x",)))
        with pytest.raises(Forbidden):
            await scene.queries.metrics_text(principal("publish"))

    play(scenario)


def test_readiness_follows_the_node() -> None:
    async def scenario(scene: Scene) -> None:
        ready = {"status": "ready", "store": "ok", "partitions_owned": 8, "partitions": 8}
        assert await scene.queries.readiness() == ready
        scene.phase = "failed"
        assert (await scene.queries.readiness())["store"] == "failed"

    play(scenario)
