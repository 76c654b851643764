# SPDX-License-Identifier: Apache-2.0
"""The relay's own sender against the library's receiver, over real HTTP: each understands the other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from fairlead import Receiver, Reject
from fairlead.core.egress import EgressPolicy
from fairlead.core.subscription import BatchOptions, Target
from fairlead.drivers.http_client.client import HttpClient
from fairlead.drivers.resolver import Resolver
from fairlead.ports import Answer, Delivery, Parcel
from fairlead.testing.deliveries import SECRET, SetClock, delivery, event, parcel, subscription
from fairlead.transports.http import HttpSender
from tests.contract.receiving import Taken
from tests.contract.test_receiver_mounts import asgi_server

Play = Callable[[HttpSender, Target], Awaitable[None]]


def play(place: Path, handler: Any, scene: Play, **options: Any) -> None:
    """Run a scene between a sender and a receiver that serves."""
    receiver = Receiver(handler, secrets=[SECRET], inbox=place / "inbox.db", **options)

    async def main(port: int) -> None:
        guard = EgressPolicy(loopback_allowed=True)
        sender = HttpSender(HttpClient(Resolver(guard)), guard, SetClock(), origin="relay.example")
        await scene(sender, Target(f"http://127.0.0.1:{port}/hook", handshake="required"))
        await sender.close()

    with asgi_server(receiver.asgi) as port:
        asyncio.run(main(port))


def to_library(target: Target, *parcels: Parcel, epoch: int = 7, **options: Any) -> Delivery:
    whole = delivery(target, *parcels, to=subscription(target, receiver="library", **options))
    return msgspec.structs.replace(whole, fence=replace(whole.fence, epoch=epoch))


def said(answer: Answer) -> list[tuple[str, int | None]]:
    return [(outcome.kind, outcome.applied) for outcome in answer.outcomes]


def numbered(position: int, prev: int = 0, subject: str = "k1") -> Parcel:
    return parcel(position, event(id=f"a-{position}", subject=subject, data={"n": position}), prev=prev)


def test_applied_duplicate_and_chain(tmp_path: Path) -> None:
    taken = Taken()

    async def scene(sender: HttpSender, target: Target) -> None:
        await sender.check(target, subscription(target, receiver="library"))
        first, second = numbered(41), numbered(42, prev=41)
        assert said(await sender.send(to_library(target, second))) == [("chain", 38)]
        assert said(await sender.send(to_library(target, first))) == [("delivered", 41)]
        answer = await sender.send(to_library(target, first))
        assert (said(answer), answer.heard) == ([("delivered", 41)], True)
        assert said(await sender.send(to_library(target, second))) == [("delivered", 42)]

    play(tmp_path, taken, scene)
    assert taken.numbers == [41, 42]


def test_failed_and_rejected(tmp_path: Path) -> None:
    taken = Taken(fail=lambda n: Reject("no such stack") if n == 41 else ValueError("later"))

    async def scene(sender: HttpSender, target: Target) -> None:
        (rejected,) = (await sender.send(to_library(target, numbered(41)))).outcomes
        assert (rejected.kind, rejected.status) == ("rejected", 422)
        assert "no such stack" in rejected.detail
        (failed,) = (await sender.send(to_library(target, numbered(42)))).outcomes
        assert (failed.kind, failed.status, failed.failed) == ("unavailable", 503, True)
        assert failed.shows_target_alive

    play(tmp_path, taken, scene)


def test_stale_and_fence(tmp_path: Path) -> None:
    async def scene(sender: HttpSender, target: Target) -> None:
        fence = await sender.send(to_library(target, epoch=9))
        assert (said(fence), fence.heard) == ([("delivered", None)], True)
        (stale,) = (await sender.send(to_library(target, numbered(41)))).outcomes
        assert (stale.kind, stale.generation, stale.epoch) == ("stale", 1795359000123, 9)

    play(tmp_path, Taken(), scene)


def test_a_batch_settles_event_by_event(tmp_path: Path) -> None:
    taken = Taken(fail=lambda n: ValueError("later") if n == 42 else None)
    parcels = (numbered(41), numbered(42, prev=41), numbered(43, prev=42), numbered(44, subject="k2"))

    async def scene(sender: HttpSender, target: Target) -> None:
        answer = await sender.send(to_library(target, *parcels, batch=BatchOptions()))
        assert [outcome.kind for outcome in answer.outcomes] == [
            "delivered", "unavailable", "unavailable", "delivered",
        ]  # fmt: skip
        assert [outcome.applied for outcome in answer.outcomes][::3] == [41, 44]

    play(tmp_path, taken, scene)
    assert taken.numbers == [41, 44]


def test_more_than_the_receivers_concurrency_is_throttled(tmp_path: Path) -> None:
    entered, leave = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def handler(event: object, transaction: object) -> None:
        loops.append(asyncio.get_running_loop())
        entered.set()
        await leave.wait()

    async def scene(sender: HttpSender, target: Target) -> None:
        first = asyncio.create_task(sender.send(to_library(target, numbered(41))))
        assert await asyncio.to_thread(entered.wait, 30)
        (throttled,) = (await sender.send(to_library(target, numbered(42, subject="k2")))).outcomes
        assert (throttled.kind, throttled.retry_after_seconds) == ("throttled", 1.0)
        loops[0].call_soon_threadsafe(leave.set)
        assert said(await first) == [("delivered", 41)]

    play(tmp_path, handler, scene, concurrency=1)
