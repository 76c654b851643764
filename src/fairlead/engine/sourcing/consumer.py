# SPDX-License-Identifier: Apache-2.0
"""Takes messages in order, and acknowledges each once what became of it is on disk (design, section 3)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from fairlead.core.merging import Merge
from fairlead.core.policy import Grant, Principal
from fairlead.core.source_message import MESSAGE_ID
from fairlead.engine.ingest import Ingest
from fairlead.engine.sourcing.inlet import Arrived, Inlet, reason_of
from fairlead.errors import (
    FairleadError,
    Overloaded,
    Problem,
    Stopping,
    StoreBusy,
    StoreError,
    StoreFailed,
    StoreFull,
)
from fairlead.ports import Clock, Received, Reject, Rejects

SOURCES = Principal("sources", (Grant(("publish",)),))
"""Who publishes what queues bring: whoever wrote the configuration has granted it."""

BATCH_MESSAGES = 128
BATCH_BYTES = 1024 * 1024
FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 5.0
MOST_REASON_LETTERS = 200  # in the log; GET /rejects has all of it

T = TypeVar("T")
_log = logging.getLogger(__name__)


class _EndError(FairleadError):
    """The consumer is to end, and what it has in hand stays in the queue."""


class Consumer:
    """Some inlets, as a rule one, whose messages are taken one after the other.

    Messages are accepted in batches, each queue's in its order; a message that cannot be taken does not
    harm its neighbours. While the store takes nothing, nothing is acknowledged and the brokers send no
    more than the prefetch.

    Args:
        batch_events: the most events of one call of `Ingest.accept`.
    """

    def __init__(
        self, inlets: Sequence[Inlet], ingest: Ingest, rejects: Rejects, clock: Clock, *, batch_events: int
    ) -> None:
        self.inlets = tuple(inlets)
        self._ingest = ingest
        self._rejects = rejects
        self._clock = clock
        self._batch_events = batch_events
        self._merge: Merge[Arrived] = Merge(len(self.inlets))
        self._attachments = [0] * len(self.inlets)
        self._rung = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Open every source and take what comes."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        for at, inlet in enumerate(self.inlets):
            inlet.source.open(self._taker(at), inlet.note)
            inlet.note()

    async def stop(self) -> None:
        """Finish what is in hand, unless it waits for the store, and let go of the queues. Idempotent."""
        self._stopping.set()
        self._rung.set()
        if self._task is not None:
            await self._task
        await asyncio.gather(*(inlet.source.close() for inlet in self.inlets))
        for inlet in self.inlets:
            inlet.stopped()

    def _taker(self, at: int) -> Callable[[Received], None]:
        inlet = self.inlets[at]

        def take(received: Received) -> None:
            if received.attachment != self._attachments[at]:
                self._attachments[at] = received.attachment
                self._merge.drop(at)  # all of it comes again, in order
            arrived = inlet.read(received)
            self._merge.put(at, arrived, arrived.time, self._clock.monotonic())
            self._rung.set()

        return take

    async def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                batch = self._gather()
                if batch:
                    await self._settle(batch)
                else:
                    await self._wait_for_more()
        except _EndError:
            pass
        except Stopping:
            _log.info("sources stop: the relay does")
        except StoreError as error:
            self._wait_because(f"the store failed: {error}")
        except Exception as error:  # it must neither end unseen nor keep the relay from stopping
            _log.exception("sources have ended; start the relay again")
            self._wait_because(f"a defect in the relay ({type(error).__name__}); start it again")

    async def _wait_for_more(self) -> None:
        self._rung.clear()
        await _first_of(self._rung, self._merge.wait_seconds(self._clock.monotonic()))

    def _gather(self) -> list[Arrived]:
        """The messages whose turn it is, as many as make one commit."""
        batch: list[Arrived] = []
        events = size = 0
        now = self._clock.monotonic()
        while len(batch) < BATCH_MESSAGES and size < BATCH_BYTES:
            following = self._merge.peek(now)
            if following is None or (batch and events + len(following.events) > self._batch_events):
                break
            self._merge.take(now)
            batch.append(following)
            events += len(following.events)
            size += len(following.received.message.body)
        return batch

    async def _settle(self, batch: Sequence[Arrived]) -> None:
        """Store all of a batch at once; where an event is to blame, message by message."""
        events = [event for one in batch for event in one.events]
        try:
            appended = await self._patiently(lambda: self._ingest.accept(SOURCES, events))
        except Stopping:
            raise
        except Problem as problem:
            if len(batch) == 1:
                await self._reject(batch[0], reason_of(problem))
                return
            for one in batch:
                await self._settle([one])
            return
        places = iter(appended)
        for one in batch:
            if one.reason is not None:
                await self._reject(one, one.reason)
                continue
            for _ in one.events:
                if next(places).duplicate:
                    one.inlet.duplicates += 1
                else:
                    one.inlet.accepted += 1
            one.inlet.source.acknowledge(one.received)

    async def _reject(self, one: Arrived, reason: str) -> None:
        """Keep a message that cannot be taken; then it is done with."""
        reject = one.inlet.reject_of(one.received, reason)
        if not (one.received.redelivered and await self._is_listed(reject)):
            await self._patiently(lambda: self._rejects.add_reject(reject))
            one.inlet.rejected += 1
            extra = {"source": one.inlet.name, "reject": reject.id, "reason": reason[:MOST_REASON_LETTERS]}
            _log.warning("a message was rejected", extra=extra)
        one.inlet.source.acknowledge(one.received)

    async def _is_listed(self, reject: Reject) -> bool:
        """Whether a message was kept before its acknowledgement was lost; only an id tells it from others."""
        try:
            return MESSAGE_ID in reject.headers and await self._rejects.has_like(reject, MESSAGE_ID)
        except FairleadError:
            return False  # listed twice is better than not at all

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Try until the store takes it. Raises what trying again does not mend."""
        wait_seconds = FIRST_WAIT_SECONDS
        while True:
            try:
                result = await call()
            except (StoreBusy, StoreFull, Overloaded) as problem:
                why = reason_of(problem)
            except (Problem, StoreFailed):
                raise
            except (
                Exception
            ) as error:  # whatever it is: the message stays in the queue, and people hear of it
                why = f"a defect in the relay ({type(error).__name__}); its log says more"
                _log.exception("messages could not be stored")
            else:
                self._wait_because("")
                return result
            self._wait_because(why)
            await _first_of(self._stopping, wait_seconds)
            if self._stopping.is_set():
                raise _EndError
            wait_seconds = min(2 * wait_seconds, LONGEST_WAIT_SECONDS)

    def _wait_because(self, why: str) -> None:
        for inlet in self.inlets:
            inlet.waits(why)


async def _first_of(event: asyncio.Event, timeout_seconds: float | None) -> None:
    """Return when the event is set, or after a time."""
    try:
        async with asyncio.timeout(timeout_seconds):
            await event.wait()
    except TimeoutError:
        pass
