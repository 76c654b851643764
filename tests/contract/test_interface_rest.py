# SPDX-License-Identifier: Apache-2.0
"""Interface, section 6: health, metrics, keys, rejects, channels, Imagefactory; sentence by sentence."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from fairlead.config.settings import Auth, Egress, StoreOptions
from fairlead.core.channel import ChannelId
from fairlead.web.openapi import openapi_document
from tests.contract.api_scene import ONE_EVENT, Relay, event, play, relay
from tests.contract.wire_scene import TAKEN, answer, receiver, shows, soon, subscribe

BOOTSTRAP = "flk_" + "B" * 32
IMAGES = "/bridges/imagefactory"
METRICS = {
    "fairlead_events_accepted_total": set(),
    "fairlead_events_duplicates_total": set(),
    "fairlead_deliveries_total": {"subscription", "outcome"},
    "fairlead_delivery_seconds": set(),
    "fairlead_accept_seconds": set(),
    "fairlead_lag_events": {"subscription"},
    "fairlead_lag_seconds": set(),
    "fairlead_lanes": {"subscription", "state"},
    "fairlead_skipped_total": set(),
    "fairlead_log_bytes": set(),
    "fairlead_commit_seconds": set(),
    "fairlead_channel_target": {"subscription", "partition"},
    "fairlead_switches_total": set(),
}
SAMPLE = re.compile(r"^(?P<name>[a-z_]+?)(?:_bucket|_sum|_count)?(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)$")


# -- health and metrics -------------------------------------------------------------------------------------


def test_metrics_have_names_and_labels_of_the_interface(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver(answer(503), TAKEN) as sink:
            await subscribe(api, sink.url, config=soon())
            await api.publish(event())
            await sink.until(2)
            await shows(api, "/subscriptions/s", lambda one: one["status"]["lag_events"] == 0)
            text = (await api.get("/metrics")).body.decode()
            seen: dict[str, set[str]] = {}
            for line in text.splitlines():
                if not line.startswith("#"):
                    found = SAMPLE.match(line)
                    assert found, line
                    labels = {one.partition("=")[0] for one in (found["labels"] or "").split(",") if one}
                    seen.setdefault(found["name"], set()).update(labels - {"le"})
                    float(found["value"])
            assert {name: seen.get(name) for name in METRICS} == METRICS
            helped = set(re.findall(r"^# HELP (\S+)", text, re.MULTILINE))
            typed = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
            assert set(seen) <= helped & typed

    play(scene())


def test_a_store_that_is_full_or_damaged_is_told_and_the_relay_is_ready_all_the_same(tmp_path: Path) -> None:
    async def scene() -> None:
        full = StoreOptions(disk_reserve_bytes=2**60)
        readiness = openapi_document()["components"]["schemas"]["Readiness"]["properties"]
        async with relay(tmp_path, store_options=full) as api:
            (await api.post("/events", event(), **{"content-type": ONE_EVENT})).problem(507, "store-full")
            for state in ("full", "damaged"):
                got = await api.get("/readyz")
                assert (got.status, got.json["store"]) == (200, state)
                assert state in readiness["store"]["enum"]
                assert "\nfairlead_store_ok 0" in (await api.get("/metrics")).body.decode()
                api.server.node.dispatcher.damage[ChannelId("s", 0)] = "event 0:1 is damaged"

    play(scene())


def test_health_needs_no_login_and_metrics_do_once_one_is_configured(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            for path in ("/healthz", "/readyz", "/metrics"):
                assert (await api.get(path)).status == 200
            assert (await api.get("/readyz")).json == {
                "status": "ready", "store": "ok", "partitions_owned": 8, "partitions": 8,
            }  # fmt: skip
            api.key = (await api.post("/keys", {"name": "k", "grants": [{"may": ["publish"]}]})).json["key"]
            (await api.get("/metrics")).problem(403, "forbidden")
            api.key = None
            assert (await api.get("/healthz")).json == {"status": "ok"}
            assert (await api.get("/readyz")).status == 200
            (await api.get("/metrics")).problem(401, "unauthenticated")

    play(scene())


# -- keys ---------------------------------------------------------------------------------------------------


async def key(api: Relay, **grant: Any) -> str:
    """A new key with one grant."""
    api.key = BOOTSTRAP
    text: str = (await api.post("/keys", {"name": "k", "grants": [grant]})).json["key"]
    return text


def test_a_key_is_flk_and_32_letters_or_digits_and_not_in_the_store(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            made = (await api.post("/keys", {"name": "heat", "grants": [{"may": ["admin"]}]})).json
            assert re.fullmatch("flk_[A-Za-z0-9]{32}", made["key"])
            assert made["last_used_at"] is None
            assert made["expires_at"] is None
            api.key = made["key"]
            (listed,) = (await api.get("/keys")).json["items"]
            assert set(listed) == {"id", "name", "grants", "created_at", "expires_at", "last_used_at"}
        for file in tmp_path.iterdir():
            assert made["key"].encode() not in file.read_bytes()

    play(scene())


CALLS: dict[str, tuple[str, str, Any]] = {
    "publish": ("POST", "/events", event("x")),
    "subscribe": ("PUT", "/subscriptions/n", {"sink": "http://127.0.0.1:9/", "protocol": "HTTP"}),
    "read": ("GET", "/events", None),
    "operate": ("POST", "/subscriptions/s/lanes/release", {"state": "parked"}),
    "admin": ("GET", "/keys", None),
}


@pytest.mark.parametrize("may", CALLS)
def test_each_action_opens_its_own_calls_and_admin_all(tmp_path: Path, may: str) -> None:
    async def scene() -> None:
        auth, egress = Auth(bootstrap_key=BOOTSTRAP), Egress(allow=("127.0.0.1",))
        async with relay(tmp_path, auth=auth, egress=egress) as api:
            api.key = BOOTSTRAP
            await subscribe(api, "http://127.0.0.1:9/")
            api.key = await key(api, may=[may])
            for name, (method, path, body) in CALLS.items():
                headers = {"content-type": ONE_EVENT if name == "publish" else "application/json"}
                got = await api.call(method, path, body, headers=headers)
                if may in (name, "admin"):
                    assert got.status < 300, (name, got.body)
                else:
                    got.problem(403, "forbidden")

    play(scene())


def test_patterns_limit_sources_types_and_subscriptions(tmp_path: Path) -> None:
    async def scene() -> None:
        auth, egress = Auth(bootstrap_key=BOOTSTRAP), Egress(allow=("127.0.0.1",))
        async with relay(tmp_path, auth=auth, egress=egress) as api:

            async def publishes(**attributes: Any) -> int:
                body = event(f"{attributes}", **attributes)
                return (await api.call("POST", "/events", body, headers={"content-type": ONE_EVENT})).status

            api.key = await key(api, may=["publish"], sources=["/heat/*", "/nova"], types=["org.a.*"])
            assert await publishes(source="/heat/1", type="org.a.b") == 202
            assert await publishes(source="/nova", type="org.a.b") == 202
            assert await publishes(source="/nova/1", type="org.a.b") == 403
            assert await publishes(source="/heat", type="org.a.b") == 403
            assert await publishes(source="/nova", type="org.b") == 403
            api.key = await key(api, may=["subscribe"], subscriptions=["a-*", "b"])
            for id, status in (("a-1", 201), ("b", 201), ("b2", 403), ("a", 403)):
                body = {"sink": "http://127.0.0.1:9/", "protocol": "HTTP"}
                assert (await api.call("PUT", f"/subscriptions/{id}", body)).status == status

    play(scene())


def test_a_key_is_taken_as_basic_password_with_any_user_name(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path, auth=Auth(bootstrap_key=BOOTSTRAP)) as api:
            for user in ("imagefactory", "", "a" * 16, "\u00e4"):
                login = "Basic " + b64encode(f"{user}:{BOOTSTRAP}".encode()).decode()
                assert (await api.call("GET", "/events", headers={"authorization": login})).status == 200

    play(scene())


# -- channels -----------------------------------------------------------------------------------------------


def test_a_channel_whose_breaker_is_open_says_so(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path, egress=Egress(allow=("127.0.0.1",))) as api, receiver(answer(503)) as sink:
            await subscribe(api, sink.url, config=soon(concurrency=1))
            await api.publish(*(event(f"{n}", subject="k1") for n in range(3)))
            page = await shows(
                api,
                "/subscriptions/s/channels",
                lambda page: any(one["state"] == "open" for one in page["items"]),
            )
            assert {one["state"] for one in page["items"]} == {"open", "rest"}
            assert {one["transport"] for one in page["items"]} == {"http"}

    play(scene())


# -- Imagefactory -------------------------------------------------------------------------------------------


def image(status: str, **members: Any) -> bytes:
    return json.dumps(
        {"target_image": {"_type": "TargetImage", "id": "i-1", "status": status, **members}}
    ).encode()


def identity(path: str, body: bytes, before: str) -> str:
    """The id as the interface writes it."""
    digest = blake2b(digest_size=16)
    for part in (path.encode(), body, before.encode()):
        digest.update(part + b"\0")
    return digest.hexdigest()


def test_an_imagefactory_event_is_what_the_interface_says_and_so_is_its_id(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            path = "tim//target_images/7%20x"
            before = ""
            states = (("NEW", "new"), ("PUSHING", "building"), ("COMPLETED", "complete"), ("NEW", "new"))
            for number, (status, shown) in enumerate(states):
                body = image(status)
                for _ in range(2):  # a repeat is a duplicate
                    got = await api.call(
                        "PUT", f"{IMAGES}/{path}", body, headers={"content-type": "application/json"}
                    )
                    assert (got.status, got.body) == (204, b"")
                items = (await api.get("/events", source="/imagefactory")).json["items"]
                assert len(items) == number + 1
                one = items[-1]["event"]
                assert one == {
                    "specversion": "1.0",
                    "id": identity(path, body, before),
                    "source": "/imagefactory",
                    "subject": "i-1",
                    "type": f"org.imagefactory.target_image.{shown}",
                    "imagefactorypath": path,
                    "datacontenttype": "application/json",
                    "data": json.loads(body),
                    **{name: one[name] for name in ("time",) if name in one},
                }
                before = one["id"]

    play(scene())


def test_secrets_in_callback_urls_are_masked_in_data_and_in_the_id(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            body = image("NEW", parameters={"callbacks": ["http://u:p4ss@relay.example/x"]})
            await api.call("PUT", f"{IMAGES}/a", body, headers={"content-type": "application/json"})
            (item,) = (await api.get("/events")).json["items"]
            redacted = body.replace(b"u:p4ss@", b"***@")
            assert item["event"]["data"] == json.loads(redacted)
            assert item["event"]["id"] == identity("a", redacted, "")
        for file in tmp_path.iterdir():
            assert b"p4ss" not in file.read_bytes()

    play(scene())


def test_rejects_are_listed_taken_again_or_not_and_deleted(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            got = await api.call(
                "PUT", f"{IMAGES}/a", b'{"x":1}', headers={"content-type": "application/json"}
            )
            got.problem(400, "invalid-event")
            (await api.call("PUT", f"{IMAGES}/a", b"{", headers={"content-type": "text/plain"})).problem(
                400, "malformed-json"
            )
            first, second = (await api.get("/rejects", source="/imagefactory")).json["items"]
            assert set(first) == {
                "id",
                "source",
                "received_at",
                "reason",
                "headers",
                "body_base64",
                "size_bytes",
            }
            assert b64decode(first["body_base64"]) == b'{"x":1}'
            assert (first["size_bytes"], first["source"]) == (7, "/imagefactory")
            assert (await api.get("/rejects", source="/other")).json["items"] == []
            (await api.post(f"/rejects/{first['id']}/replay")).problem(422, "invalid-event")
            assert (await api.call("DELETE", f"/rejects/{first['id']}")).status == 204
            (await api.call("DELETE", f"/rejects/{first['id']}")).problem(404, "not-found")
            assert [one["id"] for one in (await api.get("/rejects")).json["items"]] == [second["id"]]

    play(scene())
