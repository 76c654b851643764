# SPDX-License-Identifier: Apache-2.0
"""Applying a queue's deliveries: one at a time per lane, different lanes at once, in worker threads.

While handlers are quick a few threads carry bundles of deliveries, with one commit each; where they are slow
each has a thread of its own, up to `concurrency`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from queue import SimpleQueue

from fairlead.errors import InboxBusy
from fairlead.sdk.bus.answer import BusAnswer
from fairlead.sdk.bus.bundle import Again, Bundle, Job, Over, Result
from fairlead.sdk.bus.deliveries import BusDeliveries

log = logging.getLogger("fairlead.receiver")

BUNDLE_SECONDS = 0.002  # how long the handlers of one are to take together
SLOW_SECONDS = 0.02  # how long one handler may take until its bundle is parted
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0
PATIENT_TRIES = 5  # with a key that another process or REST has

Applied = Callable[[Job, BusAnswer | None], None]


class BusLanes:
    """Keeps the order of each lane. Its calls are for the loop on which it was made.

    What the inbox cannot take now keeps its place and is applied again after a pause (0.1 s doubling to 5 s):
    nothing of its lane overtakes it, and the broker's prefetch bounds what waits behind it.

    Args:
        applied: called on the loop, with the answer, when a job is done with.
        concurrency: handlers at once.
    """

    def __init__(self, deliveries: BusDeliveries, applied: Applied, *, concurrency: int) -> None:
        self._deliveries, self._applied = deliveries, applied
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[Hashable, deque[Job]] = {}  # behind the one that is ready, under way or paused
        self._ready: deque[Job] = deque()
        self._under_way: set[Hashable] = set()  # lanes
        self._active: set[Bundle] = set()
        self._quick: set[Bundle] = set()  # those of which no handler has taken long
        self._size, self._most = 1, deliveries.applier.most_at_once
        self._era = 0
        self._planned = self._ending = False
        self._watch: asyncio.TimerHandle | None = None
        self._idle = concurrency
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, name=f"fairlead-bus-{number}", daemon=True)
            for number in range(concurrency)
        ]
        for thread in self._threads:
            thread.start()

    def add(self, job: Job) -> None:
        """Apply it when what came before it in its lane is done with."""
        lane = job.delivery.lane
        behind = self._lanes.get(lane)
        if behind is not None:
            behind.append(job)
            return
        self._lanes[lane] = deque()
        self._ready.append(job)
        self._plan()

    def forget(self) -> None:
        """Drop what is not under way: the broker will deliver it again, to us or to another."""
        self._era += 1
        self._lanes = {lane: deque() for lane in self._lanes if lane in self._under_way}
        self._ready.clear()

    async def close(self) -> None:
        """Finish the handlers that run, and no more. Idempotent."""
        self._ending = True
        self.forget()
        for bundle in self._active:
            bundle.end()
        await self._quiet.wait()
        if self._watch is not None:
            self._watch.cancel()
        for _ in self._threads:
            self._work.put(None)
        await asyncio.to_thread(self._join)

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    # -- bundles -------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Two bundles at once keep the disk and the handlers busy; more only if they are full."""
        self._planned = False
        while self._ready and self._idle and (len(self._quick) < 2 or len(self._ready) >= self._size):
            jobs = [self._ready.popleft() for _ in range(min(self._size, len(self._ready)))]
            self._under_way.update(job.delivery.lane for job in jobs)
            bundle = Bundle(self._deliveries, jobs)
            self._active.add(bundle)
            self._quick.add(bundle)
            self._quiet.clear()
            self._give(partial(self._run, bundle))
        if self._active and self._watch is None:
            self._watch = self._loop.call_later(SLOW_SECONDS, self._look)

    def _give(self, work: Callable[[], None]) -> None:
        self._idle -= 1
        self._work.put(work)

    def _run(self, bundle: Bundle) -> None:
        """In a worker's thread."""
        self._loop.call_soon_threadsafe(self._on_run, bundle, bundle.run())

    def _part(self, bundle: Bundle) -> None:
        """In a worker's thread."""
        self._loop.call_soon_threadsafe(self._on_results, bundle.part())

    def _look(self) -> None:
        """Part the bundles of which a handler takes long."""
        self._watch = None
        for bundle in self._active:
            if bundle in self._quick and bundle.handling_seconds() > SLOW_SECONDS:
                self._size = 1
                self._quick.discard(bundle)
            if bundle not in self._quick and bundle.partable and self._idle:
                bundle.partable = False
                self._give(partial(self._part, bundle))
        if self._active:
            self._watch = self._loop.call_later(SLOW_SECONDS, self._look)
        self._dispatch()

    # -- results -------------------------------------------------------------------------------------------

    def _on_run(self, bundle: Bundle, results: list[Result]) -> None:
        self._active.discard(bundle)
        self._quick.discard(bundle)
        if bundle.handled:
            mean = max(bundle.handler_seconds / bundle.handled, 1e-6)
            self._size = max(1, min(self._most, 2 * self._size, int(BUNDLE_SECONDS / mean)))
        self._on_results(results)

    def _on_results(self, results: list[Result]) -> None:
        self._idle += 1
        for result in results:
            self._under_way.discard(result.job.delivery.lane)
            if isinstance(result, Over):
                self._next_of(result.job)
                self._applied(result.job, result.answer)
            elif not self._ending:
                self._again(result)
        self._dispatch()
        if self._idle == len(self._threads) and not self._ready:
            self._quiet.set()

    def _next_of(self, job: Job) -> None:
        lane = job.delivery.lane
        behind = self._lanes.get(lane)
        if behind:
            self._ready.append(behind.popleft())
        elif behind is not None:
            del self._lanes[lane]

    def _again(self, result: Again) -> None:
        job, error = result
        if error is None:
            self._ready.append(job)
            return
        tries = job.tries + 1
        if tries == PATIENT_TRIES or (tries == 1 and not isinstance(error, InboxBusy)):
            extra = {"id": job.delivery.id, "error": str(error)}
            log.warning("The inbox cannot take a delivery now; it is tried again: %s", error, extra=extra)
        pause_seconds = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (tries - 1))
        self._loop.call_later(pause_seconds, self._once_more, job._replace(tries=tries), self._era)

    def _once_more(self, job: Job, era: int) -> None:
        if era == self._era:
            self._ready.append(job)
            self._plan()
