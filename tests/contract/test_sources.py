# SPDX-License-Identifier: Apache-2.0
"""Taking events from queues, over a real store and a queue that the test plays: order, rejects, patience."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fairlead.core.codec import BATCH, STRUCTURED, encode_batch, encode_structured
from fairlead.core.event import Event
from fairlead.core.json_mapping import json_mapping
from fairlead.core.log import Appended, EventQuery
from fairlead.core.policy import Principal
from fairlead.core.source_message import SourceMessage
from fairlead.engine.ingest import Ingest
from fairlead.engine.settings import EngineSettings, Limits
from fairlead.engine.sourcing import consumer as consumer_module
from fairlead.engine.sourcing.consumer import BATCH_MESSAGES, Consumer
from fairlead.engine.sourcing.formats import cloudevents, plain_json
from fairlead.engine.sourcing.inlet import Format, Inlet
from fairlead.engine.sourcing.sources import Sources
from fairlead.errors import (
    InvalidEvent,
    Overloaded,
    Stopping,
    StoreBusy,
    StoreCorrupt,
    StoreFailed,
    StoreFull,
)
from fairlead.ports import Reject, SourceHealth
from fairlead.testing.source_fake import FakeQueue, FakeSource
from tests.contract.engine_scene import ANYONE, Counted, Scene, event, play

PATIENCE_SECONDS = 20.0


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_module, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(consumer_module, "LONGEST_WAIT_SECONDS", 0.002)


class Hurdle(Ingest):
    """The real ingest, behind what the test raises first."""

    def __init__(self, inner: Ingest) -> None:
        self.inner = inner
        self.raises: list[Exception] = []
        self.calls: list[int] = []
        self.gate: asyncio.Event | None = None

    async def accept(self, principal: Principal, events: Sequence[Event]) -> list[Appended]:
        self.calls.append(len(events))
        if self.gate is not None:
            await self.gate.wait()
        if self.raises:
            raise self.raises.pop(0)
        return await self.inner.accept(principal, events)


class Stage:
    """One source over a scene's store."""

    def __init__(
        self,
        scene: Scene,
        prefetch: int = 256,
        format: Format | None = None,
        limits: Limits | None = None,
        queue: FakeQueue | None = None,
    ) -> None:
        limits = limits or Limits()
        self.scene = scene
        self.queue = queue or FakeQueue()
        self.source = FakeSource(self.queue, prefetch)
        self.ingest = Hurdle(scene.ingest)
        format = format or cloudevents(batch_events=limits.batch_events, event_bytes=limits.event_bytes)
        self.inlet = Inlet(
            "legacy", self.source, format, self.ingest, scene.clock,
            event_bytes=limits.event_bytes, random_bytes=Counted(),
        )  # fmt: skip
        self.consumer = Consumer(
            [self.inlet], self.ingest, scene.store.rejects, scene.clock, batch_events=limits.batch_events
        )

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                await asyncio.sleep(0)

    async def acknowledged(self, count: int) -> None:
        await self.until(lambda: len(self.queue.acknowledged) == count)

    async def log(self, key: str = "k1") -> list[str]:
        found = await self.scene.store.log.search(EventQuery(key=f"/heat {key}", limit=10_000))
        return [entry.event.id for entry in found]

    async def rejects(self) -> list[Reject]:
        return await self.scene.store.rejects.rejects(None, None, 100)


def message(one: Event) -> SourceMessage:
    body = encode_structured(one)
    return SourceMessage(body, len(body), STRUCTURED)


def raw(body: bytes, content_type: str | None = STRUCTURED, **others: Any) -> SourceMessage:
    return SourceMessage(body, others.pop("size_bytes", len(body)), content_type, **others)


def some(count: int, start: int = 0) -> list[SourceMessage]:
    return [message(event(at)) for at in range(start, start + count)]


def test_messages_become_events_in_the_queue_s_order_and_are_acknowledged() -> None:
    async def scenario(scene: Scene) -> None:
        stage = Stage(scene, 64)
        stage.queue.put(*some(500))
        stage.consumer.start()
        await stage.acknowledged(500)
        assert await stage.log() == [f"a-{at}" for at in range(500)]
        assert stage.queue.acknowledged == some(500)
        assert stage.queue.most_unacknowledged <= 64
        assert max(stage.ingest.calls) > 1  # many share a commit
        assert stage.inlet.status() | {"since": ""} == {
            "name": "legacy", "state": "up", "since": "", "detail": "",
            "accepted": 500, "duplicates": 0, "rejected": 0,
        }  # fmt: skip
        await stage.consumer.stop()
        assert stage.queue.reader is None

    play(scenario)


def test_nothing_is_acknowledged_before_it_is_on_disk() -> None:
    async def scenario(scene: Scene) -> None:
        stage = Stage(scene)
        stage.ingest.gate = asyncio.Event()
        stage.queue.put(*some(3))
        stage.consumer.start()
        await stage.until(lambda: stage.ingest.calls)
        assert stage.queue.acknowledged == []
        stage.ingest.gate.set()
        await stage.acknowledged(3)
        await stage.consumer.stop()

    play(scenario)


def test_a_poison_message_is_kept_with_its_reason_and_its_neighbours_pass(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(scene: Scene) -> None:
        stage = Stage(scene)
        poison = raw(b"\xff\xfe not an event", None, message_id="m-1", headers={"who": "me", "n": 7})
        stage.queue.put(*some(2), poison, *some(2, 2), raw(b"", STRUCTURED), *some(1, 4))
        stage.consumer.start()
        await stage.acknowledged(7)
        assert await stage.log() == ["a-0", "a-1", "a-2", "a-3", "a-4"]
        first, second = await stage.rejects()
        assert (first.source, first.body, first.size_bytes) == ("legacy", poison.body, 15)
        assert first.reason.startswith("malformed-json: the body is not UTF-8")
        assert first.headers == {":message-id": "m-1", "who": "me", ":headers": '{"n":7}'}
        assert second.reason == "malformed-json: the body is not JSON: is empty"
        said = [vars(one) for one in caplog.records if one.message == "a message was rejected"]
        assert [(one["reject"], one["reason"]) for one in said] == [
            (first.id, first.reason), (second.id, second.reason),
        ]  # fmt: skip
        assert stage.inlet.rejected == 2
        await stage.consumer.stop()

    play(scenario)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_reject_whose_acknowledgement_was_lost_is_listed_once(restarted: bool) -> None:
    async def scenario(scene: Scene) -> None:
        stage = Stage(scene)
        stage.source.acknowledge = lambda received: None  # type: ignore[method-assign]  # none arrives
        stage.queue.put(raw(b"no", message_id="m-1"), raw(b"no", message_id="m-2"))
        stage.consumer.start()
        await stage.until(lambda: stage.inlet.rejected == 2)
        del stage.source.acknowledge
        if restarted:
            await stage.consumer.stop()
            stage = Stage(scene, queue=stage.queue)
            stage.consumer.start()
        else:
            stage.source.reconnect()
        await stage.acknowledged(2)
        assert [one.headers[":message-id"] for one in await stage.rejects()] == ["m-1", "m-2"]
        assert stage.inlet.rejected == (0 if restarted else 2)
        await stage.consumer.stop()

    play(scenario)


@pytest.mark.parametrize(
    ("kept", "came", "listed"),
    [
        ({"message_id": "m-1"}, {"message_id": "m-2"}, "another id"),
        ({"message_id": "m-1", "body": b"not"}, {"message_id": "m-1"}, "another body"),
        ({}, {}, "no id: who knows whether it is the same"),
    ],
)
def test_a_redelivered_message_is_listed_unless_it_certainly_is(
    kept: dict[str, Any], came: dict[str, Any], listed: str
) -> None:
    async def scenario(scene: Scene) -> None:
        stage = Stage(scene)
        stage.queue.put(raw(**{"body": b"no", **kept}), raw(**{"body": b"no", **came}))
        stage.queue.returned = 2  # somebody had them before
        stage.consumer.start()
        await stage.acknowledged(2)
        assert len(await stage.rejects()) == 2, listed
        await stage.consumer.stop()

    play(scenario)


def test_a_message_that_is_sent_twice_is_listed_twice() -> None:
    async def scenario(scene: Scene) -> None:
        stage = Stage(scene)
        stage.queue.put(*[raw(b"no", message_id="m-1")] * 2)
        stage.consumer.start()
        await stage.acknowledged(2)
        assert len(await stage.rejects()) == 2
        await stage.consumer.stop()

    play(scenario)


def test_a_redelivered_message_is_listed_where_the_rejects_cannot_be_read() -> None:
    async def scenario(scene: Scene) -> None:
        stage = Stage(scene)

        async def unreadable(reject: Reject, header: str) -> bool:
            raise StoreCorrupt("a page does not hold what was written")

        scene.store.rejects.has_like = unreadable  # type: ignore[method-assign]  # the store is the scene's own
        stage.queue.put(raw(b"no", message_id="m-1"))
        stage.queue.returned = 1
        stage.consumer.start()
        await stage.acknowledged(1)
        assert len(await stage.rejects()) == 1
        await stage.consumer.stop()

    play(scenario)


def test_a_conflict_in_the_middle_of_a_batch_takes_nobody_down() -> None:
    async def scenario(scene: Scene) -> None:
        stage = Stage(scene)
        other = message(event(1, data=b'{"other": 2}'))
        stage.queue.put(*some(3), other, *some(2, 3))
        stage.consumer.start()
        await stage.acknowledged(6)
        assert await stage.log() == [f"a-{at}" for at in range(5)]
        (reject,) = await stage.rejects()
        assert reject.reason.startswith("event-conflict: ")
        assert reject.body == other.body
        assert stage.queue.acknowledged[3] == other  # in the queue's order
        await stage.consumer.stop()

    play(scenario)


def test_an_event_too_large_is_rejected_and_says_how_much_is_kept() -> None:
    limits = Limits(event_bytes=1000)

    async def scenario(scene: Scene) -> None:
        stage = Stage(scene, limits=limits)
        long = message(event(9, data=b'"' + b"x" * 2000 + b'"'))
        stage.queue.put(
            message(event(0)), long, raw(b"{" + b" " * 1999, size_bytes=52_428_800), message(event(1))
        )
        stage.consumer.start()
        await stage.acknowledged(4)
        assert await stage.log() == ["a-0", "a-1"]
        first, second = await stage.rejects()
        assert first.reason.startswith("too-large: ")
        assert "only the first 1000 of its" in first.reason
        assert (len(first.body), first.size_bytes) == (1000, long.size_bytes)
        assert "the message has 52428800 bytes; an event may have 1000" in second.reason
        assert (len(second.body), second.size_bytes) == (1000, 52_428_800)
        await stage.consumer.stop()

    play(scenario, EngineSettings(limits=limits))


def test_a_defect_in_reading_one_message_loses_nothing_and_stops_nothing() -> None:
    def broken(one: SourceMessage) -> Sequence[Event]:
        if one.body == b"boom":
            raise ZeroDivisionError
        return cloudevents(batch_events=10, event_bytes=1000)(one)

    async def scenario(scene: Scene) -> None:
        stage = Stage(scene, format=broken)
        stage.queue.put(raw(b"boom"), *some(1))
        stage.consumer.start()
        await stage.acknowledged(2)
        (reject,) = await stage.rejects()
        assert reject.reason.startswith("internal: a defect in the relay (ZeroDivisionError)")
        assert await stage.log() == ["a-0"]
        await stage.consumer.stop()

    play(scenario)


@pytest.mark.parametrize(
    ("problem", "state"),
    [
        (StoreFull("the disk is full"), "store-full: the disk is full"),
        (StoreBusy("locked"), "store-busy: locked"),
        (Overloaded("too much"), "overloaded: too much"),
        (RuntimeError("a secret"), "a defect in the relay (RuntimeError); its log says more"),
    ],
)
def test_while_the_store_takes_nothing_it_waits_and_goes_on_in_order(problem: Exception, state: str) -> None:
    async def scenario(scene: Scene) -> None:
        stage = Stage(scene, 2)
        stage.ingest.raises = [problem] * 5
        stage.queue.put(*some(6))
        stage.consumer.start()
        await stage.until(lambda: len(stage.ingest.raises) == 3)
        assert (stage.inlet.status()["state"], stage.inlet.status()["detail"]) == ("waiting", state)
        assert stage.queue.acknowledged == []
        await stage.acknowledged(6)
        assert stage.inlet.status()["state"] == "up"
        assert await stage.log() == [f"a-{at}" for at in range(6)]
        assert stage.queue.most_unacknowledged == 2
        await stage.consumer.stop()

    play(scenario)


def test_a_reject_waits_for_room_too() -> None:
    async def scenario(scene: Scene) -> None:
        stage = Stage(scene)
        stage.queue.put(raw(b"no"))
        inner, refusals = scene.store.rejects.add_reject, [StoreFull("full"), StoreBusy("busy")]

        async def add_reject(reject: Reject) -> None:
            if refusals:
                raise refusals.pop(0)
            await inner(reject)

        scene.store.rejects.add_reject = add_reject  # type: ignore[method-assign]  # the store is the scene's own
        stage.consumer.start()
        await stage.acknowledged(1)
        assert len(await stage.rejects()) == 1
        await stage.consumer.stop()

    play(scenario)


def test_what_comes_again_after_a_reconnection_is_recognised() -> None:
    async def scenario(scene: Scene) -> None:
        stage = Stage(scene)
        stage.ingest.gate = asyncio.Event()
        stage.queue.put(*some(BATCH_MESSAGES + 50))
        stage.consumer.start()
        await stage.until(lambda: stage.ingest.calls)
        stage.source.reconnect()  # the first batch is on its way to the disk
        stage.ingest.gate.set()
        await stage.acknowledged(BATCH_MESSAGES + 50)
        assert await stage.log() == [f"a-{at}" for at in range(BATCH_MESSAGES + 50)]
        assert stage.inlet.status()["accepted"] == BATCH_MESSAGES + 50
        assert stage.inlet.status()["duplicates"] == BATCH_MESSAGES
        await stage.consumer.stop()

    play(scenario)


def test_memory_does_not_grow_with_reconnections() -> None:
    async def scenario(scene: Scene) -> None:
        stage = Stage(scene, 10)
        stage.ingest.gate = asyncio.Event()
        stage.queue.put(*some(40))
        stage.consumer.start()
        await stage.until(lambda: stage.ingest.calls)
        for _ in range(100):
            stage.source.reconnect()
        assert len(stage.consumer._merge._queues[0]) == 10
        stage.ingest.gate.set()
        await stage.acknowledged(40)
        assert await stage.log() == [f"a-{at}" for at in range(40)]
        await stage.consumer.stop()

    play(scenario)


def test_stop_finishes_what_is_in_hand_and_leaves_the_rest() -> None:
    async def scenario(scene: Scene) -> None:
        stage = Stage(scene)
        stage.ingest.gate = asyncio.Event()
        stage.queue.put(*some(BATCH_MESSAGES + 1))
        stage.consumer.start()
        await stage.until(lambda: stage.ingest.calls)
        stopping = asyncio.ensure_future(stage.consumer.stop())
        await asyncio.sleep(0)
        assert not stopping.done()
        stage.ingest.gate.set()
        await stopping
        assert len(stage.queue.acknowledged) == BATCH_MESSAGES
        assert stage.inlet.status()["state"] == "stopped"
        await stage.consumer.stop()

    play(scenario)


def test_stop_does_not_wait_for_a_store_that_takes_nothing() -> None:
    async def scenario(scene: Scene) -> None:
        stage = Stage(scene)
        stage.ingest.raises = [StoreFull("full")] * 1_000_000
        stage.queue.put(*some(1))
        stage.consumer.start()
        await stage.until(lambda: len(stage.ingest.calls) > 2)
        await stage.consumer.stop()
        assert stage.queue.acknowledged == []

    play(scenario)


@pytest.mark.parametrize("end", [Stopping("stopping"), StoreFailed("fsync")])
def test_a_relay_that_ends_takes_nothing_and_acknowledges_nothing(end: Exception) -> None:
    async def scenario(scene: Scene) -> None:
        stage = Stage(scene)
        stage.ingest.raises = [end]
        stage.queue.put(*some(3))
        stage.consumer.start()
        task = stage.consumer._task
        assert task is not None
        await stage.until(task.done)
        assert stage.queue.acknowledged == []
        await stage.consumer.stop()

    play(scenario)


def test_a_batch_message_is_taken_whole_or_rejected_whole() -> None:
    async def scenario(scene: Scene) -> None:
        stage = Stage(scene)
        good = encode_batch(encode_structured(event(at)) for at in range(3))
        half = encode_batch([encode_structured(event(7)), b'{"specversion":"1.0"}'])
        conflict = encode_batch(encode_structured(one) for one in (event(8), event(1, data=b"2")))
        for body in (good, b"[]", half, conflict):
            stage.queue.put(raw(body, BATCH))
        stage.consumer.start()
        await stage.acknowledged(4)
        assert await stage.log() == ["a-0", "a-1", "a-2"]
        assert [one.reason.partition(":")[0] for one in await stage.rejects()] == [
            "invalid-event",
            "event-conflict",
        ]
        await stage.consumer.stop()

    play(scenario)


def test_a_mapping_that_was_mended_takes_the_reject() -> None:
    async def scenario(scene: Scene) -> None:
        body = json.dumps({"what": "made", "instance": {"id": "k1"}}).encode()
        wrong = plain_json(json_mapping(source="/heat", type="/what", subject="/instance/uuid"))
        stage = Stage(scene, format=wrong)
        stage.queue.put(raw(body, "application/json", message_id="m-1"))
        stage.consumer.start()
        await stage.acknowledged(1)
        await stage.consumer.stop()
        (reject,) = await stage.rejects()
        assert 'at "/instance/uuid" there is nothing' in reject.reason
        with pytest.raises(InvalidEvent):
            await stage.inlet.take_again(ANYONE, reject)
        right = plain_json(json_mapping(source="/heat", type="/what", subject="/instance/id"))
        mended = Stage(scene, format=right)
        (appended,) = await mended.inlet.take_again(ANYONE, reject)
        assert (appended.entry.event.id, appended.entry.event.subject) == ("m-1", "k1")
        (again,) = await mended.inlet.take_again(ANYONE, reject)
        assert again.duplicate

    play(scenario)


def test_the_state_says_since_when_and_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "fairlead.engine.sourcing")

    async def scenario(scene: Scene) -> None:
        stage = Stage(scene)
        sources = Sources([stage.consumer])
        sources.start()
        assert sources.status()[0]["state"] == "up"
        scene.clock.at += 60
        stage.source.tell(SourceHealth(False, "the queue 'in' is gone"))
        down = sources.status()[0]
        assert (down["state"], down["detail"]) == ("down", "the queue 'in' is gone")
        scene.clock.at += 60
        stage.source.tell(SourceHealth(False, "connection refused"))
        assert sources.status()[0]["since"] == down["since"]
        assert 'fairlead_source_up{source="legacy"} 0.0' in sources.metrics_text()
        stage.source.tell(SourceHealth(True))
        stage.queue.put(*some(2))
        await stage.acknowledged(2)
        text = sources.metrics_text()
        assert 'fairlead_source_accepted_total{source="legacy"} 2' in text
        assert 'fairlead_source_up{source="legacy"} 1.0' in text
        await sources.stop()
        assert [one.getMessage() for one in caplog.records] == [
            "source up", "source down", "source down", "source up", "source stopped",
        ]  # fmt: skip
        assert [getattr(one, "detail", None) for one in caplog.records] == [
            None, "the queue 'in' is gone", "connection refused", None, None,
        ]  # fmt: skip

    play(scenario)


def test_a_source_that_is_on_its_way_up_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "fairlead.engine.sourcing")

    async def scenario(scene: Scene) -> None:
        stage = Stage(scene)
        stage.source.health = SourceHealth(False, "not connected yet", begins=True)
        stage.inlet.note()
        assert stage.inlet.status()["detail"] == "not connected yet"
        assert not caplog.records
        stage.source.health = SourceHealth(False, "connection refused")
        stage.inlet.note()
        assert [one.levelname for one in caplog.records] == ["WARNING"]

    play(scenario)


def test_without_sources_there_is_nothing_to_show() -> None:
    assert (Sources().status(), Sources().metrics_text()) == ([], "")


def test_queues_of_one_group_come_out_by_the_senders_time() -> None:
    async def scenario(scene: Scene) -> None:
        stages = [Stage(scene, 3), Stage(scene, 3)]
        queues = [stage.queue for stage in stages]
        inlets = [stage.inlet for stage in stages]
        ingest = stages[0].ingest
        both = Consumer(inlets, ingest, scene.store.rejects, scene.clock, batch_events=1000)

        def at(second: int) -> SourceMessage:
            return message(event(second, time=f"2026-11-22T10:00:{second:02}Z"))

        queues[0].put(*(at(second) for second in (0, 1, 3, 4, 6, 9)))
        queues[1].put(*(at(second) for second in (2, 5, 7, 8)))
        both.start()
        await stages[0].until(lambda: len(ingest.calls) and sum(len(q.acknowledged) for q in queues) >= 9)
        scene.clock.at += 1  # the last head has waited for what does not come
        both._rung.set()
        await stages[0].until(lambda: sum(len(queue.acknowledged) for queue in queues) == 10)
        assert await stages[0].log() == [f"a-{second}" for second in range(10)]
        await both.stop()

    play(scenario)
