# SPDX-License-Identifier: Apache-2.0
"""The one writer: whatever waits goes into one transaction, one fsync for all (design, sections 3 and 4).

Jobs queue up while a commit runs and share the next one, appends and flushes alike. A caller gets its answer
after the commit, never before, so what it was told is on disk. When the disk fills up, appends stop first and
what the flushes need goes on; when a commit or fsync fails, nothing is believed any more and serving ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Any, TypeVar

from fairlead.drivers.sqlite.file import Connection, trouble_of
from fairlead.errors import FairleadError, StoreError, StoreFailed
from fairlead.stores.sqlite.jobs import Job, Transaction, deliver, refuse
from fairlead.stores.sqlite.queries import queries
from fairlead.stores.sqlite.refusals import again, busy, failed, full
from fairlead.stores.sqlite.reserve import Reserve
from fairlead.stores.sqlite.rows import Row

T = TypeVar("T")
Executor = Callable[[Callable[[], None]], None]

_LOG = queries("log")
_BATCH_BYTES = 4 * 1024 * 1024
_JOB_BYTES = 4096


class WriterThread:
    """The default executor: one thread, in order. It ends with `stop`, or with the process."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="fairlead-store-writer", daemon=True)
        self._thread.start()

    def __call__(self, work: Callable[[], None]) -> None:
        self._work.put(work)

    def stop(self) -> None:
        """Finish what was put before, then end; returns when it has."""
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()


class Writer:
    """Runs jobs on the one connection that writes.

    Args:
        connection: in autocommit mode; nobody else writes with it.
        executor: runs a callable some time, in order, not inside the call.
        reserve: what appends leave of the disk.
        committed: called after each commit with about how many bytes it wrote.
        failed: called once, on the executor's thread, when serving ends.

    Attributes:
        on_commit: called after each commit, on the executor's thread, with the seconds it took.
    """

    def __init__(
        self,
        connection: Connection,
        executor: Executor,
        *,
        reserve: Reserve,
        committed: Callable[[int], None],
        failed: Callable[[StoreFailed], None],
    ) -> None:
        self._connection = connection
        self._executor = executor
        self._reserve = reserve
        self.on_commit: Callable[[float], None] = _unheard
        self._committed = committed
        self._on_failed = failed
        self._heads: list[int] = [pos for _, pos in connection.execute(_LOG["heads"] + " ORDER BY partition")]
        self._bulk: deque[Job[Any]] = deque()
        self._other: deque[Job[Any]] = deque()
        self._closed: StoreError | None = None
        self._called = False

    # -- asking ----------------------------------------------------------------------------------------

    def write(self, run: Callable[[Transaction], T], *, guarded: bool = True) -> Awaitable[T]:
        """Run a job that changes the store; may use the disk reserve.

        Args:
            guarded: undo what the job wrote if it raises; False for one that raises before it writes.

        Raises:
            StoreBusy, StoreFull: nothing was stored, try later. StoreFailed: serving has ended.
            What the job raises.
        """
        return self._submit(Job(run, "write", guarded=guarded, size_bytes=_JOB_BYTES))

    def append(
        self,
        run: Callable[[Transaction], T],
        *,
        guarded: bool,
        size_bytes: int,
        propose: Callable[[Transaction], tuple[list[Row], T]] | None = None,
    ) -> Awaitable[T]:
        """Run a job that makes the store grow, but not into the disk reserve. Arguments as `Job`'s.

        Raises:
            As `write`.
        """
        return self._submit(Job(run, "bulk", guarded=guarded, size_bytes=size_bytes, propose=propose))

    def read(self, run: Callable[[Connection], T]) -> Awaitable[T]:
        """Run a job that only reads, where no other connection can. Raises as `write`."""
        return self._submit(Job(lambda transaction: run(transaction.connection), "read"))

    async def has_room(self) -> bool:
        """Whether events may be appended, and nothing else was without room. Raises as `write`."""
        return not self._reserve.refused or await self.read(lambda _: self._reserve.left())

    def check_open(self) -> None:
        """Raise what has ended serving, if anything has."""
        if self._closed is not None:
            raise again(self._closed)

    async def finish(self, error: StoreError) -> None:
        """Carry out what waits, then refuse everything with `error`."""
        with suppress(StoreFailed):
            await self.read(_nothing)
            while self._bulk or self._other:
                await self.read(_nothing)
        self._closed = self._closed or error

    def abandon(self) -> None:
        """Forget what waits, as a power cut would; nobody gets an answer any more."""
        self._closed = StoreFailed("the store was abandoned")
        self._bulk.clear()
        self._other.clear()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _submit(self, job: Job[T]) -> asyncio.Future[T]:
        self.check_open()
        (self._bulk if job.kind == "bulk" else self._other).append(job)
        self._call()
        return job.future

    def _call(self) -> None:
        """Have the executor take what waits: once for all that comes until it does, as waking it costs."""
        if not self._called:
            self._called = True
            self._executor(self._drain)

    # -- carrying out ----------------------------------------------------------------------------------

    def _drain(self) -> None:
        """One commit of what waits; on the executor's thread."""
        self._called = False  # before the look: whoever comes after it calls again
        jobs = self._take()
        if self._bulk:
            self._call()
        if not jobs:
            return
        try:
            self._carry_out(jobs)
        except Exception as error:  # a defect here must not leave callers waiting, or believing
            self.fail(error)
            self._attempt(jobs, True)
        deliver(jobs)

    def _take(self) -> list[Job[Any]]:
        """Everything but appends, and as many appends as keep the commit short."""
        jobs = []
        while self._other:
            jobs.append(self._other.popleft())
        size = 0
        while self._bulk and size < _BATCH_BYTES:
            job = self._bulk.popleft()
            size += job.size_bytes
            jobs.append(job)
        return jobs

    def _carry_out(self, jobs: list[Job[Any]]) -> None:
        if any(job.kind == "bulk" for job in jobs) and not self._reserve.for_events():
            jobs = refuse(jobs, "bulk", full)
            # Empty the WAL, so that what goes on needs no more room than it has.
            self._committed(_BATCH_BYTES)
        careful = False
        while jobs:
            jobs = self._attempt(jobs, careful)
            careful = True

    def _attempt(self, jobs: list[Job[Any]], careful: bool) -> list[Job[Any]]:
        """One transaction; the jobs that are to be tried again, without those that spoilt it.

        The first time, the events of all jobs are inserted at once, as if none of them were there already. If
        that fails, `careful` goes from job to job and finds out where.
        """
        closed = self._closed
        if isinstance(closed, StoreFailed):
            return refuse(jobs, None, lambda: again(closed))
        transaction = Transaction(self._connection, self._heads.copy())
        writes = any(job.kind != "read" for job in jobs)
        culprit: Job[Any] | None = None
        began = perf_counter()
        try:
            if writes:
                transaction.execute("BEGIN IMMEDIATE")
            rows: list[Row] = []
            for culprit in jobs:
                if careful or culprit.propose is None:
                    _run(transaction, culprit)
                else:
                    proposed, culprit.result = culprit.propose(transaction)
                    rows += proposed
            culprit = None
            if not transaction.insert(rows):
                raise _NotAllNewError
            if writes:
                transaction.write_heads()
                transaction.execute("COMMIT")
        except Exception as error:  # of any kind: the transaction must end and its callers be answered
            return self._triage(error, jobs, culprit, careful)
        self._heads = transaction.heads
        if writes:
            self._committed(sum(job.size_bytes for job in jobs))
            self._reserve.stored(any(job.kind == "bulk" for job in jobs))
            self.on_commit(perf_counter() - began)
        return []

    def _triage(
        self, error: Exception, jobs: list[Job[Any]], culprit: Job[Any] | None, careful: bool
    ) -> list[Job[Any]]:
        """Undo the transaction and say who is to blame for it; the others are tried again."""
        trouble = trouble_of(error, self._connection)
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except Exception as worse:  # a transaction that cannot be undone is as bad as a failed commit
            trouble, error = "broken", worse
        if trouble == "busy":
            return refuse(jobs, None, busy)
        if trouble == "full":
            appending = any(job.kind == "bulk" for job in jobs)
            self._reserve.none_for(appending)
            return refuse(jobs, "bulk" if appending else None, full)
        if trouble == "statement" and not careful:
            return jobs
        if trouble == "statement" and culprit is not None:
            culprit.error = error
            return [job for job in jobs if job is not culprit]
        self.fail(error)
        return jobs

    def fail(self, error: BaseException) -> None:
        """End serving: what the disk holds is not known any more. The first call counts."""
        if isinstance(self._closed, StoreFailed):
            return
        failure = failed(error)
        self._closed = failure
        self._on_failed(failure)


class _NotAllNewError(Exception):
    """Not every event could be inserted: some were there already."""


def _run(transaction: Transaction, job: Job[Any]) -> None:
    """Run one job; an error it means for its caller undoes that job only."""
    job.error = None
    heads, touched = transaction.heads, transaction.touched
    if job.guarded:
        transaction.execute("SAVEPOINT job")
        transaction.heads, transaction.touched = heads.copy(), touched.copy()
    try:
        job.result = job.run(transaction)
    except FairleadError as error:
        job.error = error
        if job.guarded:
            transaction.execute("ROLLBACK TO job")
            transaction.heads, transaction.touched = heads, touched
    if job.guarded:
        transaction.execute("RELEASE job")


def _nothing(_: Connection) -> None:
    """What is asked for to know that everything before it is done."""


def _unheard(seconds: float) -> None:
    """Nobody measures commits."""
