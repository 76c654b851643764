# SPDX-License-Identifier: Apache-2.0
"""Who may call: API keys on a running relay, and the book that keeps them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.auth.keys import BOOTSTRAP, CACHE_SECONDS, ApiKeys, digest_of, is_key, new_key, presented_key
from fairlead.config.settings import Auth
from fairlead.core.policy import Grant, Principal
from fairlead.errors import StoreFailed, Unauthenticated
from fairlead.ports import ApiKey, Credentials
from tests.contract.api_scene import event, play, relay

BOOTSTRAP_KEY = "flk_" + "B" * 32
PUBLISH = (Grant(("publish",)),)


# -- the texts --------------------------------------------------------------------------------------------


def test_a_key_is_flk_and_32_letters_or_digits() -> None:
    seed = bytes(range(256))
    taken = 0

    def random_bytes(count: int) -> bytes:
        nonlocal taken
        taken += count
        return seed[taken - count : taken]

    keys = [new_key(random_bytes) for _ in range(7)]
    assert all(is_key(key) for key in keys)
    # Each of the first 224 bytes gives one character, four times the alphabet less the last 24.
    assert sorted("".join(key[4:] for key in keys))[:4] == ["0"] * 3 + ["1"]


def test_bytes_that_would_favour_a_character_are_not_used() -> None:
    given_bytes = iter([b"\xff" * 32, b"\0" * 32])
    assert new_key(lambda _: next(given_bytes)) == "flk_" + "A" * 32


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (f"Bearer {BOOTSTRAP_KEY}", BOOTSTRAP_KEY),
        (f"bearer   {BOOTSTRAP_KEY} ", BOOTSTRAP_KEY),
        ("Basic " + base64.b64encode(f"anybody:{BOOTSTRAP_KEY}".encode()).decode(), BOOTSTRAP_KEY),
        ("Basic " + base64.b64encode(f":{BOOTSTRAP_KEY}".encode()).decode(), BOOTSTRAP_KEY),
        (None, None),
        ("", None),
        ("Bearer", None),
        ("Bearer eyJhbGciOi", None),
        ("Basic " + base64.b64encode(b"user:password").decode(), None),
        ("Basic not base64", None),
        ("Basic /w==", None),
        ("Negotiate YII", None),
    ],
)
def test_a_key_is_found_in_what_callers_send(header: str | None, key: str | None) -> None:
    assert presented_key(header) == key


@pytest.mark.parametrize("text", ["flk_short", BOOTSTRAP_KEY + "x", BOOTSTRAP_KEY[:-1] + "-"])
def test_what_begins_like_a_key_and_is_none_is_refused(text: str) -> None:
    with pytest.raises(Unauthenticated, match="flk_ and 32") as caught:
        presented_key(f"Bearer {text}")
    assert text not in caught.value.detail


@given(st.text(max_size=60))
def test_no_header_is_a_defect(text: str) -> None:
    try:
        assert presented_key(text) is None or "flk_" in text
    except Unauthenticated:
        assert "flk_" in text or text.lower().startswith("basic")


# -- the book ---------------------------------------------------------------------------------------------


@dataclass
class HandClock:
    at: float = 1_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


class Shelf:
    """`fairlead.ports.Keys` in memory, that counts look-ups; `pause` holds one back."""

    def __init__(self) -> None:
        self.by_id: dict[str, ApiKey] = {}
        self.looked_up = 0
        self.touched: list[tuple[str, float]] = []
        self.pause: asyncio.Event | None = None
        self.broken = False

    async def add_key(self, key: ApiKey) -> None:
        self.by_id[key.id] = key

    async def keys(self) -> list[ApiKey]:
        return list(self.by_id.values())

    async def find_key(self, digest: bytes) -> ApiKey | None:
        self.looked_up += 1
        found = next((key for key in self.by_id.values() if key.digest == digest), None)
        if self.pause is not None:
            await self.pause.wait()
        return found

    async def touch_key(self, id: str, used_at: float) -> None:
        if self.broken:
            raise StoreFailed("it broke")
        self.touched.append((id, used_at))

    async def delete_key(self, id: str) -> bool:
        return self.by_id.pop(id, None) is not None


class Book:
    def __init__(self, bootstrap_key: str | None = None) -> None:
        self.shelf, self.clock = Shelf(), HandClock()
        self.seed = 0
        self.keys = ApiKeys(self.shelf, self.clock, random_bytes=self._bytes, bootstrap_key=bootstrap_key)

    def _bytes(self, count: int) -> bytes:
        self.seed += 1
        return bytes([self.seed]) * count

    async def who(self, key: str) -> Principal | None:
        return await self.keys.authenticate(Credentials({"authorization": f"Bearer {key}"}))


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 30.0))


def test_only_the_hash_of_a_key_is_kept() -> None:
    async def scene() -> None:
        book = Book()
        key, text = await book.keys.add("heat", PUBLISH, None)
        assert key.digest == digest_of(text)
        assert text not in repr(book.shelf.by_id)
        assert await book.who(text) == Principal("heat", PUBLISH)

    run(scene())


def test_authentication_is_configured_by_the_first_key_or_by_the_bootstrap_key() -> None:
    async def scene() -> None:
        book = Book()
        assert not await book.keys.configured()
        key, _ = await book.keys.add("heat", PUBLISH, None)
        assert await book.keys.configured()
        await book.keys.revoke(key.id)
        assert not await book.keys.configured()
        await book.shelf.add_key(key)  # by another node
        book.clock.at += CACHE_SECONDS + 1
        assert await book.keys.configured()
        assert await Book(BOOTSTRAP_KEY).keys.configured()
        assert await Book(BOOTSTRAP_KEY).who(BOOTSTRAP_KEY) is BOOTSTRAP

    run(scene())


def test_a_bootstrap_key_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="flk_ and 32"):
        Book("hunter2")


def test_a_key_is_not_looked_up_for_every_call_and_a_revocation_counts_at_once() -> None:
    async def scene() -> None:
        book = Book()
        key, text = await book.keys.add("heat", PUBLISH, None)
        for _ in range(5):
            await book.who(text)
        assert book.shelf.looked_up == 1
        assert await book.keys.revoke(key.id)
        with pytest.raises(Unauthenticated):
            await book.who(text)
        assert not await book.keys.revoke(key.id)

    run(scene())


def test_a_revocation_elsewhere_counts_soon() -> None:
    async def scene() -> None:
        book = Book()
        key, text = await book.keys.add("heat", PUBLISH, None)
        await book.who(text)
        await book.shelf.delete_key(key.id)
        book.clock.at += CACHE_SECONDS + 1
        with pytest.raises(Unauthenticated, match="unknown or was revoked"):
            await book.who(text)

    run(scene())


def test_a_look_up_that_a_revocation_overtakes_is_not_remembered() -> None:
    async def scene() -> None:
        book = Book()
        key, text = await book.keys.add("heat", PUBLISH, None)
        book.shelf.pause = asyncio.Event()
        caller = asyncio.ensure_future(book.who(text))
        while not book.shelf.looked_up:
            await asyncio.sleep(0)
        await book.keys.revoke(key.id)
        book.shelf.pause.set()
        await caller  # it came in before
        with pytest.raises(Unauthenticated):
            await book.who(text)

    run(scene())


def test_a_key_ends_at_its_expiry_also_when_it_is_remembered() -> None:
    async def scene() -> None:
        book = Book()
        _, text = await book.keys.add("heat", PUBLISH, book.clock.at + 2)
        assert await book.who(text) is not None
        book.clock.at += 2
        with pytest.raises(Unauthenticated, match="expired"):
            await book.who(text)

    run(scene())


def test_the_last_use_is_noted_now_and_then_and_its_loss_refuses_nobody() -> None:
    async def scene() -> None:
        book = Book()
        key, text = await book.keys.add("heat", PUBLISH, None)
        for _ in range(3):
            await book.who(text)
        assert book.shelf.touched == [(key.id, book.clock.at)]
        book.shelf.broken = True
        book.clock.at += 120
        assert await book.who(text) is not None

    run(scene())


# -- the calls --------------------------------------------------------------------------------------------


def test_from_the_first_key_on_every_call_needs_a_login(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as there:
            assert (await there.get("/subscriptions")).status == 200
            made = await there.post("/keys", {"name": "root", "grants": [{"may": ["admin"]}]})
            assert made.status == 201
            assert made.headers["location"] == f"/keys/{made.json['id']}"
            for path in ("/subscriptions", "/events", "/keys", "/rejects", "/metrics"):
                got = await there.get(path)
                got.problem(401, "unauthenticated")
                assert got.headers["www-authenticate"].startswith("Bearer ")
            for path in ("/healthz", "/readyz", "/openapi.json"):
                assert (await there.get(path)).status == 200
            there.key = made.json["key"]
            assert (await there.get("/metrics")).status == 200
            (shown,) = (await there.get("/keys")).json["items"]
            assert set(shown) == {"id", "name", "grants", "created_at", "expires_at", "last_used_at"}
            assert shown["last_used_at"] is not None
            assert (await there.call("DELETE", f"/keys/{made.json['id']}")).status == 204
            there.key = None
            assert (await there.get("/subscriptions")).status == 200

    play(scene())


def test_grants_decide_what_a_key_may(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path, auth=Auth(bootstrap_key=BOOTSTRAP_KEY)) as there:
            there.key = BOOTSTRAP_KEY
            grants = [
                {"may": ["publish"], "sources": ["/heat*"]},
                {"may": ["read"], "subscriptions": ["mine-*"]},
            ]
            there.key = (await there.post("/keys", {"name": "heat", "grants": grants})).json["key"]
            await there.publish(event())
            refused = await there.post(
                "/events", event(source="/nova"), **{"content-type": "application/cloudevents+json"}
            )
            assert refused.problem(403, "forbidden")["errors"][0]["index"] == 0
            (await there.get("/keys")).problem(403, "forbidden")
            (await there.post("/keys", {"name": "x", "grants": grants})).problem(403, "forbidden")
            (await there.get("/events")).problem(403, "forbidden")
            (await there.get("/rejects")).problem(403, "forbidden")
            (await there.get("/subscriptions/mine-1")).problem(404, "not-found")
            (await there.get("/subscriptions/yours")).problem(403, "forbidden")
            target = {"sink": "http://127.0.0.1:1/", "protocol": "HTTP"}
            (await there.call("PUT", "/subscriptions/mine-1", target)).problem(403, "forbidden")

    play(scene())


def test_keys_are_paged_by_creation(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path, auth=Auth(bootstrap_key=BOOTSTRAP_KEY)) as there:
            there.key = BOOTSTRAP_KEY
            for name in ("a", "b", "c"):
                body = {"name": name, "grants": [{"may": ["read"]}], "expires_at": "2999-01-01T00:00:00Z"}
                assert (await there.post("/keys", body)).json["expires_at"] == "2999-01-01T00:00:00Z"
            first = (await there.get("/keys", limit=2)).json
            second = (await there.get("/keys", limit=2, after=first["next"])).json
            assert [one["name"] for one in first["items"] + second["items"]] == ["a", "b", "c"]
            assert second["next"] is None
            (await there.get("/keys", after="?")).problem(400, "invalid-query")

    play(scene())


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([], ""),
        ({"grants": [{"may": ["read"]}]}, "/name"),
        ({"name": "x"}, "/grants"),
        ({"name": "x", "grants": []}, "/grants"),
        ({"name": "x", "grants": ["read"]}, "/grants/0"),
        ({"name": "x", "grants": [{}]}, "/grants/0/may"),
        ({"name": "x", "grants": [{"may": ["pubish"]}]}, "/grants/0/may"),
        ({"name": "x", "grants": [{"may": [1]}]}, "/grants/0/may"),
        ({"name": "x", "grants": [{"may": ["read"], "source": ["/a"]}]}, "/grants/0/source"),
        ({"name": "x", "grants": [{"may": ["read"], "sources": []}]}, "/grants/0/sources"),
        ({"name": "x", "grants": [{"may": ["read"], "sources": ["*a"]}]}, "/grants/0/sources"),
        ({"name": "x", "grants": [{"may": ["read"]}], "expires_at": "soon"}, "/expires_at"),
        ({"name": "x", "grants": [{"may": ["read"]}], "expires_at": "1999-01-01T00:00:00Z"}, "/expires_at"),
        ({"name": "x", "grants": [{"may": ["read"]}], "expires": None}, "/expires"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused_with_the_place(
    tmp_path: Path, body: object, pointer: str
) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as there:
            problem = (await there.post("/keys", body)).problem(400, "invalid-request")
            assert pointer in [error["pointer"] for error in problem["errors"]]
            assert (await there.get("/keys")).json["items"] == []

    play(scene())
