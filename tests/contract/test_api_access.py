# SPDX-License-Identifier: Apache-2.0
"""Who may call what: loopback, browsers, keys and grants; health and metrics (interface, section 6)."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from fairlead.config import Config, Listen
from fairlead.config.settings import Auth, Egress
from fairlead.errors import ConfigError
from fairlead.wiring import Server
from tests.contract.api_scene import ONE_EVENT, Relay, event, parse_answer, play, relay, sink

BOOTSTRAP = "flk_" + "B" * 32
ADMIN = {"name": "root", "grants": [{"may": ["admin"]}]}


async def key_of(api: Relay, *grants: dict[str, Any], name: str = "k", **members: Any) -> str:
    """A new key's text."""
    got = await api.post("/keys", {"name": name, "grants": list(grants), **members})
    assert got.status == 201, got.body
    text: str = got.json["key"]
    return text


# -- while nothing is configured ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["relay.example", "127.0.0.1.evil.example", "10.0.0.1:3247", "localhost@evil", ""]
)
def test_a_host_that_is_not_loopback_is_refused(tmp_path: Path, host: str) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            (await api.call("GET", "/events", headers={"host": host})).problem(403, "foreign-host")

    play(scene())


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:3247", "127.0.0.1:1", "[::1]:3247", "127.3.2.1"])
def test_a_loopback_host_is_served(tmp_path: Path, host: str) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            assert (await api.call("GET", "/events", headers={"host": host})).status == 200

    play(scene())


def test_pages_of_other_origins_are_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            host = {"host": "127.0.0.1:3247"}
            for origin in ("https://evil.example", "null", "http://127.0.0.1:8000", "file://", "nonsense"):
                got = await api.call("POST", "/subscriptions", {}, headers={**host, "origin": origin})
                got.problem(403, "foreign-origin")
            got = await api.call("GET", "/events", headers={**host, "origin": "http://127.0.0.1:3247"})
            assert got.status == 200

    play(scene())


def test_another_address_than_loopback_needs_authentication(tmp_path: Path) -> None:
    async def scene() -> None:
        server = Server(Config(store=f"sqlite:////{str(tmp_path)[1:]}/relay.db", listen=Listen("0.0.0.0", 0)))
        with pytest.raises(ConfigError, match="bootstrap_key"):
            await server.start()
        await server.stop()

    play(scene())


# -- keys ---------------------------------------------------------------------------------------------------


def test_the_first_key_closes_the_door_behind_itself(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            made = await api.post("/keys", ADMIN)
            assert made.status == 201
            assert made.headers["location"] == f"/keys/{made.json['id']}"
            assert set(made.json) == {
                "id",
                "name",
                "key",
                "grants",
                "created_at",
                "expires_at",
                "last_used_at",
            }
            assert made.json["grants"] == [{"may": ["admin"]}]
            assert len(made.json["key"]) == 36
            assert made.json["key"].startswith("flk_")
            for path in ("/events", "/subscriptions", "/keys", "/metrics", "/rejects", "/nothing-at-all"):
                got = await api.get(path)
                assert got.status in (401, 404)
                if got.status == 401:
                    got.problem(401, "unauthenticated")
                    assert got.headers["www-authenticate"].startswith("Bearer")
            assert (await api.get("/healthz")).status == 200
            assert (await api.get("/readyz")).status == 200
            api.key = made.json["key"]
            assert (await api.get("/events")).status == 200

    play(scene())


def test_a_key_is_taken_as_bearer_and_as_basic_password(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path, auth=Auth(bootstrap_key=BOOTSTRAP)) as api:
            basic = "Basic " + b64encode(f"any:{BOOTSTRAP}".encode()).decode()
            for login in (
                f"Bearer {BOOTSTRAP}",
                f"bearer  {BOOTSTRAP}",
                basic,
                basic.replace("Basic", "basic"),
            ):
                assert (await api.call("GET", "/events", headers={"authorization": login})).status == 200
            wrong = "flk_" + "C" * 32
            for login in (
                f"Bearer {wrong}",
                f"Bearer {BOOTSTRAP}x",
                "Bearer ",
                "Bearer eyJh",
                "Basic !!!",
                "Basic " + b64encode(f"u:{wrong}".encode()).decode(),
                "Basic " + b64encode(b"\xff").decode(),
                "Negotiate x",
                "",
            ):
                got = await api.call("GET", "/events", headers={"authorization": login})
                got.problem(401, "unauthenticated")
                assert got.headers["www-authenticate"]
                assert wrong not in got.body.decode()

    play(scene())


def test_keys_are_listed_without_themselves_and_revoked_at_once(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path, auth=Auth(bootstrap_key=BOOTSTRAP)) as api:
            api.key = BOOTSTRAP
            texts = [await key_of(api, {"may": ["read"]}, name=f"k{n}") for n in range(3)]
            first = await api.get("/keys", limit=2)
            rest = await api.get("/keys", limit=2, after=first.json["next"])
            items = [*first.json["items"], *rest.json["items"]]
            assert [one["name"] for one in items] == ["k0", "k1", "k2"]
            assert rest.json["next"] is None
            assert all("key" not in one for one in items)
            assert not any(text in first.body.decode() for text in texts)
            api.key = texts[1]
            assert (await api.get("/events")).status == 200
            api.key = BOOTSTRAP
            assert (await api.get("/keys")).json["items"][1]["last_used_at"] is not None
            assert (await api.call("DELETE", f"/keys/{items[1]['id']}")).status == 204
            (await api.call("DELETE", f"/keys/{items[1]['id']}")).problem(404, "not-found")
            api.key = texts[1]
            (await api.get("/events")).problem(401, "unauthenticated")

    play(scene())


def test_a_key_does_not_outlive_its_time(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path, auth=Auth(bootstrap_key=BOOTSTRAP)) as api:
            api.key = BOOTSTRAP
            text = await key_of(api, {"may": ["read"]}, expires_at="2999-01-01T00:00:00Z")
            api.key = text
            assert (await api.get("/events")).status == 200
            api.server._clock.now = lambda: 33_000_000_000.0
            assert "expired" in (await api.get("/events")).problem(401, "unauthenticated")["detail"]

    play(scene())


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"grants": [{"may": ["read"]}]}, "/name"),
        ({"name": "k"}, "/grants"),
        ({"name": "k", "grants": []}, "/grants"),
        ({"name": "k", "grants": [{}]}, "/grants/0/may"),
        ({"name": "k", "grants": [{"may": ["reed"]}]}, "/grants/0/may"),
        ({"name": "k", "grants": [{"may": ["read"], "source": ["/a"]}]}, "/grants/0/source"),
        ({"name": "k", "grants": [{"may": ["read"], "sources": []}]}, "/grants/0/sources"),
        ({"name": "k", "grants": [{"may": ["read"], "sources": ["a*b"]}]}, "/grants/0/sources"),
        ({"name": "k", "grants": [{"may": ["read"]}], "expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"name": "k", "grants": [{"may": ["read"]}], "expires_at": "never"}, "/expires_at"),
        ({"name": "k", "grants": [{"may": ["read"]}], "key": BOOTSTRAP}, "/key"),
        ([], ""),
    ],
)
def test_a_key_that_cannot_be_made_says_why(tmp_path: Path, body: Any, pointer: str) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            problem = (await api.post("/keys", body)).problem(400, "invalid-request")
            assert pointer in [error["pointer"] for error in problem["errors"]]
            assert (await api.get("/keys")).json["items"] == []

    play(scene())


def test_grants_open_what_they_name_and_nothing_else(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(
            tmp_path, auth=Auth(bootstrap_key=BOOTSTRAP), egress=Egress(allow=("127.0.0.1",))
        ) as api:
            api.key = BOOTSTRAP
            publisher = await key_of(api, {"may": ["publish"], "sources": ["/heat*"]})
            reader = await key_of(api, {"may": ["read"], "sources": ["/nova"]})
            subscriber = await key_of(api, {"may": ["subscribe"], "subscriptions": ["mine-*"]})
            body = {"sink": "http://127.0.0.1:9/", "protocol": "HTTP"}

            async def publish(source: str) -> Any:
                return await api.call(
                    "POST", "/events", event(f"e{source}", source=source), headers={"content-type": ONE_EVENT}
                )

            api.key = publisher
            assert (await publish("/heat/1")).status == 202
            problem = (await publish("/nova")).problem(403, "forbidden")
            assert problem["errors"][0]["pointer"] == "/source"
            (await api.get("/events")).problem(403, "forbidden")
            (await api.post("/keys", ADMIN)).problem(403, "forbidden")
            (await api.get("/metrics")).problem(403, "forbidden")
            api.key = reader
            assert (await api.get("/events")).json["items"] == []
            assert (await api.get("/metrics")).status == 200
            (await publish("/nova")).problem(403, "forbidden")
            api.key = subscriber
            assert (await api.call("PUT", "/subscriptions/mine-1", body)).status == 201
            (await api.call("PUT", "/subscriptions/yours", body)).problem(403, "forbidden")
            assert [one["id"] for one in (await api.get("/subscriptions")).json["items"]] == ["mine-1"]
            (await api.post("/subscriptions/mine-1/replay", {"time": "2020-01-01T00:00:00Z"})).problem(
                403, "forbidden"
            )

    play(scene())


def test_an_admin_of_some_things_makes_no_keys_for_all(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path, auth=Auth(bootstrap_key=BOOTSTRAP)) as api:
            api.key = BOOTSTRAP
            api.key = await key_of(api, {"may": ["admin"], "sources": ["/heat"]})
            (await api.post("/keys", ADMIN)).problem(403, "forbidden")
            (await api.get("/keys")).problem(403, "forbidden")
            (await api.call("DELETE", "/keys/k-1")).problem(403, "forbidden")

    play(scene())


def test_the_first_key_ends_deliveries_to_loopback(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, sink() as receiver:
            body = {"sink": receiver.url, "protocol": "HTTP"}
            assert (await api.call("PUT", "/subscriptions/a", body)).status == 201
            sender = api.server.node._sender
            assert sender._policy.loopback_allowed  # type: ignore[attr-defined]
            api.key = (await api.post("/keys", ADMIN)).json["key"]
            assert not sender._policy.loopback_allowed  # type: ignore[attr-defined]
            problem = (await api.call("PUT", "/subscriptions/b", body)).problem(422, "forbidden-sink")
            assert "[egress] allow" in problem["detail"]

    play(scene())


def test_keys_stay_where_they_were_after_a_restart(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            key = (await api.post("/keys", ADMIN)).json["key"]
        async with relay(tmp_path) as api:
            (await api.get("/events")).problem(401, "unauthenticated")
            api.key = key
            assert (await api.get("/events")).status == 200

    play(scene())


# -- health -------------------------------------------------------------------------------------------------


def test_readiness_tells_strangers_only_whether(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path, auth=Auth(bootstrap_key=BOOTSTRAP)) as api:
            whole = {"status": "ready", "store": "ok", "partitions_owned": 8, "partitions": 8}
            assert (await api.get("/readyz")).json == whole
            foreign = await api.call("GET", "/readyz", headers={"host": "relay.example"})
            assert (foreign.status, foreign.json) == (200, {"status": "ready"})
            assert (await api.get("/healthz")).json == {"status": "ok"}

    play(scene())


def test_a_probe_needs_no_host_and_any_other_call_does(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            for path, body in ((b"/healthz", {"status": "ok"}), (b"/readyz", {"status": "ready"})):
                got = parse_answer(await api.raw(b"GET " + path + b" HTTP/1.0\r\n\r\n"))
                assert (got.status, got.json) == (200, body)
                named = await api.raw(b"GET " + path + b" HTTP/1.0\r\nHost: relay.example\r\n\r\n")
                parse_answer(named).problem(403, "foreign-host")
                origin = await api.raw(b"GET " + path + b" HTTP/1.0\r\nOrigin: http://127.0.0.1\r\n\r\n")
                parse_answer(origin).problem(403, "foreign-origin")
            for path in (b"/events", b"/metrics", b"/openapi.json", b"/readyz/"):
                bare = await api.raw(b"GET " + path + b" HTTP/1.0\r\n\r\n")
                parse_answer(bare).problem(403, "foreign-host")

    play(scene())


def test_a_relay_that_stops_is_not_ready(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            api.server.node._phase = "stopping"
            got = await api.get("/readyz")
            assert (got.status, got.json["status"]) == (503, "stopping")
            api.server.node._phase = "ready"

    play(scene())


def test_metrics_have_the_names_of_the_interface(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, sink() as receiver:
            await api.call("PUT", "/subscriptions/s", {"sink": receiver.url, "protocol": "HTTP"})
            await api.publish(event())
            await api.publish(event())

            async def counted() -> bool:
                text = (await api.get("/metrics")).body.decode()
                return 'fairlead_deliveries_total{subscription="s",outcome="delivered"} 1' in text

            await api.until(counted)
            got = await api.get("/metrics")
            assert got.headers["content-type"].startswith("text/plain; version=0.0.4")
            text = got.body.decode()
            assert "fairlead_events_accepted_total 1\n" in text
            assert "fairlead_events_duplicates_total 1\n" in text
            for name in (
                "delivery_seconds_bucket", "accept_seconds_count", "lag_events", "lag_seconds", "lanes",
                "skipped_total", "log_bytes", "commit_seconds_sum", "channel_target", "switches_total",
            ):  # fmt: skip
                assert f"\nfairlead_{name}" in text

    play(scene())


def test_calls_are_answered_while_others_wait(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            waiting = [asyncio.ensure_future(api.get("/events", follow="true")) for _ in range(20)]
            assert (await api.get("/healthz")).status == 200
            await asyncio.sleep(0)
            head = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            answer = await api.raw(head + b"\r\n" + head + b"connection: close\r\n\r\n")
            assert answer.count(b"HTTP/1.1 200") == 2
            assert parse_answer(answer).status == 200
            assert not any(one.done() for one in waiting)
        assert {(await one).status for one in waiting} == {200}

    play(scene())
