# SPDX-License-Identifier: Apache-2.0
"""Interface, section 3: events in, listed, followed, and what became of them; sentence by sentence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.contract.api_scene import ONE_EVENT, Relay, event, play, relay
from tests.contract.wire_scene import TAKEN, Hook, answer, receiver, shows, soon, subscribe

BATCH = "application/cloudevents-batch+json"
BINARY = {
    "ce-specversion": "1.0",
    "ce-id": "a",
    "ce-source": "/heat",
    "ce-type": "org.example.state",
    "content-type": "text/plain",
}
MEBIBYTE = 1024 * 1024


async def publish_batch(api: Relay, *events: dict[str, Any]) -> Any:
    return await api.call("POST", "/events", list(events), headers={"content-type": BATCH})


def of_size(size_bytes: int) -> bytes:
    """An event whose JSON has this size."""
    empty = json.dumps(event(data=""), separators=(",", ":"))
    return json.dumps(event(data="x" * (size_bytes - len(empty))), separators=(",", ":")).encode()


def test_what_was_accepted_is_told_in_input_order(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            batch = [event(f"{n}", subject=f"k{n % 5}") for n in range(50)]
            got = await publish_batch(api, *batch, batch[7])
            assert got.status == 202
            accepted = got.json["accepted"]
            assert [one["id"] for one in accepted] == [*(f"{n}" for n in range(50)), "7"]
            assert [set(one) for one in accepted] == [
                {"id", "source", "partition", "position", "duplicate"}
            ] * 51
            assert [one["duplicate"] for one in accepted] == [False] * 50 + [True]
            assert accepted[-1] == {**accepted[7], "duplicate": True}
            by_partition: dict[int, list[int]] = {}
            for one in accepted[:50]:
                by_partition.setdefault(one["partition"], []).append(one["position"])
            assert all(places == list(range(1, len(places) + 1)) for places in by_partition.values())

    play(scene())


def test_1000_events_are_taken_at_once_and_no_more(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            many = [event(f"{n}") for n in range(1001)]
            problem = (await publish_batch(api, *many)).problem(413, "too-large")
            assert "1000" in problem["detail"]
            assert (await api.get("/events")).json["items"] == []
            assert (await publish_batch(api, *many[:1000])).status == 202

    play(scene())


def test_an_event_of_1_mib_is_taken_and_one_byte_more_is_not(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            taken = await api.call("POST", "/events", of_size(MEBIBYTE), headers={"content-type": ONE_EVENT})
            assert taken.status == 202
            large = await api.call(
                "POST", "/events", of_size(MEBIBYTE + 1), headers={"content-type": ONE_EVENT}
            )
            assert large.problem(413, "too-large")["limit_bytes"] == MEBIBYTE

    play(scene())


def test_a_request_of_8_mib_is_taken_and_one_byte_more_is_not(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            parts = [event(f"{n}", data="x" * (MEBIBYTE - 1000)) for n in range(8)]
            whole = json.dumps(parts).encode()
            for size, status in ((8 * MEBIBYTE, 202), (8 * MEBIBYTE + 1, 413)):
                body = whole + b" " * (size - len(whole))
                got = await api.call("POST", "/events", body, headers={"content-type": BATCH})
                assert got.status == status
            assert got.problem(413, "too-large")["limit_bytes"] == 8 * MEBIBYTE

    play(scene())


def test_other_content_under_an_id_is_a_conflict_and_other_spelling_of_the_same_json_is_none(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            await api.publish(event("a", data={"n": 1, "m": 2}))
            other = (await publish_batch(api, event("b"), event("a", data={"n": 2}))).problem(
                409, "event-conflict"
            )
            assert [one["index"] for one in other["errors"]] == [1]
            same = (
                b'{"specversion":"1.0","id":"a","source":"/heat","type":"org.example.state","subject":"k1",'
            )
            same += b'"data":{ "m":2.0e0, "n":1 }}'
            got = await api.call("POST", "/events", same, headers={"content-type": ONE_EVENT})
            assert got.json["accepted"][0]["duplicate"] is True
            assert len((await api.get("/events")).json["items"]) == 1
            otherwise = (await api.publish(event("a", subject="k2")))[0]  # another key: another event
            assert otherwise["duplicate"] is False

    play(scene())


def test_two_of_a_batch_under_one_id_are_told_as_such(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            got = await publish_batch(api, event("a"), event("b"), event("b", data={"n": 2}))
            (fault,) = got.problem(409, "event-conflict")["errors"]
            assert fault["index"] == 2
            assert "at index 1" in fault["detail"]
            assert (await api.get("/events")).json["items"] == []

    play(scene())


@pytest.mark.parametrize("headers", [{"content-type": ONE_EVENT}, BINARY], ids=["structured", "binary"])
def test_a_compressed_body_is_refused_as_subscribers_could_not_know(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            body = json.dumps(event()).encode()
            squeezed = {**headers, "content-encoding": "gzip"}
            got = await api.call("POST", "/events", gzip.compress(body), headers=squeezed)
            (fault,) = got.problem(415, "unsupported-media-type")["errors"]
            assert fault["header"] == "content-encoding"
            plain = {**headers, "content-encoding": "identity"}
            assert (await api.call("POST", "/events", body, headers=plain)).status == 202

    play(scene())


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("/events", ONE_EVENT), ("/events", BATCH), ("/subscriptions", "application/json")],
)
def test_json_in_another_charset_than_utf_8_is_refused(tmp_path: Path, path: str, content_type: str) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            for charset in ("utf-16", '"ISO-8859-1"'):
                got = await api.post(path, {}, **{"content-type": f"{content_type}; charset={charset}"})
                (fault,) = got.problem(415, "unsupported-media-type")["errors"]
                assert fault["header"] == "content-type"
            got = await api.post(path, {}, **{"content-type": f"{content_type};charset=UTF-8"})
            assert got.status in (400, 422)

    play(scene())


def test_our_attribute_names_are_dropped_and_other_names_with_fl_are_the_users(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            await subscribe(api, sink.url)
            await api.publish(event(flpos="999", flskipped="1", flsubscription="other", flavor="m1", flx="y"))
            (item,) = (await api.get("/events")).json["items"]
            assert {name for name in item["event"] if name.startswith("fl")} == {"flavor", "flx"}
            (hook,) = await sink.until(1)
            assert (hook.event["flpos"], hook.event["flsubscription"]) == ("1", "s")
            assert "flskipped" not in hook.event
            assert hook.event["flavor"] == "m1"

    play(scene())


def test_an_item_is_the_event_with_its_place(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            (placed,) = await api.publish(event())
            (item,) = (await api.get("/events")).json["items"]
            assert set(item) == {"event", "partition", "position", "key", "accepted_at"}
            assert item["event"] == {**event(), **item["event"]}
            assert (item["partition"], item["position"]) == (placed["partition"], placed["position"])
            assert item["key"] == "/heat k1"

    play(scene())


@pytest.mark.parametrize(
    ("attributes", "key"),
    [
        ({"partitionkey": "p 1"}, "p 1"),
        ({}, "/heat k1"),
        ({"subject": None}, "/heat"),
    ],
)
def test_the_key_is_partitionkey_or_source_and_subject_or_source(
    tmp_path: Path, attributes: dict[str, Any], key: str
) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            await api.publish(event(**attributes))
            assert [item["key"] for item in (await api.get("/events", key=key)).json["items"]] == [key]

    play(scene())


def test_events_are_listed_by_partition_and_position_and_every_parameter_narrows(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            for n in range(20):
                await api.publish(event(f"{n}", subject=f"k{n % 4}", source=f"/s{n % 2}", type=f"t{n % 5}"))

            async def ids(**query: object) -> set[str]:
                items = (await api.get("/events", **query)).json["items"]
                places = [(item["partition"], item["position"]) for item in items]
                assert places == sorted(places)
                return {item["event"]["id"] for item in items}

            assert await ids() == {f"{n}" for n in range(20)}
            assert await ids(source="/s1") == {f"{n}" for n in range(1, 20, 2)}
            assert await ids(subject="k3") == {"3", "7", "11", "15", "19"}
            assert await ids(type="t2", source="/s0") == {"2", "12"}
            assert await ids(id="7") == {"7"}
            assert await ids(source="/s1", id="7") == {"7"}
            assert await ids(key="/s1 k3", type="t4") == {"19"}
            middle = (await api.get("/events", id="9")).json["items"][0]["accepted_at"]
            later = await ids(accepted_after=middle)
            assert {f"{n}" for n in range(10, 20)} - later <= {"10"}  # "10" may be of the same millisecond
            assert not {f"{n}" for n in range(8)} & later

    play(scene())


def test_following_pages_go_on_where_the_last_one_ended_in_every_partition(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            await api.publish(*(event(f"old-{n}", subject=f"k{n}") for n in range(12)))
            page = (await api.get("/events", limit=12)).json
            seen: list[str] = []
            for round in range(3):
                await api.publish(*(event(f"{round}-{n}", subject=f"k{n}") for n in range(4)))
                while len(seen) < 4 * (round + 1):
                    page = (await api.get("/events", follow="true", limit=3, after=page["next"])).json
                    assert page["next"] is not None
                    seen += [item["event"]["id"] for item in page["items"]]
            assert sorted(seen) == sorted(f"{round}-{n}" for round in range(3) for n in range(4))

    play(scene())


def test_following_with_nothing_new_answers_after_30_s_with_a_next(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            await api.publish(event("old"))
            monotonic, calls = api.server._clock.monotonic, 0

            def hurried() -> float:
                nonlocal calls
                calls += 1
                return monotonic() + 29.9 * (calls > 1)

            follow = api.server.node.queries.events
            asked: list[float] = []

            async def noted(*arguments: Any, **options: Any) -> Any:
                asked.append(options.get("wait_seconds", 30.0))
                api.server._clock.monotonic = hurried
                try:
                    return await follow(*arguments, **options)
                finally:
                    api.server._clock.monotonic = monotonic

            api.server.node.queries.events = noted
            page = (await api.get("/events", follow="true")).json
            assert (page["items"], asked) == ([], [30.0])
            await api.publish(event("new"))
            assert [
                one["event"]["id"] for one in (await api.get("/events", after=page["next"])).json["items"]
            ] == ["new"]

    play(scene())


def test_every_state_of_a_delivery_is_shown(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            answers = {"held": answer(503, retry_after="900"), "parked": answer(400), "skipped": answer(400)}

            def behave(hook: Hook) -> bytes:
                return answers.get(hook.event["id"], b"" if hook.event["id"] == "in_flight" else TAKEN)

            sink.behave = behave
            await subscribe(
                api, sink.url, "park", config=soon(), filters=[{"not": {"exact": {"id": "filtered"}}}]
            )
            ids = ("delivered", "held", "parked", "filtered", "in_flight")
            await api.publish(*(event(id, subject=id) for id in ids))
            await subscribe(api, sink.url, "skip", config=soon(on_exhausted="skip"), types=["skip"])
            await api.publish(event("skipped", subject="skipped", type="skip"))
            await subscribe(api, sink.url, "late", types=["late"])
            await api.call("POST", "/subscriptions/late/pause")
            await api.publish(event("pending", subject="pending", type="late"))
            states = {**dict.fromkeys(ids, "park"), "skipped": "skip", "pending": "late"}
            for id, name in states.items():

                def there(page: Any, id: str = id, name: str = name) -> bool:
                    deliveries = {one["subscription"]: one["state"] for one in page["items"][0]["deliveries"]}
                    return bool(deliveries[name] == id)

                await shows(api, "/events", there, source="/heat", id=id)
            assert (await api.call("DELETE", "/subscriptions/park")).status == 204  # also while in flight

    play(scene())
