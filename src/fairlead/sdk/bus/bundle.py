# SPDX-License-Identifier: Apache-2.0
"""A few deliveries of different lanes, applied one after the other in one thread, with one commit for all.

A handler may turn out slow. Then another thread calls `part`: it stores what was done before, and gives back
what has not begun, so that only the slow one waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from fairlead.errors import InboxError
from fairlead.sdk.bus.answer import BusAnswer
from fairlead.sdk.bus.deliveries import BusDeliveries, BusDelivery
from fairlead.sdk.receiving.applying import Application

log = logging.getLogger("fairlead.receiver")


class Job(NamedTuple):
    """One delivery under way.

    Attributes:
        ticket: the consumer's own, for its acknowledgement.
        tries: how often the inbox could not take it.
    """

    delivery: BusDelivery
    ticket: Any
    tries: int = 0


class Over(NamedTuple):
    """A job that is done with: settle it, and send the answer if there is one."""

    job: Job
    answer: BusAnswer | None


class Again(NamedTuple):
    """A job of which nothing was decided.

    Attributes:
        error: what the inbox said; None where it only had to make room.
    """

    job: Job
    error: InboxError | None


Result = Over | Again


class Bundle:
    """Applies its jobs. `run` is called once; `part` by another thread meanwhile, at most once.

    Attributes:
        handled: how many handlers have run; `handler_seconds`: for how long, without their waiting
            for each other.
        partable: `part` may be called; for its caller to say.
    """

    def __init__(self, deliveries: BusDeliveries, jobs: Sequence[Job]) -> None:
        self._deliveries, self._applier = deliveries, deliveries.applier
        self.jobs = jobs
        self._guard = threading.Lock()
        self._to_do: deque[tuple[Job, Application]] = deque()
        self._done: list[tuple[Job, Application]] = []
        self._open = {id(job): job for job in jobs}  # those of which nothing was reported
        self._begun: list[Application] = []
        self._handling: tuple[float, Application] | None = None
        self._ending = False
        self.partable = len(jobs) > 1
        self.handled = 0
        self.handler_seconds = 0.0

    def run(self) -> list[Result]:
        """Apply the jobs; what became of those that were not parted off."""
        try:
            results = self._begin()
            while not self._ending and (next_one := self._next()) is not None:
                results += self._handle(*next_one)
            return results + self.part()
        except BaseException:  # a defect, or a handler that exits: its thread must not take its lanes along
            log.exception("Deliveries could not be applied; the relay will send them again")
            return self._give_up()

    def part(self) -> list[Result]:
        """Store what is done, give back what has not begun; the one that is handled stays with `run`."""
        with self._guard:
            waiting, self._to_do = self._to_do, deque()
        results = self._store()
        for job, one in waiting:
            one.transaction.rollback()
            results.append(Again(job, None))
        return self._reported(results)

    def handling_seconds(self) -> float:
        """How long the handler that runs has run, but for its waiting for others; 0 where none does."""
        handling = self._handling
        if handling is None:
            return 0.0
        began, one = handling
        return time.perf_counter() - began - self._applier.waited_seconds(one)

    def end(self) -> None:
        """Begin no further handler; from any thread."""
        self._ending = True

    def _begin(self) -> list[Result]:
        results: list[Result] = []
        begun = self._applier.begin([(job.delivery.event, job.delivery.stamps) for job in self.jobs])
        with self._guard:
            for job, one in zip(self.jobs, begun, strict=True):
                if isinstance(one, InboxError):
                    results.append(Again(job, one))
                    continue
                self._begun.append(one)
                (self._to_do if one.due else self._done).append((job, one))
        return self._reported(results)

    def _next(self) -> tuple[Job, Application] | None:
        with self._guard:
            return self._to_do.popleft() if self._to_do else None

    def _handle(self, job: Job, one: Application) -> list[Result]:
        self._handling = (time.perf_counter(), one)
        try:
            self._applier.handle(one)
        except InboxError as error:
            return self._reported([Again(job, error)])
        finally:
            self.handled += 1
            self.handler_seconds += self.handling_seconds()
            self._handling = None
        with self._guard:
            self._done.append((job, one))
        return []

    def _store(self) -> list[Result]:
        with self._guard:
            done, self._done = self._done, []
        try:
            return self._stored(done)
        except Exception:  # a defect: also the thread that parts must go on, and these lanes with it
            log.exception("Deliveries could not be stored; the relay will send them again")
            for _, one in done:
                one.transaction.rollback()
            return [Over(job, None) for job, _ in done]

    def _stored(self, done: Sequence[tuple[Job, Application]]) -> list[Result]:
        taken = [(job, one) for job, one in done if one.answer is not None]
        results: list[Result] = []
        errors = self._applier.commit([one for _, one in taken])
        failed = {id(one): error for (_, one), error in zip(taken, errors, strict=True)}
        for job, one in done:
            error = failed.get(id(one))
            try:
                if error is not None:
                    raise error
                answer = self._deliveries.answer(job.delivery, self._applier.answer(one))
                results.append(Over(job, answer))
            except InboxError as reason:
                results.append(Again(job, reason))
        return results

    def _reported(self, results: list[Result]) -> list[Result]:
        """The results of jobs that have none yet."""
        with self._guard:
            return [result for result in results if self._open.pop(id(result.job), None) is not None]

    def _give_up(self) -> list[Result]:
        with self._guard:
            left, self._open = self._open, {}
            self._to_do.clear()
            self._done.clear()
        for one in self._begun:
            one.transaction.rollback()
        return [Over(job, None) for job in left.values()]
