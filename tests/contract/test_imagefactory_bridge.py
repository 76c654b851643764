# SPDX-License-Identifier: Apache-2.0
"""Imagefactory's callbacks through a running relay: what is answered 204 is an event, what is not is kept."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from pathlib import Path
from typing import Any

from fairlead.config.settings import Limits
from tests.contract.api_scene import Got, Relay, event, play, relay

WHERE = "/bridges/imagefactory/tim/target_images//42"
IMAGE = "22222222-2222-4222-8222-222222222222"

# What httplib2 adds: no Accept, no charset.
HEADERS = {"content-type": "application/json", "user-agent": "Python-httplib2/0.32.1 (gzip)"}


def body(status: str, url: str = "http://relay.example/x", **members: Any) -> bytes:
    document = {
        "_type": "TargetImage",
        "id": IMAGE,
        "status": status,
        "parameters": {"callbacks": [url]},
        **members,
    }
    return json.dumps({"target_image": document}).encode()


async def put(there: Relay, payload: bytes, where: str = WHERE, **headers: str) -> Got:
    return await there.call("PUT", where, payload, headers={**HEADERS, **headers})


async def events(there: Relay) -> list[dict[str, Any]]:
    items = (await there.get("/events", source="/imagefactory")).json["items"]
    return [item["event"] for item in items]


async def rejects(there: Relay) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await there.get("/rejects", source="/imagefactory")).json["items"]
    return items


def test_a_callback_is_an_event_as_soon_as_it_is_answered(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as there:
            payload = body("BUILDING", "http://heat:s3cret@relay.example/x")
            got = await put(there, payload)
            assert (got.status, got.body) == (204, b"")
            (one,) = await events(there)
            assert one["type"] == "org.imagefactory.target_image.building"
            assert one["subject"] == IMAGE
            assert one["imagefactorypath"] == "tim/target_images//42"
            assert one["data"] == json.loads(payload.replace(b"heat:s3cret@", b"***@"))

    play(scene())


def test_repeats_are_recognised_and_a_return_to_an_earlier_state_is_told(tmp_path: Path) -> None:
    async def scene() -> None:
        sent = [body("BUILDING"), body("BUILDING"), body("COMPLETE"), body("COMPLETE"), body("BUILDING")]
        async with relay(tmp_path) as there:
            for payload in sent[:3]:
                assert (await put(there, payload)).status == 204
        async with relay(tmp_path) as there:  # what it knows of an image outlives the process
            for payload in sent[3:]:
                assert (await put(there, payload)).status == 204
            types = [one["type"].rpartition(".")[2] for one in await events(there)]
            assert types == ["building", "complete", "building"]

    play(scene())


def test_callbacks_of_one_image_at_once_are_each_told_once(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as there:
            sent = [body("BUILDING", percent_complete=n) for n in range(8)] * 2
            answers = await asyncio.gather(*(put(there, payload) for payload in sent))
            assert {got.status for got in answers} == {204}
            seen = await events(there)
            assert {one["data"]["target_image"]["percent_complete"] for one in seen} == set(range(8))
            assert len({one["id"] for one in seen}) == len(seen)

    play(scene())


def test_what_cannot_be_understood_is_answered_and_kept_without_its_secrets(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as there:
            got = await put(there, b'{"callbacks": ["http://u:s3cret@h/"', authorization="Basic dTpw")
            got.problem(400, "malformed-json")
            (await put(there, b'{"volume": {}}')).problem(400, "invalid-event")
            first, second = await rejects(there)
            assert base64.b64decode(first["body_base64"]) == b'{"callbacks": ["http://***@h/"'
            assert first["reason"].startswith("malformed-json: ")
            assert second["reason"].startswith("invalid-event: ")
            assert first["headers"][":path"] == "tim/target_images//42"
            assert "authorization" not in first["headers"]
            page = (await there.get("/rejects", limit=1)).json
            assert [one["id"] for one in page["items"]] == [first["id"]]
            page = (await there.get("/rejects", limit=1, after=page["next"])).json
            assert ([one["id"] for one in page["items"]], page["next"]) == ([second["id"]], None)
            (await there.post(f"/rejects/{first['id']}/replay")).problem(422, "invalid-event")
            problem = (await there.post(f"/rejects/{second['id']}/replay")).problem(422, "invalid-event")
            assert problem["errors"]
            assert (await there.call("DELETE", f"/rejects/{first['id']}")).status == 204
            (await there.call("DELETE", f"/rejects/{first['id']}")).problem(404, "not-found")
            assert await rejects(there) == [second]

    play(scene())


def test_a_compressed_callback_is_listed_without_its_body(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as there:
            squeezed = gzip.compress(body("COMPLETE", "http://heat:s3cret@relay.example/x"))
            got = await put(there, squeezed, **{"content-encoding": "gzip"})
            assert got.problem(415, "unsupported-media-type")["supported"] == ["identity"]
            (kept,) = await rejects(there)
            assert (kept["body_base64"], kept["size_bytes"]) == ("", len(squeezed))
            assert kept["reason"].startswith("unsupported-media-type: ")
            replay = f"/rejects/{kept['id']}/replay"
            (await there.post(replay)).problem(422, "invalid-event")
            (await there.post(replay, {"force": True})).problem(400, "invalid-request")
            assert await rejects(there) == [kept]

    play(scene())


def test_a_callback_with_more_credentials_than_are_looked_for_is_listed_without_its_body(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as there:
            urls = [f"http://u{number}:top/s3cret@h" for number in range(65)]
            payload = body("COMPLETE", callbacks=urls)
            (await put(there, payload)).problem(400, "invalid-event")
            (kept,) = await rejects(there)
            assert (kept["body_base64"], kept["size_bytes"]) == ("", len(payload))
            assert "64 are the most" in kept["reason"]

    play(scene())


def test_a_callback_that_is_too_large_is_kept_to_the_limit_and_says_so(tmp_path: Path) -> None:
    async def scene() -> None:
        limits = Limits(event_bytes=4096, request_bytes=8192)
        async with relay(tmp_path, limits=limits) as there:
            for size in (5000, 9000):
                payload = body("COMPLETE", icicle="x" * size)
                assert (await put(there, payload)).problem(413, "too-large")["limit_bytes"] == 4096
            for one, size in zip(await rejects(there), (5000, 9000), strict=True):
                assert len(base64.b64decode(one["body_base64"])) == 4096
                assert one["size_bytes"] == len(body("COMPLETE", icicle="x" * size))
                assert "4096" in one["reason"]
                problem = (await there.post(f"/rejects/{one['id']}/replay")).problem(422, "invalid-event")
                assert "sent anew" in problem["detail"]

    play(scene())


def test_a_reject_that_can_be_taken_after_all_is_taken_and_gone(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as there:
            await put(there, b"nonsense")
            store = there.server.node.store
            (kept,) = await store.rejects.rejects(None, None, 1)
            await store.rejects.delete_reject(kept.id)
            mended = type(kept)(
                kept.id, kept.source, kept.received_at, "", kept.headers, body("NEW"), len(body("NEW"))
            )
            await store.rejects.add_reject(mended)
            got = await there.post(f"/rejects/{kept.id}/replay")
            assert got.status == 202
            assert [one["id"] for one in got.json["accepted"]] == [one["id"] for one in await events(there)]
            assert await rejects(there) == []

    play(scene())


def test_a_list_of_large_rejects_comes_in_pages_that_fit_in_memory(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as there:
            for number in range(11):
                await put(there, b"%d" % number + b"?" * 1_000_000)
            seen: list[bytes] = []
            page = (await there.get("/rejects", limit=1000)).json
            assert len(page["items"]) == 9
            while page["items"]:
                seen += [base64.b64decode(one["body_base64"])[:2].rstrip(b"?") for one in page["items"]]
                if page["next"] is None:
                    break
                page = (await there.get("/rejects", limit=1000, after=page["next"])).json
            assert seen == [b"%d" % number for number in range(11)]

    play(scene())


def test_a_callback_logs_in_with_a_key_as_its_password(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as there:
            grants = [{"may": ["publish"], "sources": ["/imagefactory"]}]
            key = (await there.post("/keys", {"name": "factory", "grants": grants})).json["key"]
            basic = base64.b64encode(f"fairlead:{key}".encode()).decode()
            assert (await put(there, body("NEW"), authorization=f"Basic {basic}")).status == 204
            (await put(there, body("NEW"))).problem(401, "unauthenticated")
            wrong = base64.b64encode(b"fairlead:flk_wrong").decode()
            (await put(there, body("NEW"), authorization=f"Basic {wrong}")).problem(401, "unauthenticated")
            (await put(there, b"nonsense", authorization="Basic bm9uc2Vuc2U=")).problem(
                401, "unauthenticated"
            )
            assert await there.server.node.store.rejects.rejects(None, None, 10) == []

    play(scene())


def test_who_may_not_publish_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as there:
            grants = [{"may": ["publish"], "sources": ["/heat"]}]
            there.key = (await there.post("/keys", {"name": "heat", "grants": grants})).json["key"]
            (await put(there, body("NEW"))).problem(403, "forbidden")
            (await put(there, b"nonsense")).problem(403, "forbidden")
            assert (await there.publish(event()))[0]["position"] == 1
            store = there.server.node.store
            assert await store.rejects.rejects(None, None, 10) == []

    play(scene())


def test_there_is_no_other_bridge(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as there:
            (await put(there, body("NEW"), "/bridges/deltacloud/x")).problem(404, "not-found")
            (await put(there, body("NEW"), "/bridges/imagefactory")).problem(404, "not-found")

    play(scene())
