# SPDX-License-Identifier: Apache-2.0
"""Lanes of a bus without a broker: bundles while handlers are quick, threads where they are slow."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fairlead.core.answer import parse_answer
from fairlead.sdk.bus.answer import BusAnswer
from fairlead.sdk.bus.bundle import Job
from fairlead.sdk.bus.deliveries import BusDeliveries
from fairlead.sdk.bus.lanes import BusLanes
from fairlead.sdk.inbox.port import Inbox
from fairlead.sdk.inbox.sqlite_inbox import SqliteInbox, SqliteTransaction
from fairlead.sdk.receiving.applying import Applier
from fairlead.sdk.receiving.handler import BackgroundLoop, Handler, caller
from fairlead.testing.receiver_kit import ReceiverKit, bus_message
from tests.contract.receiving import SECRET, event

DEADLINE_SECONDS = 60.0


def writes(event: Any, transaction: SqliteTransaction) -> None:
    transaction.execute("CREATE TABLE IF NOT EXISTS mine (n INTEGER)")
    transaction.execute("INSERT INTO mine VALUES (?)", (event.data["n"],))


def only_looks(event: Any, transaction: object) -> None: ...


@dataclass
class Scene:
    """Lanes on the running loop, and what became of each delivery."""

    inbox: Inbox
    handler: Handler
    results: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    count: int = 0

    def __post_init__(self) -> None:
        self.kit = ReceiverKit(SECRET, bus=True)
        self.background = BackgroundLoop()
        self.deliveries = BusDeliveries(
            Applier(self.inbox, caller(self.handler, None, self.background)), [SECRET]
        )
        self.lanes = BusLanes(self.deliveries, self._on_applied, concurrency=16)
        self._changed = asyncio.Event()

    def _on_applied(self, job: Job, answer: BusAnswer | None) -> None:
        assert answer is not None
        document = parse_answer(answer.body)
        self.results[str(document.key)].append(document.result)
        self.count += 1
        self._changed.set()

    def add(self, n: int, subject: str) -> None:
        delivery = self.deliveries.open(bus_message(self.kit.deliver(event(n, subject))))
        assert delivery is not None
        self.lanes.add(Job(delivery, n))

    async def until(self, count: int) -> None:
        """Wait until so many are done with."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while self.count < count:
                self._changed.clear()
                await self._changed.wait()

    async def close(self) -> None:
        await self.lanes.close()
        self.background.close()
        self.inbox.close()


def written(path: str) -> list[tuple[int]]:
    with closing(sqlite3.connect(path)) as file:
        return file.execute("SELECT n FROM mine").fetchall()


def inbox_at(place: Path) -> SqliteInbox:
    return SqliteInbox(place / "inbox.db")


@pytest.mark.parametrize("touch", [only_looks, writes])
def test_many_events_are_applied_in_the_order_of_their_lanes(
    tmp_path: Path, touch: Callable[..., None]
) -> None:
    seen: dict[str, list[int]] = defaultdict(list)

    def handler(event: Any, transaction: Any) -> None:
        touch(event, transaction)
        seen[event.subject].append(event.data["n"])

    async def main() -> None:
        scene = Scene(inbox_at(tmp_path), handler)
        for n in range(600):
            scene.add(n, f"k{n % 37}")
        await scene.until(600)
        await scene.close()
        assert {result for results in scene.results.values() for result in results} == {"applied"}

    asyncio.run(main())
    assert all(numbers == sorted(numbers) for numbers in seen.values())
    assert sum(map(len, seen.values())) == 600


@pytest.mark.parametrize("touch", [only_looks, writes])
def test_a_handler_that_hangs_after_many_quick_ones_holds_up_its_lane_only(
    tmp_path: Path, touch: Callable[..., None]
) -> None:
    hangs, leave = threading.Event(), threading.Event()

    def handler(event: Any, transaction: Any) -> None:
        if event.subject == "hangs":
            hangs.set()
            assert leave.wait(DEADLINE_SECONDS)
        touch(event, transaction)

    async def main() -> None:
        scene = Scene(inbox_at(tmp_path), handler)
        for n in range(1000):  # bundles grow
            scene.add(n, f"k{n % 200}")
        await scene.until(1000)
        for n in range(1000, 1030):
            scene.add(n, "hangs" if n % 10 == 5 else f"k{n}")
        await scene.until(1027)
        assert hangs.is_set()
        assert "/heat hangs" not in scene.results
        scene.add(2000, "later")
        await scene.until(1028)
        leave.set()
        await scene.until(1031)
        assert scene.results["/heat hangs"] == ["applied"] * 3
        await scene.close()

    asyncio.run(main())


def test_alone_two_handlers_that_hang_do_not_keep_a_third_delivery_waiting(tmp_path: Path) -> None:
    leave = threading.Event()

    def handler(event: Any, transaction: Any) -> None:
        if event.subject.startswith("hangs"):
            assert leave.wait(DEADLINE_SECONDS)

    async def main() -> None:
        scene = Scene(inbox_at(tmp_path), handler)
        for n in range(500):
            scene.add(n, f"k{n}")
        await scene.until(500)
        for n in range(3):
            scene.add(n, f"hangs {n}")
            await asyncio.sleep(0)
        scene.add(9, "k9")
        await scene.until(501)
        leave.set()
        await scene.until(504)
        await scene.close()

    asyncio.run(main())


def test_failing_handlers_are_answered_each_and_their_writes_are_not_stored(tmp_path: Path) -> None:
    def handler(event: Any, transaction: SqliteTransaction) -> None:
        writes(event, transaction)
        if event.data["n"] % 3 == 0:
            raise ValueError("after it wrote")

    async def main() -> None:
        inbox = inbox_at(tmp_path)
        scene = Scene(inbox, handler)
        for n in range(300):
            scene.add(n, f"k{n}")
        await scene.until(300)
        failed = [key for key, results in scene.results.items() if results == ["failed"]]
        assert len(failed) == 100
        stored = await asyncio.to_thread(written, inbox.path)
        assert sorted(n for (n,) in stored) == [n for n in range(300) if n % 3]
        await scene.close()

    asyncio.run(main())


def test_a_handler_that_exits_ends_no_thread_and_no_lane(tmp_path: Path) -> None:
    def handler(event: Any, transaction: SqliteTransaction) -> None:
        if event.data["n"] == 0:
            raise SystemExit(1)

    async def main() -> None:
        scene = Scene(inbox_at(tmp_path), handler)
        unanswered: list[Job] = []
        answered = scene.lanes._applied

        def applied(job: Job, answer: BusAnswer | None) -> None:
            if answer is None:
                unanswered.append(job)
            else:
                answered(job, answer)

        scene.lanes._applied = applied
        for n in range(20):
            scene.add(n % 2, "k")
        await scene.until(1)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while scene.count + len(unanswered) < 20:
                await asyncio.sleep(0)
        await scene.close()

    asyncio.run(main())


def test_an_inbox_that_knows_nothing_of_bundles_serves_too(tmp_path: Path) -> None:
    class Plain:
        """`Inbox`, no more."""

        def __init__(self, inbox: SqliteInbox) -> None:
            self.begin, self.close = inbox.begin, inbox.close

    async def main() -> None:
        scene = Scene(Plain(inbox_at(tmp_path)), writes)
        for n in range(100):
            scene.add(n, f"k{n % 9}")
        await scene.until(100)
        await scene.close()

    asyncio.run(main())


def test_what_is_forgotten_is_not_applied_and_its_lane_goes_on(tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()
    seen: list[int] = []

    def handler(event: Any, transaction: object) -> None:
        entered.set()
        assert leave.wait(DEADLINE_SECONDS)
        seen.append(event.data["n"])

    async def main() -> None:
        scene = Scene(inbox_at(tmp_path), handler)
        for n in range(4):
            scene.add(n, "k1")
        await asyncio.to_thread(entered.wait, DEADLINE_SECONDS)
        scene.lanes.forget()
        leave.set()
        await scene.until(1)
        scene.kit._last.clear()
        scene.add(9, "k1")
        await scene.until(2)
        await scene.close()

    asyncio.run(main())
    assert seen == [0, 9]


def test_a_defect_of_an_inbox_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SqliteInbox):
        def begin_all(self, wanted: Any) -> Any:
            if any(key == "/heat bad" for _, key in wanted):
                raise ZeroDivisionError("a defect")
            return super().begin_all(wanted)

    async def main() -> None:
        scene = Scene(Broken(tmp_path / "inbox.db"), only_looks)
        settled: list[int] = []
        scene.lanes._applied = lambda job, answer: settled.append(job.ticket)
        scene.add(1, "bad")
        scene.add(2, "good")
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(settled) < 2:
                await asyncio.sleep(0.01)
        await scene.close()

    asyncio.run(main())
    assert "could not be applied" in caplog.text


def test_a_defect_while_storing_holds_up_no_lane(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = threading.Event()

    class Broken(SqliteInbox):
        def commit_all(self, transactions: Any) -> Any:
            if not broken.is_set():
                broken.set()
                raise ZeroDivisionError("a defect")
            return super().commit_all(transactions)

    def handler(event: Any, transaction: object) -> None:
        if event.data["n"]:  # the second of the bundle runs until the first was parted off
            assert broken.wait(DEADLINE_SECONDS)

    async def main() -> None:
        scene = Scene(Broken(tmp_path / "inbox.db"), handler)
        settled: dict[object, bool] = {}
        scene.lanes._applied = lambda job, answer: settled.update({job.ticket: answer is not None})
        scene.lanes._size = 2
        scene.add(0, "first")
        scene.add(1, "second")
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(settled) < 2:
                await asyncio.sleep(0.01)
        await scene.close()
        assert sorted(settled.values()) == [False, True]

    asyncio.run(main())
    assert "could not be stored" in caplog.text
