# SPDX-License-Identifier: Apache-2.0
"""Taking events: who may, what is refused, and that what is taken is always handed over."""

from __future__ import annotations

import asyncio

import pytest

from fairlead.engine.settings import EngineSettings, Limits
from fairlead.errors import EventConflict, Forbidden, Overloaded, Stopping, StoreFull, TooLarge
from tests.contract.engine_scene import ANYONE, Scene, event, play, principal


def test_what_is_accepted_stands_in_the_log_and_is_handed_over() -> None:
    async def scenario(scene: Scene) -> None:
        appended = await scene.publish(event(1), event(2), event(3, "k2"))
        assert [one.entry.event.id for one in appended] == ["a-1", "a-2", "a-3"]
        assert scene.still.offered == appended
        assert scene.telemetry.accepted.value == 3
        assert scene.telemetry.accept_seconds.count == 1

    play(scenario)


def test_a_repeated_event_is_a_duplicate_and_counted_as_one() -> None:
    async def scenario(scene: Scene) -> None:
        (first,) = await scene.publish(event(1))
        (again,) = await scene.publish(event(1))
        assert again.duplicate
        assert again.entry.position == first.entry.position
        assert (scene.telemetry.accepted.value, scene.telemetry.duplicates.value) == (1, 1)

    play(scenario)


def test_an_empty_batch_is_accepted() -> None:
    async def scenario(scene: Scene) -> None:
        assert await scene.publish() == []

    play(scenario)


def test_one_forbidden_event_refuses_the_batch_and_is_named() -> None:
    async def scenario(scene: Scene) -> None:
        who = principal("publish", sources=("/heat*",), types=("org.example.*",))
        with pytest.raises(Forbidden) as caught:
            await scene.ingest.accept(who, [event(1), event(2, source="/nova"), event(3, type="other")])
        assert [fault.index for fault in caught.value.faults] == [1, 2]
        assert await scene.store.log.size_bytes()
        assert set((await scene.store.log.heads()).values()) == {0}
        await scene.ingest.accept(who, [event(1)])

    play(scenario)


def test_a_principal_that_may_only_read_publishes_nothing() -> None:
    async def scenario(scene: Scene) -> None:
        with pytest.raises(Forbidden):
            await scene.ingest.accept(principal("read"), [event(1)])

    play(scenario)


def test_another_event_under_the_same_id_is_a_conflict_with_its_index() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.publish(event(1))
        with pytest.raises(EventConflict) as caught:
            await scene.publish(event(2), event(1, data=b'{"n": 2}'))
        assert [fault.index for fault in caught.value.faults] == [1]

    play(scenario)


def test_an_event_too_large_is_refused_with_the_limit() -> None:
    async def scenario(scene: Scene) -> None:
        with pytest.raises(TooLarge) as caught:
            await scene.publish(event(1), event(2, data=b'"' + b"x" * 2000 + b'"'))
        assert caught.value.members == {"limit_bytes": 1000}
        assert caught.value.faults[0].index == 1

    play(scenario, EngineSettings(limits=Limits(event_bytes=1000)))


def test_too_many_events_at_once_are_refused() -> None:
    async def scenario(scene: Scene) -> None:
        with pytest.raises(TooLarge):
            await scene.publish(event(1), event(2), event(3))

    play(scenario, EngineSettings(limits=Limits(batch_events=2)))


def test_the_limit_of_the_log_answers_store_full_and_when_to_come_back() -> None:
    async def scenario(scene: Scene) -> None:
        with pytest.raises(StoreFull) as caught:
            await scene.publish(event(1))
        assert caught.value.retry_after_seconds == 10
        assert (await scene.queries.readiness())["store"] == "full"
        assert "fairlead_store_ok 0" in await scene.queries.metrics_text(ANYONE)

    play(scenario, EngineSettings(limits=Limits(log_bytes=1)))


def test_too_much_waiting_for_the_disk_is_refused_but_never_the_only_request() -> None:
    async def scenario(scene: Scene) -> None:
        results = await asyncio.gather(
            *(scene.publish(event(number)) for number in range(4)), return_exceptions=True
        )
        refused = [one for one in results if isinstance(one, Overloaded)]
        assert len(refused) == 3
        assert all(one.retry_after_seconds == 1 for one in refused)
        await scene.publish(event(9))

    play(scenario, EngineSettings(limits=Limits(waiting_bytes=1)))


def test_the_number_of_waiting_requests_is_bounded() -> None:
    async def scenario(scene: Scene) -> None:
        calls = (scene.publish(event(number)) for number in range(5))
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(one, Overloaded) for one in results) == 3

    play(scenario, EngineSettings(limits=Limits(waiting_requests=2)))


def test_an_event_whose_publisher_went_away_is_handed_over_all_the_same() -> None:
    async def scenario(scene: Scene) -> None:
        task = asyncio.ensure_future(scene.publish(event(1)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await scene.ingest.stop()
        assert [one.entry.event.id for one in scene.still.offered] == ["a-1"]
        assert not scene.still.offered[0].duplicate

    play(scenario)


def test_stop_waits_for_what_is_being_stored_and_refuses_the_rest() -> None:
    async def scenario(scene: Scene) -> None:
        task = asyncio.ensure_future(scene.publish(event(1)))
        await asyncio.sleep(0)
        await scene.ingest.stop()
        assert scene.still.offered
        await task
        for events in ([event(2)], []):
            with pytest.raises(Stopping):
                await scene.ingest.accept(ANYONE, events)

    play(scenario)
