# SPDX-License-Identifier: Apache-2.0
"""`Relay`: the whole relay in one's own process (interface, section 11)."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead import Event, FairleadError, Reject, Relay
from fairlead.errors import (
    ConfigError,
    EventConflict,
    ForbiddenSink,
    InvalidSubscription,
    NotFound,
    StoreCorrupt,
    StoreLocked,
)

DEADLINE_SECONDS = 30.0
SOON = {"first": "5ms", "max": "20ms"}


def event(number: int, key: str = "k", **extensions: Any) -> Event:
    return Event(str(number), "/orders", "order.changed", key, data={"n": number}, **extensions)


class Taker:
    """A handler that remembers, and can be waited for."""

    def __init__(self, wanted: int) -> None:
        self.taken: list[int] = []
        self._wanted = wanted
        self._all = asyncio.Event()

    async def __call__(self, event: Event) -> None:
        self.note(event)

    def note(self, event: Event) -> None:
        self.taken.append(event.data["n"])
        if len(set(self.taken)) >= self._wanted:
            self._all.set()

    async def all(self) -> list[int]:
        await asyncio.wait_for(self._all.wait(), DEADLINE_SECONDS)
        return self.taken


def spoil(store: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(store)) as connection, connection:
        connection.execute(statement)


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await look():
            await asyncio.sleep(0)


def test_a_handler_gets_each_resource_in_order(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Relay(tmp_path / "relay.db") as relay:
            taker = Taker(20)
            await relay.subscribe("all", taker.__call__, source="/orders")
            receipts = [await relay.publish(event(n, f"k{n % 2}")) for n in range(20)]
            assert not any(one.duplicate for one in receipts)
            taken = await taker.all()
            assert [n for n in taken if n % 2] == list(range(1, 20, 2))
            assert [n for n in taken if not n % 2] == list(range(0, 20, 2))

    asyncio.run(scene())


def test_the_same_event_is_one_event_and_another_under_its_id_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Relay(tmp_path / "relay.db") as relay:
            first = await relay.publish(event(1))
            again = await relay.publish(event(1))
            assert (again.position, again.duplicate) == (first.position, True)
            with pytest.raises(EventConflict):
                await relay.publish(Event("1", "/orders", "order.changed", "k", data={"n": 2}))

    asyncio.run(scene())


def test_a_failing_handler_gets_the_event_again_before_its_successors(tmp_path: Path) -> None:
    async def scene() -> None:
        failures = [RuntimeError("once"), RuntimeError("twice")]
        async with Relay(tmp_path / "relay.db") as relay:
            taker = Taker(3)

            async def fails_first(given: Event) -> None:
                if failures and given.data["n"] == 1:
                    raise failures.pop()
                await taker(given)

            await relay.subscribe("s", fails_first, retry=SOON)
            for number in (1, 2, 3):
                await relay.publish(event(number))
            assert await taker.all() == [1, 2, 3]

    asyncio.run(scene())


def test_what_a_handler_rejects_is_parked_and_other_resources_go_on(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Relay(tmp_path / "relay.db") as relay:
            taker = Taker(1)

            async def rejects(given: Event) -> None:
                if given.subject == "bad":
                    raise Reject("not for me")
                await taker(given)

            await relay.subscribe("s", rejects)
            await relay.publish(event(1, "bad"))
            await relay.publish(event(2, "good"))
            assert await taker.all() == [2]

            async def parked() -> bool:
                return (await relay.status("s"))["parked_lanes"] == 1

            await until(parked)

    asyncio.run(scene())


def test_what_was_published_before_a_stop_is_delivered_after_the_next_start(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "relay.db"
        async with Relay(path) as relay:
            await relay.subscribe("s", Taker(1).__call__, retry=SOON)
            await relay.node.subscribing.pause(_owner(), "s")
            await relay.publish(event(1))
        async with Relay(path) as relay:
            taker = Taker(2)
            await relay.node.subscribing.resume(_owner(), "s")
            await relay.publish(event(2))
            await relay.subscribe("s", taker.__call__, retry=SOON)  # until now nobody handled it: kept
            assert await taker.all() == [1, 2]

    asyncio.run(scene())


def test_a_sync_handler_has_a_thread_of_its_own(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Relay(tmp_path / "relay.db") as relay:
            loop, done, threads = asyncio.get_running_loop(), asyncio.Event(), []

            def handle(given: Event) -> None:
                threads.append(threading.current_thread())
                loop.call_soon_threadsafe(done.set)

            await relay.subscribe("s", handle)
            await relay.publish(event(1))
            await asyncio.wait_for(done.wait(), DEADLINE_SECONDS)
            assert threads[0] is not threading.main_thread()

    asyncio.run(scene())


@pytest.mark.parametrize("made", ["an object", "a wrapper"])
def test_whatever_a_handler_returns_to_be_awaited_is_awaited_before_the_event_counts(
    tmp_path: Path, made: str
) -> None:
    async def main() -> None:
        taker = Taker(3)
        async with Relay(tmp_path / "relay.db") as relay:
            handlers: dict[str, Any] = {"an object": taker, "a wrapper": lambda one: taker(one)}  # noqa: PLW0108
            await relay.subscribe("audit", handlers[made])
            for number in (1, 2, 3):
                await relay.publish(event(number))
            assert await taker.all() == [1, 2, 3]

    asyncio.run(main())


def test_an_async_handler_that_takes_too_long_is_ended_and_tried_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Relay(tmp_path / "relay.db") as relay:
            taker, hung = Taker(1), list[str]()

            async def hangs_once(given: Event) -> None:
                if not hung:
                    hung.append(given.id)
                    await asyncio.Event().wait()
                await taker(given)

            await relay.subscribe("s", hangs_once, timeout="20ms", retry=SOON)
            await relay.publish(event(1))
            assert await taker.all() == [1]

    asyncio.run(scene())


def test_a_store_may_be_named_by_its_url_as_in_the_configuration(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Relay(f"sqlite:///{tmp_path}/a%20relay.db") as relay:
            assert not (await relay.publish(event(1))).duplicate
        async with Relay(tmp_path / "a relay.db") as relay:
            assert (await relay.publish(event(1))).duplicate

    asyncio.run(scene())
    for wrong in ("sqlite://relay.db", "sqlite:relay.db", "postgres://db/relay"):
        with pytest.raises(ConfigError, match=r'must be "sqlite:///fairlead.db" .* or a path'):
            Relay(wrong)


def test_mistakes_are_named(tmp_path: Path) -> None:
    async def scene() -> None:
        relay = Relay(tmp_path / "relay.db")
        with pytest.raises(FairleadError, match="call start"):
            await relay.publish(event(1))
        async with relay:
            with pytest.raises(StoreLocked):
                await Relay(tmp_path / "relay.db").start()
            with pytest.raises(InvalidSubscription, match="concurency"):
                await relay.subscribe("s", Taker(1).__call__, concurency=3)
            with pytest.raises(ForbiddenSink):
                await relay.subscribe("s", "http://10.0.0.1/hook")
            with pytest.raises(NotFound):
                await relay.unsubscribe("s")
        await relay.stop()

    asyncio.run(scene())


def test_a_start_that_fails_lets_the_store_go_and_is_no_start(tmp_path: Path) -> None:
    store = tmp_path / "relay.db"

    async def main() -> None:
        taker = Taker(1)
        async with Relay(store) as relay:
            await relay.subscribe("audit", taker, start="beginning")
        await asyncio.to_thread(spoil, store, "UPDATE progress SET done_ranges = CAST('[[3' AS BLOB)")
        relay = Relay(store)
        for _ in range(2):
            with pytest.raises(StoreCorrupt, match="store check"):
                await relay.start()
            with pytest.raises(FairleadError, match="not running"):
                await relay.publish(event(1))
        await asyncio.to_thread(spoil, store, "UPDATE progress SET done_ranges = CAST('[]' AS BLOB)")
        await relay.start()
        await relay.subscribe("audit", taker)
        await relay.publish(event(1))
        assert await taker.all() == [1]
        await relay.stop()

    asyncio.run(main())


def test_a_relay_in_memory_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with Relay(":memory:") as relay:
            taker = Taker(1)
            await relay.subscribe("s", taker.__call__, start="beginning")
            await relay.publish(event(1))
            assert await taker.all() == [1]

    monkeypatch.chdir(tmp_path)
    asyncio.run(scene())
    assert not list(tmp_path.iterdir())


def test_a_store_stays_where_it_was_named_when_the_process_changes_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(relay: Relay) -> None:
        async with relay:
            await relay.publish(event(1))

    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    relay = Relay("relay.db")
    monkeypatch.chdir(elsewhere)
    for _ in range(2):
        asyncio.run(scene(relay))
    assert not list(elsewhere.iterdir())
    assert (tmp_path / "relay.db").exists()


FORK = """
import asyncio, os, sys
from fairlead import Event, FairleadError, Relay

async def refused(call):
    try:
        await asyncio.wait_for(call, 10)
    except FairleadError as error:
        print(error, flush=True)

async def child(relay):
    await refused(relay.publish(Event("2", "/s", "t")))
    await refused(relay.subscribe("s", print))
    await refused(relay.start())
    await relay.stop()

async def main():
    async with Relay(sys.argv[1]) as relay:
        print(os.getpid(), flush=True)
        if (pid := os.fork()) == 0:
            asyncio.run(child(relay))
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        await relay.publish(Event("1", "/s", "t"))

asyncio.run(main())
"""


def test_a_child_of_a_fork_is_told_whose_the_relay_is(tmp_path: Path) -> None:
    code = [sys.executable, "-c", FORK, str(tmp_path / "relay.db")]
    done = subprocess.run(code, timeout=2 * DEADLINE_SECONDS, check=True, capture_output=True, text=True)
    pid, *said = done.stdout.splitlines()
    assert len(said) == 3
    assert {f"started before a fork, in process {pid}, and runs only there" in line for line in said} == {
        True
    }


def _owner() -> Any:
    from fairlead.embedded import OWNER

    return OWNER
