# SPDX-License-Identifier: Apache-2.0
"""Applying a queue's deliveries: one at a time per lane, different lanes at once, in worker threads."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from typing import Any, NamedTuple

from fairlead.errors import InboxError
from fairlead.sdk.bus_deliveries import BusAnswer, BusDelivery

log = logging.getLogger("fairlead.receiver")

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0


class Job(NamedTuple):
    """One delivery under way.

    Attributes:
        ticket: the consumer's own, for its acknowledgement.
    """

    delivery: BusDelivery
    ticket: Any


Apply = Callable[[BusDelivery], BusAnswer | None]
Applied = Callable[[Job, BusAnswer | None], None]


class BusLanes:
    """Keeps the order of each lane. Its calls are for the loop on which it was made.

    What the inbox cannot take now keeps its place and is applied again after a pause (0.1 s doubling to 5 s):
    nothing of its lane overtakes it, and the broker's prefetch bounds what waits behind it.

    Args:
        apply: runs in a worker thread; raises InboxError where nothing was decided.
        applied: called on the loop, with the answer, when a job is done with.
        concurrency: lanes at once.
    """

    def __init__(self, apply: Apply, applied: Applied, *, concurrency: int) -> None:
        self._apply, self._applied = apply, applied
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[Hashable, deque[Job]] = {}  # behind the one that runs or waits for a thread
        self._work: SimpleQueue[Job | None] = SimpleQueue()
        self._done: deque[tuple[Job, BusAnswer | None, bool]] = deque()
        self._told = False
        self._ending = threading.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._threads = [
            threading.Thread(target=self._run, name=f"fairlead-bus-{number}", daemon=True)
            for number in range(concurrency)
        ]
        for thread in self._threads:
            thread.start()

    def add(self, job: Job) -> None:
        """Apply it when what came before it in its lane is done with."""
        behind = self._lanes.get(job.delivery.lane)
        if behind is not None:
            behind.append(job)
            return
        self._lanes[job.delivery.lane] = deque()
        self._idle.clear()
        self._work.put(job)

    def forget(self) -> None:
        """Drop what has not begun: the broker will deliver it again, to us or to another."""
        for behind in self._lanes.values():
            behind.clear()

    async def close(self) -> None:
        """Finish what has begun, and no more; whoever waits for the inbox gives up. Idempotent."""
        self._ending.set()
        self.forget()
        await self._idle.wait()
        for _ in self._threads:
            self._work.put(None)
        await asyncio.to_thread(self._join)

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()

    # -- in a worker's thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while (job := self._work.get()) is not None:
            answer: BusAnswer | None = None
            over = True
            try:
                answer = self._patiently(job)
            except InboxError:
                over = False  # only at the end: it comes again
            except Exception:  # a defect of ours or of an inbox: the queue goes on, and the relay sends again
                log.exception("A delivery could not be applied", extra={"id": job.delivery.id})
            self._done.append((job, answer, over))
            if not self._told:
                self._told = True
                self._loop.call_soon_threadsafe(self._take)

    def _patiently(self, job: Job) -> BusAnswer | None:
        pause_seconds = FIRST_PAUSE_SECONDS
        while True:
            try:
                return self._apply(job.delivery)
            except InboxError as error:
                extra = {"id": job.delivery.id, "error": str(error)}
                log.warning("The inbox cannot take a delivery now; it is tried again", extra=extra)
                if self._ending.wait(pause_seconds):
                    raise
            pause_seconds = min(LONGEST_PAUSE_SECONDS, pause_seconds * 2)

    # -- on the loop ---------------------------------------------------------------------------------------

    def _take(self) -> None:
        self._told = False  # before the look: what comes after it is told again
        while self._done:
            job, answer, over = self._done.popleft()
            behind = self._lanes[job.delivery.lane]
            if behind:
                self._work.put(behind.popleft())
            else:
                del self._lanes[job.delivery.lane]
            if over:
                self._applied(job, answer)
        if not self._lanes:
            self._idle.set()
