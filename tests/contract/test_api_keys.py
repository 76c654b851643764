# SPDX-License-Identifier: Apache-2.0
"""API keys keep the contract of authenticators, and their own promises (interface, section 6)."""

from __future__ import annotations

import asyncio
import itertools
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.auth.keys import CACHE_SECONDS, TOUCH_SECONDS, ApiKeys, is_key, new_key, presented_key
from fairlead.core.policy import Grant, Principal
from fairlead.errors import StoreBusy, Unauthenticated
from fairlead.ports import Credentials
from fairlead.stores.sqlite.store import SqliteStore
from fairlead.testing.authenticator_contract import AuthenticatorContract, Logins

GRANTS = (Grant(("publish",), sources=("/heat*",)),)
BOOTSTRAP = "flk_" + "B" * 32
UNKNOWN = "flk_" + "U" * 32


class HandClock:
    """Time that the test moves."""

    at = 1_795_359_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


def counted() -> Callable[[int], bytes]:
    """Bytes that are never the same twice."""
    numbers = itertools.count(1)
    return lambda size: b"".join(next(numbers).to_bytes(2) for _ in range(size))[-size:]


def bearer(key: str) -> Credentials:
    return Credentials({"authorization": f"Bearer {key}"})


@asynccontextmanager
async def book(**members: Any) -> AsyncIterator[tuple[ApiKeys, SqliteStore, HandClock]]:
    """Keys over a store in memory."""
    store, clock = await asyncio.to_thread(SqliteStore.open), HandClock()
    try:
        yield ApiKeys(store.keys, clock, random_bytes=counted(), **members), store, clock
    finally:
        await store.close()


class TestApiKeys(AuthenticatorContract):
    @asynccontextmanager
    async def logins(self) -> AsyncIterator[Logins]:
        async with book() as (keys, _, clock):
            _, old = await keys.add("old", GRANTS, clock.at + 1)
            _, revoked = await keys.add("gone", GRANTS, None)
            await keys.revoke((await keys.list())[1].id)
            _, text = await keys.add("heat", GRANTS, None)
            clock.at += 1
            basic = "Basic " + b64encode(f"x:{UNKNOWN}".encode()).decode()
            bad = [f"Bearer {UNKNOWN}", f"Bearer {text}x", f"Bearer {old}", f"Bearer {revoked}", basic]
            yield Logins(
                keys,
                good={"authorization": f"Bearer {text}"},
                bad=[{"authorization": one} for one in bad],
                name="heat",
                secrets=(text, UNKNOWN, old, revoked),
            )


class TestTheKeyAsABasicPassword(AuthenticatorContract):
    @asynccontextmanager
    async def logins(self) -> AsyncIterator[Logins]:
        async with book(bootstrap_key=BOOTSTRAP) as (keys, _, _):
            basic = "Basic " + b64encode(f"user:{BOOTSTRAP}".encode()).decode()
            bad = "Basic " + b64encode(f"user:{UNKNOWN}".encode()).decode()
            good = {"authorization": basic}
            yield Logins(keys, good, [{"authorization": bad}], "bootstrap", (BOOTSTRAP, UNKNOWN))


def test_authentication_is_configured_by_one_key_or_the_bootstrap_key() -> None:
    async def scene() -> None:
        async with book() as (keys, _, _):
            assert not await keys.configured()
            key, _ = await keys.add("heat", GRANTS, None)
            assert await keys.configured()
            await keys.revoke(key.id)
            assert not await keys.configured()
        async with book(bootstrap_key=BOOTSTRAP) as (keys, _, _):
            assert await keys.configured()

    asyncio.run(scene())


def test_a_key_brings_its_name_and_its_grants() -> None:
    async def scene() -> None:
        async with book() as (keys, store, _):
            key, text = await keys.add("heat", GRANTS, None)
            assert await keys.authenticate(bearer(text)) == Principal("heat", GRANTS)
            (stored,) = await store.keys.keys()
            assert stored.id == key.id
            assert text.encode() not in stored.digest
            assert text not in repr(stored)

    asyncio.run(scene())


def test_a_key_is_revoked_at_once_here_and_soon_on_other_nodes() -> None:
    async def scene() -> None:
        async with book() as (here, store, clock):
            there = ApiKeys(store.keys, clock, random_bytes=counted())
            key, text = await here.add("heat", GRANTS, None)
            for node in (here, there):
                assert await node.authenticate(bearer(text)) is not None
            assert await here.revoke(key.id)
            with pytest.raises(Unauthenticated):
                await here.authenticate(bearer(text))
            clock.at += CACHE_SECONDS + 1
            with pytest.raises(Unauthenticated):
                await there.authenticate(bearer(text))
            assert not await here.revoke(key.id)

    asyncio.run(scene())


def test_a_login_that_overlaps_a_revocation_does_not_keep_the_key_alive() -> None:
    async def scene() -> None:
        async with book() as (keys, store, _):
            key, text = await keys.add("heat", GRANTS, None)
            find = store.keys.find_key

            async def slowly(digest: bytes) -> Any:
                found = await find(digest)
                await keys.revoke(key.id)
                return found

            store.keys.find_key = slowly  # type: ignore[method-assign]
            await keys.authenticate(bearer(text))  # it was good when it was looked up
            store.keys.find_key = find  # type: ignore[method-assign]
            with pytest.raises(Unauthenticated):
                await keys.authenticate(bearer(text))

    asyncio.run(scene())


def test_use_is_noted_now_and_then_and_a_store_that_cannot_note_it_refuses_nobody() -> None:
    async def scene() -> None:
        async with book() as (keys, store, clock):
            _, text = await keys.add("heat", GRANTS, None)
            noted: list[float] = []
            touch = store.keys.touch_key

            async def noting(id: str, used_at: float) -> None:
                noted.append(used_at)
                await touch(id, used_at)

            store.keys.touch_key = noting  # type: ignore[method-assign]
            for _ in range(5):
                await keys.authenticate(bearer(text))
            assert noted == [clock.at]
            assert (await keys.list())[0].last_used_at == clock.at

            async def busy(id: str, used_at: float) -> None:
                raise StoreBusy("locked")

            store.keys.touch_key = busy  # type: ignore[method-assign]
            clock.at += TOUCH_SECONDS
            assert await keys.authenticate(bearer(text)) is not None

    asyncio.run(scene())


def test_a_key_that_was_found_is_not_looked_up_for_every_call() -> None:
    async def scene() -> None:
        async with book() as (keys, store, _):
            _, text = await keys.add("heat", GRANTS, None)
            await keys.authenticate(bearer(text))

            async def never(digest: bytes) -> Any:
                raise AssertionError("looked up again")

            store.keys.find_key = never  # type: ignore[method-assign]
            for _ in range(10):
                assert await keys.authenticate(bearer(text)) is not None

    asyncio.run(scene())


@pytest.mark.parametrize("text", ["", "secret", "flk_short", "flk_" + "B" * 33, "flk_" + "B" * 31 + "!"])
def test_a_bootstrap_key_must_look_like_a_key(text: str) -> None:
    store = SqliteStore.open(executor=lambda work: work())
    with pytest.raises(ValueError, match="flk_"):
        ApiKeys(store.keys, HandClock(), random_bytes=counted(), bootstrap_key=text)
    asyncio.run(store.close())


@given(st.binary(min_size=64, max_size=4096))
def test_keys_have_their_form_whatever_the_randomness(noise: bytes) -> None:
    endless = itertools.chain(noise, itertools.cycle(range(256)))
    key = new_key(lambda size: bytes(itertools.islice(endless, size)))
    assert re.fullmatch(r"flk_[A-Za-z0-9]{32}", key)
    assert is_key(key)


@given(st.text(max_size=60))
def test_an_authorization_header_is_a_key_or_not_and_nothing_breaks(text: str) -> None:
    for header in (text, f"Bearer {text}", f"Basic {text}", f"Basic {b64encode(text.encode()).decode()}"):
        try:
            assert presented_key(header) is None or is_key(str(presented_key(header)))
        except Unauthenticated:
            assert "flk_" in header or "ZmxrX" in header or header.startswith("Basic")
