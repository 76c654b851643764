# SPDX-License-Identifier: Apache-2.0
"""Interface, sections 1, 2 and 9: what holds for every call, every problem type, every default."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from fairlead.config import Config
from fairlead.config.settings import Limits
from fairlead.errors import Internal, Problem, SignatureError
from fairlead.web.api_rejects import StillRejected
from tests.contract.api_scene import ONE_EVENT, Relay, event, parse_answer, play, relay
from tests.contract.wire_scene import answer, receiver, shows, soon, subscribe

BATCH = "application/cloudevents-batch+json"
AT = "/subscriptions/s"
LISTS = (
    "/events",
    "/subscriptions",
    f"{AT}/lanes",
    f"{AT}/skips",
    f"{AT}/attempts",
    f"{AT}/channels",
    "/keys",
    "/rejects",
)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
TIMES = {
    "since",
    "at",
    "accepted_at",
    "started_at",
    "ready_at",
    "created_at",
    "expires_at",
    "last_used_at",
    "received_at",
    "previous_until",
}

PROBLEMS = {
    400: {"malformed-json", "invalid-event", "invalid-header", "invalid-query", "invalid-request"},
    401: {"unauthenticated"},
    403: {"forbidden", "foreign-origin", "foreign-host"},
    404: {"not-found", "event-not-found"},
    405: {"method-not-allowed"},
    408: {"request-timeout"},
    409: {"event-conflict", "subscription-exists", "not-replayable", "wrong-state", "stale"},
    412: {"revision-mismatch"},
    413: {"too-large"},
    415: {"unsupported-media-type"},
    422: {"invalid-subscription", "invalid-filter", "forbidden-sink", "handshake-refused"},
    425: {"chain"},
    429: {"rate-limited"},
    431: {"headers-too-large"},
    500: {"internal"},
    503: {"overloaded", "store-busy", "stopping"},
    507: {"store-full"},
}


def kinds(of: type[Problem] = Problem) -> set[type[Problem]]:
    return {kind for below in of.__subclasses__() for kind in {below, *kinds(below)}}


def test_the_problem_types_are_those_of_the_table() -> None:
    by_status: dict[int, set[str]] = {}
    for kind in kinds() - {StillRejected, SignatureError}:
        by_status.setdefault(kind.status, set()).add(kind.type)
    assert by_status == PROBLEMS
    assert (Internal.type, SignatureError.type, SignatureError.status) == ("internal", "unauthenticated", 401)


async def furnished(api: Relay, sink: str) -> None:
    """A relay of which every list has an item but `/rejects`."""
    await subscribe(api, sink, config=soon(on_exhausted="skip"))
    await api.publish(event("a"), event("b", subject="k2"))
    await shows(api, f"{AT}/lanes", lambda page: page["counts"]["held"] == 1)
    await shows(api, f"{AT}/skips", lambda page: page["items"])
    await shows(api, f"{AT}/attempts", lambda page: len(page["items"]) > 1)
    api.key = (await api.post("/keys", {"name": "k", "grants": [{"may": ["admin"]}]})).json["key"]


def times_in(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for one in value for found in times_in(one)]
    if not isinstance(value, dict):
        return []
    found = [one for name, one in value.items() if name in TIMES and one is not None]
    return found + [time for one in value.values() for time in times_in(one)]


def test_lists_have_items_and_next_and_times_are_rfc_3339_in_utc(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            sink.behave = lambda hook: (
                answer(400) if hook.event["id"] == "a" else answer(503, retry_after="900")
            )
            await furnished(api, sink.url)
            for path in LISTS:
                document = (await api.get(path)).json
                assert {"items", "next"} <= set(document), path
                assert document["next"] is None
                found = times_in(document)
                assert all(TIME.fullmatch(time) for time in found), (path, found)
                assert found or path in ("/rejects", f"{AT}/channels"), path

    play(scene())


def test_a_page_has_100_items_unless_another_limit_up_to_1000_is_asked_for(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            many = [event(f"{n}", subject=f"k{n}") for n in range(1000)]
            assert (await api.call("POST", "/events", many, headers={"content-type": BATCH})).status == 202
            first = (await api.get("/events")).json
            assert len(first["items"]) == 100
            second = (await api.get("/events", limit=1000, after=first["next"])).json
            ids = [item["event"]["id"] for item in first["items"] + second["items"]]
            assert sorted(ids, key=int) == [f"{n}" for n in range(1000)]
            for path in LISTS[:1] + LISTS[1:2] + ("/keys", "/rejects"):
                (await api.get(path, limit=1001)).problem(400, "invalid-query")

    play(scene())


@pytest.mark.parametrize(
    ("call", "body", "pointer", "near"),
    [
        (("PUT", AT), {"sink": "http://127.0.0.1:9/", "protocol": "HTTP", "confg": {}}, "/confg", "config"),
        (
            ("POST", "/subscriptions"),
            {"sink": "http://127.0.0.1:9/", "protocl": "HTTP"},
            "/protocl",
            "protocol",
        ),
        (("POST", f"{AT}/secret"), {"secrt": None}, "/secrt", "secret"),
        (("POST", f"{AT}/replay"), {"tim": "2026-11-22T10:00:00Z"}, "/tim", "time"),
        (
            ("POST", f"{AT}/replay"),
            {"position": {"partitin": 1, "position": 1}},
            "/position/partitin",
            "partition",
        ),
        (("POST", f"{AT}/replay"), {"event": {"sorce": "/a", "id": "a"}}, "/event/sorce", "source"),
        (("POST", f"{AT}/lanes/retry"), {"kay": "a"}, "/kay", "key"),
        (("POST", f"{AT}/lanes/release"), {"stat": "held"}, "/stat", "state"),
        (("POST", f"{AT}/lanes/skip"), {"key": "a", "position": 1, "reson": "x"}, "/reson", "reason"),
        (
            ("POST", "/keys"),
            {"name": "a", "grants": [{"may": ["read"]}], "expires": None},
            "/expires",
            "expires_at",
        ),
        (("POST", "/keys"), {"name": "a", "grants": [{"mey": ["read"]}]}, "/grants/0/mey", "may"),
    ],
)
def test_an_unknown_member_is_refused_with_the_nearest_name(
    tmp_path: Path, call: tuple[str, str], body: Any, pointer: str, near: str
) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            await subscribe(api, "http://127.0.0.1:9/")
            got = await api.call(*call, body)
            kind = ("invalid-subscription", 422) if "sink" in body else ("invalid-request", 400)
            errors = {one["pointer"]: one for one in got.problem(kind[1], kind[0])["errors"]}
            assert near in errors[pointer]["hint"]

    play(scene())


def test_headers_beyond_the_limit_are_a_problem_with_a_request_id(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            head = f"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx: {'a' * 70_000}\r\n\r\n"
            got = parse_answer(await api.raw(head.encode()))
            got.problem(431, "headers-too-large")

    play(scene())


def test_a_request_that_does_not_arrive_is_a_problem_too(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path, limits=Limits(request_timeout_seconds=0.1)) as api:
            head = f"POST /events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {ONE_EVENT}\r\n"
            for begun in (f"{head}content-length: 9\r\n\r\n", "GET /healthz HTTP/1.1\r\n"):
                parse_answer(await api.raw(begun.encode())).problem(408, "request-timeout")

    play(scene())


def test_while_it_stops_publishers_are_told_when_to_come_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            await api.server.node.ingest.stop()
            got = await api.call("POST", "/events", event(), headers={"content-type": ONE_EVENT})
            got.problem(503, "stopping")
            assert int(got.headers["retry-after"]) >= 1

    play(scene())


def test_faults_of_a_batch_have_an_index_and_a_header_is_named(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            batch = [event("a"), event("b"), event("c", specversion="9")]
            problem = (await api.call("POST", "/events", batch, headers={"content-type": BATCH})).problem(
                400, "invalid-event"
            )
            (error,) = problem["errors"]
            assert (error["index"], error["pointer"]) == (2, "/specversion")
            assert "1.0" in error["detail"]
            assert error["hint"]
            headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t", "content-type": "text/plain"}
            problem = (await api.call("POST", "/events", b"x", headers=headers)).problem(400, "invalid-event")
            assert [one["header"] for one in problem["errors"]] == ["ce-source"]
            assert (await api.get("/events")).json["items"] == []
            got = await api.call("PUT", AT, {}, headers={"if-match": "3"})
            assert got.problem(400, "invalid-header")["errors"][0]["header"] == "if-match"
            await asyncio.sleep(0)

    play(scene())


def test_the_defaults_of_the_configuration_are_the_interfaces() -> None:
    config = Config()
    assert (config.store, str(config.listen)) == ("sqlite:///fairlead.db", "127.0.0.1:3247")
    options, limits, retention = config.store_options, config.limits, config.retention
    assert (options.disk_reserve_bytes, options.busy_timeout_seconds) == (64 * 2**20, 5)
    assert (limits.event_bytes, limits.request_bytes, limits.batch_events) == (2**20, 8 * 2**20, 1000)
    assert (limits.log_bytes, limits.connections, limits.header_bytes) == (None, 1024, 64 * 1024)
    assert limits.request_timeout_seconds == 30
    week = 7 * 86_400
    assert (retention.keep_seconds, retention.max_age_seconds, retention.max_bytes) == (week, None, None)
    assert retention.attempts_seconds == week
    assert (
        config.breaker.failures,
        config.breaker.probe_every_seconds,
        config.breaker.probe_max_seconds,
    ) == (10, 5, 300)
    assert (config.egress.allow, config.egress.ca_file, config.egress.dns_ttl_seconds) == ((), None, 30)
    assert (config.log.level, config.log.format, config.shutdown.grace_seconds) == ("info", "text", 20)
    assert config.auth.bootstrap_key is None
