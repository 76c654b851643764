# SPDX-License-Identifier: Apache-2.0
"""The suite that every source of messages passes unchanged.

class TestMySource(SourceContract):
    @asynccontextmanager
    async def bench(self) -> AsyncIterator[SourceBench]:
        yield MyBench()
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from fairlead.core.source_message import SourceMessage
from fairlead.ports import Received, Source, SourceHealth

DEADLINE_SECONDS = 60.0


class SourceBench(Protocol):
    """A queue of one's own, from the other side."""

    def source(self, prefetch: int) -> Source:
        """A source on the queue, not opened yet; it may be asked for several times."""

    async def put(self, *messages: SourceMessage) -> None:
        """Send, in order; back when the queue has them."""

    async def cut(self) -> None:
        """Break the source's connection; it may be made again at once."""


class Taker:
    """Opens a source and keeps what it gives."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.taken: list[Received] = []
        self.healths: list[bool] = []
        source.open(self.taken.append, lambda: self.healths.append(source.health.up))

    async def have(self, count: int) -> list[Received]:
        """The first so many, as soon as they are here."""
        await eventually(lambda: len(self.taken) >= count)
        return self.taken[:count]


class SourceContract:
    """Subclass it, name the subclass `Test…`, and say how to make a bench."""

    def bench(self) -> AbstractAsyncContextManager[SourceBench]:
        """A bench that is gone afterwards."""
        raise NotImplementedError

    def test_messages_come_whole_and_in_the_order_of_the_queue(self) -> None:
        async def scene(bench: SourceBench) -> None:
            sent = [message(at) for at in range(50)]
            await bench.put(*sent)
            taker = Taker(bench.source(100))
            assert [plain(one) for one in await taker.have(50)] == [plain_message(one) for one in sent]
            await taker.source.close()

        self._play(scene)

    def test_nothing_is_wrong_on_the_way_up(self) -> None:
        async def scene(bench: SourceBench) -> None:
            await bench.put(message(1))
            source = bench.source(1)
            healths: list[SourceHealth] = []
            source.open(lambda _: None, lambda: healths.append(source.health))
            healths.append(source.health)
            await eventually(lambda: source.health.up)
            assert [one for one in healths if not (one.up or one.begins)] == []
            await source.close()

        self._play(scene)

    def test_no_more_come_than_may_be_unacknowledged(self) -> None:
        async def scene(bench: SourceBench) -> None:
            await bench.put(*(message(at) for at in range(7)))
            taker = Taker(bench.source(3))
            for at in range(7):
                await taker.have(min(at + 3, 7))
                assert len(taker.taken) <= at + 3
                taker.source.acknowledge(taker.taken[at])
            await taker.source.close()

        self._play(scene)

    def test_what_was_not_acknowledged_stays_in_its_place(self) -> None:
        async def scene(bench: SourceBench) -> None:
            await bench.put(*(message(at) for at in range(6)))
            first = Taker(bench.source(4))
            taken = await first.have(4)
            first.source.acknowledge(taken[0])
            first.source.acknowledge(taken[2])
            await first.source.close()
            await first.source.close()
            second = Taker(bench.source(10))
            assert [body(one) for one in await second.have(4)] == [b"1", b"3", b"4", b"5"]
            await second.source.close()
            assert len(first.taken) <= 6

        self._play(scene)

    def test_after_a_cut_everything_unacknowledged_comes_again_under_a_greater_number(self) -> None:
        async def scene(bench: SourceBench) -> None:
            await bench.put(*(message(at) for at in range(4)))
            taker = Taker(bench.source(10))
            before = await taker.have(4)
            taker.source.acknowledge(before[0])
            await asyncio.sleep(0)  # an acknowledgement goes out with the loop's next turn
            await bench.cut()
            await eventually(lambda: any(one.attachment > before[0].attachment for one in taker.taken))
            await eventually(lambda: body(taker.taken[-1]) == b"3" and len(taker.taken) >= 7)
            again = [one for one in taker.taken if one.attachment > before[0].attachment]
            assert [body(one) for one in again][-3:] == [b"1", b"2", b"3"]
            assert all(one.redelivered for one in again)
            assert not any(one.redelivered for one in before)
            for one in before:
                taker.source.acknowledge(one)  # too late: it changes nothing
            for one in again:
                taker.source.acknowledge(one)
            await taker.source.close()
            await bench.put(message(9))
            after = Taker(bench.source(10))
            assert [body(one) for one in await after.have(1)] == [b"9"]
            await after.source.close()

        self._play(scene)

    def test_its_health_is_told_when_it_changes(self) -> None:
        async def scene(bench: SourceBench) -> None:
            source = bench.source(1)
            assert not source.health.up
            assert source.health.detail
            taker = Taker(source)
            await eventually(lambda: source.health.up)
            assert source.health.detail == ""
            taker.healths.clear()
            await bench.cut()
            await eventually(lambda: taker.healths[-1:] == [True] and False in taker.healths)
            await source.close()
            assert not source.health.up

        self._play(scene)

    def _play(self, scene: Callable[[SourceBench], object]) -> None:
        async def whole() -> None:
            async with asyncio.timeout(DEADLINE_SECONDS), self.bench() as bench:
                played = scene(bench)
                assert asyncio.iscoroutine(played)
                await played

        asyncio.run(whole())


def message(number: int) -> SourceMessage:
    """A message that says which it is."""
    text = str(number).encode()
    return SourceMessage(text, len(text), "text/plain", f"m-{number}", headers={"n": number, "who": "me"})


def body(received: Received) -> bytes:
    """Which one it is."""
    return received.message.body


def plain(received: Received) -> tuple[object, ...]:
    """What every bus can carry."""
    return plain_message(received.message)


def plain_message(one: SourceMessage) -> tuple[object, ...]:
    """What every bus can carry of a message."""
    return one.body, one.size_bytes, one.content_type, one.message_id, dict(one.headers)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until it is true; the scene's deadline bounds it."""
    while not condition():  # noqa: ASYNC110 -- other processes bring it about
        await asyncio.sleep(0.01)
