# SPDX-License-Identifier: Apache-2.0
"""`/events` over HTTP, and what holds for every call (interface, sections 1 to 3)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fairlead.config import Config
from fairlead.config.settings import Limits
from tests.contract.api_scene import ONE_EVENT, event, parse_answer, play, relay, sink

BATCH = "application/cloudevents-batch+json"


# -- publishing ---------------------------------------------------------------------------------------------


def test_an_event_is_accepted_and_says_where_it_stands(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            got = await api.call("POST", "/events", event(), headers={"content-type": ONE_EVENT})
            assert got.status == 202
            (accepted,) = got.json["accepted"]
            assert accepted == {
                "id": "a-1",
                "source": "/heat",
                "partition": accepted["partition"],
                "position": 1,
                "duplicate": False,
            }
            again = await api.call("POST", "/events", event(), headers={"content-type": ONE_EVENT})
            assert again.json["accepted"] == [{**accepted, "duplicate": True}]
            other = await api.call(
                "POST", "/events", event(data={"n": 2}), headers={"content-type": ONE_EVENT}
            )
            assert other.problem(409, "event-conflict")["errors"][0]["index"] == 0

    play(scene())


def test_a_batch_is_taken_whole_in_order_or_not_at_all(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            batch = [event(f"a-{n}") for n in range(3)]
            got = await api.call("POST", "/events", batch, headers={"content-type": BATCH})
            assert [one["id"] for one in got.json["accepted"]] == ["a-0", "a-1", "a-2"]
            empty = await api.call("POST", "/events", [], headers={"content-type": BATCH})
            assert (empty.status, empty.json) == (202, {"accepted": []})
            wrong = [event("b-0"), event("b-1", specversion="9"), event("b-2", time="noon")]
            problem = (await api.call("POST", "/events", wrong, headers={"content-type": BATCH})).problem(
                400, "invalid-event"
            )
            assert [(one["index"], one["pointer"]) for one in problem["errors"]] == [
                (1, "/specversion"),
                (2, "/time"),
            ]
            assert (await api.get("/events", source="/heat", id="b-0")).json["items"] == []

    play(scene())


def test_an_event_in_binary_mode_keeps_its_bytes(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            headers = {
                "ce-specversion": "1.0",
                "ce-id": "b",
                "ce-source": "/s",
                "ce-type": "t",
                "ce-subject": "%C3%A4",
            }
            got = await api.call(
                "POST", "/events", b"\x00\xff", headers={**headers, "content-type": "image/png"}
            )
            assert got.status == 202
            (item,) = (await api.get("/events", source="/s", id="b")).json["items"]
            assert item["event"]["data_base64"] == "AP8="
            assert item["event"]["subject"] == "\u00e4"

    play(scene())


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/cloudevents+avro", None]
)
def test_another_content_type_is_told_which_are_taken(tmp_path: Path, content_type: str | None) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            body = json.dumps(event()).encode()
            line = f"content-type: {content_type}\r\n" if content_type else ""
            head = f"POST /events HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n{line}"
            answer = parse_answer(await api.raw(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body))
            problem = answer.problem(415, "unsupported-media-type")
            assert problem["errors"][0]["detail"] == "is not a content type of events"
            supported = problem["supported"]
            assert supported[:2] == [ONE_EVENT, BATCH]

    play(scene())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xef\xbb\xbf{}",
        b'{"a":"\xff"}',
        b'{"data":' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"data":' + b"[" * 100_000,
        b'{"specversion":"1.0","id":"a","source":"/s","type":"t","data":NaN}',
        b'{"specversion":"1.0","id":"\\ud800","source":"/s","type":"t"}',
    ],
    ids=["empty", "open", "byte-order mark", "not UTF-8", "deep", "very deep", "NaN", "surrogate"],
)
def test_a_body_that_is_no_json_is_400(tmp_path: Path, body: bytes) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            got = await api.call("POST", "/events", body, headers={"content-type": ONE_EVENT})
            assert got.problem(400, "malformed-json")["detail"]

    play(scene())


def test_what_is_too_large_is_413_with_the_limit(tmp_path: Path) -> None:
    async def scene() -> None:
        limits = Limits(event_bytes=2000, request_bytes=5000)
        async with relay(tmp_path, limits=limits) as api:
            large = event(data="x" * 3000)
            got = await api.call("POST", "/events", large, headers={"content-type": ONE_EVENT})
            assert got.problem(413, "too-large")["limit_bytes"] == 2000
            got = await api.call("POST", "/events", [event(), large], headers={"content-type": BATCH})
            problem = got.problem(413, "too-large")
            assert (problem["limit_bytes"], problem["errors"][0]["index"]) == (2000, 1)
            got = await api.call("POST", "/events", b"x" * 5001, headers={"content-type": BATCH})
            assert got.problem(413, "too-large")["limit_bytes"] == 5000

    play(scene())


def test_a_body_without_a_length_is_counted_as_it_comes(tmp_path: Path) -> None:
    async def scene() -> None:
        limits = Limits(event_bytes=2000, request_bytes=5000)
        async with relay(tmp_path, limits=limits) as api:
            head = (
                f"POST /events HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: {BATCH}\r\n"
            )
            chunks = b"".join(b"3e8\r\n%b\r\n" % (b" " * 1000) for _ in range(20)) + b"0\r\n\r\n"
            answer = await api.raw(f"{head}transfer-encoding: chunked\r\n\r\n".encode() + chunks)
            assert parse_answer(answer).problem(413, "too-large")["limit_bytes"] == 5000

    play(scene())


# -- looking ------------------------------------------------------------------------------------------------


def test_events_are_found_and_paged_through(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            await api.publish(*(event(f"a-{n}", subject=f"k{n % 3}", type=f"t{n % 2}") for n in range(7)))
            seen: list[tuple[int, int]] = []
            after: dict[str, str] = {}
            while True:
                page = (await api.get("/events", limit=2, **after)).json
                seen += [(item["partition"], item["position"]) for item in page["items"]]
                if page["next"] is None:
                    break
                after = {"after": page["next"]}
            assert len(seen) == 7
            assert seen == sorted(seen)
            by_key = (await api.get("/events", key="/heat k1")).json["items"]
            assert [item["event"]["id"] for item in by_key] == ["a-1", "a-4"]
            assert {item["key"] for item in by_key} == {"/heat k1"}
            assert all(item["accepted_at"].endswith("Z") for item in by_key)
            by_type = (await api.get("/events", type="t0", subject="k0")).json["items"]
            assert {item["event"]["id"] for item in by_type} == {"a-0", "a-6"}
            assert (await api.get("/events", accepted_after="2999-01-01T00:00:00Z")).json["items"] == []
            early = (await api.get("/events", accepted_after="2020-01-01T00:00:00+01:00")).json["items"]
            assert len(early) == 7

    play(scene())


def test_an_event_asked_for_by_name_says_who_got_it(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, sink() as receiver:
            await api.call("PUT", "/subscriptions/console", {"sink": receiver.url, "protocol": "HTTP"})
            await api.call(
                "PUT", "/subscriptions/other", {"sink": receiver.url, "protocol": "HTTP", "types": ["none"]}
            )
            await api.publish(event())

            async def delivered() -> bool:
                (item,) = (await api.get("/events", source="/heat", id="a-1")).json["items"]
                states = {one["subscription"]: one["state"] for one in item["deliveries"]}
                assert states["console"] in ("pending", "in_flight", "delivered")
                return states == {"console": "delivered", "other": "filtered"}

            await api.until(delivered)
            assert receiver.got[0]["data"] == {"n": 1}
            assert "deliveries" not in (await api.get("/events")).json["items"][0]

    play(scene())


def test_a_damaged_row_is_told_as_such_and_hides_nothing_before_it(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            await api.publish(*(event(f"a-{n}") for n in range(9)))
            with contextlib.closing(sqlite3.connect(tmp_path / "relay.db")) as database, database:
                database.execute("UPDATE log SET data = 'x' WHERE id = 'a-7'")
            for following in ({}, {"follow": "true"}):
                page, after, seen = (await api.get("/events")).json, "", []
                while page["items"]:
                    seen += [item["event"]["id"] for item in page["items"]]
                    after = page["next"]
                    got = await api.get("/events", after=after, **following)
                    if got.status != 200:
                        break
                    page = got.json
                assert seen == [f"a-{n}" for n in range(7)]
                problem = got.problem(500, "internal")
                assert problem["title"] == "The store is damaged"
                assert "fairlead store check" in problem["detail"]
            (behind,) = (await api.get("/events", source="/heat", id="a-8")).json["items"]
            assert behind["position"] == 9

    play(scene())


def test_who_follows_is_woken_by_what_is_new_and_misses_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            await api.publish(event("old"))
            waiting = asyncio.ensure_future(api.get("/events", follow="true"))
            page: dict[str, Any] = {"items": []}
            number = 0
            while not waiting.done():  # it may begin to follow after the first of them
                await api.publish(event(f"new-{number}", subject=f"k{number}"))
                number += 1
            page = (await waiting).json
            seen = [item["event"]["id"] for item in page["items"]]
            assert "old" not in seen
            await api.publish(event("last"))
            while "last" not in seen:  # a page goes by partition: it need not be the last of its page
                page = (await api.get("/events", follow="true", after=page["next"])).json
                seen += [item["event"]["id"] for item in page["items"]]
            names = [f"new-{n}" for n in range(number)]
            missed = names[: len(names) - len(seen) + 1]
            assert sorted(seen + missed) == sorted([*names, "last"])

    play(scene())


def test_who_follows_is_let_go_when_the_relay_stops(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            await api.publish(event())
            waiting = asyncio.ensure_future(api.get("/events", follow="true"))
            while not api.server.node.ingest.arrivals._waiting:
                await asyncio.sleep(0)
        got = await waiting
        assert got.status == 200
        assert got.json["items"] == []
        assert got.json["next"]

    play(scene())


# -- what holds for every call ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=-1", "limit"),
        ("limit=1&limit=2", "limit"),
        ("after=nonsense", "after"),
        ("after=W1sxLDJdXQx", "after"),
        ("follow=yes", "follow"),
        ("accepted_after=yesterday", "accepted_after"),
        ("subjet=k1", "subjet"),
        ("key=%ff", "key"),
    ],
)
def test_a_query_that_cannot_be_understood_names_the_parameter(tmp_path: Path, query: str, name: str) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            problem = (await api.call("GET", f"/events?{query}")).problem(400, "invalid-query")
            assert [error["query"] for error in problem["errors"]] == [name]
            if name == "subjet":
                assert "subject" in problem["errors"][0]["hint"]

    play(scene())


def test_the_request_id_is_the_callers_where_it_gives_one(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            named = await api.call("GET", "/healthz", headers={"x-request-id": "mine-1"})
            assert named.headers["x-request-id"] == "mine-1"
            wild = await api.call("GET", "/healthz", headers={"x-request-id": "a b<script>"})
            assert "script" not in wild.headers["x-request-id"]
            two = {(await api.get("/healthz")).headers["x-request-id"] for _ in range(2)}
            assert len(two) == 2

    play(scene())


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/events/", "/events/1", "//events", "/subscriptions//lanes", "/%2e%2e"]
)
def test_a_path_that_is_not_there_is_404(tmp_path: Path, path: str) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            assert "/openapi.json" in (await api.get(path)).problem(404, "not-found")["detail"]

    play(scene())


def test_every_call_knows_its_methods_and_head_is_get(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            paths = (await api.get("/openapi.json")).json["paths"]
            for template, calls in paths.items():
                path = template.replace("{id}", "s-1").replace("{path}", "x")
                allowed = {method.upper() for method in calls if method.isalpha() and method != "parameters"}
                if "GET" in allowed:
                    allowed.add("HEAD")
                for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} - allowed:
                    got = await api.call(method, path)
                    got.problem(405, "method-not-allowed")
                    assert set(got.headers["allow"].split(", ")) == allowed, (method, path)
            for path in ("/events", "/subscriptions", "/healthz", "/openapi.json", "/keys"):
                get, head = await api.get(path), await api.call("HEAD", path)
                assert (head.status, head.body) == (get.status, b"")
                assert head.headers["content-length"] == get.headers["content-length"]
                assert head.headers["content-type"] == get.headers["content-type"]

    play(scene())


def test_a_full_disk_says_when_to_come_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path, limits=Limits(log_bytes=1)) as api:
            got = await api.call("POST", "/events", event(), headers={"content-type": ONE_EVENT})
            got.problem(507, "store-full")
            assert got.headers["retry-after"] == "10"

    play(scene())


def test_a_defect_shows_nothing_of_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:

            async def broken(*_: object, **__: object) -> None:
                raise KeyError("a secret inside")

            api.server.node.ingest.accept = broken  # type: ignore[assignment,method-assign]
            got = await api.call("POST", "/events", event(), headers={"content-type": ONE_EVENT})
            problem = got.problem(500, "internal")
            assert b"secret" not in got.body
            assert problem["request_id"] in problem["detail"]

    play(scene())
    (record,) = [one for one in caplog.records if one.levelname == "ERROR"]
    assert record.exc_info


def test_the_defaults_are_those_of_the_interface() -> None:
    limits = Config().limits
    assert (limits.event_bytes, limits.request_bytes, limits.batch_events) == (2**20, 2**23, 1000)
