# SPDX-License-Identifier: Apache-2.0
"""What the writer is asked for: one caller's share of a commit, and how its answer finds its way back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, Literal, TypeVar

from fairlead.drivers.sqlite.file import Connection
from fairlead.stores.sqlite.queries import queries
from fairlead.stores.sqlite.rows import Row

T = TypeVar("T")
Kind = Literal["read", "write", "bulk"]

_LOG = queries("log")


class Transaction:
    """What a job may use while its transaction is open.

    `heads` are the last positions by partition; a job that raises one adds the partition to `touched`.
    """

    __slots__ = ("connection", "execute", "heads", "touched")

    def __init__(self, connection: Connection, heads: list[int]) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.heads = heads
        self.touched: set[int] = set()

    def insert(self, rows: list[Row]) -> bool:
        """Insert events at once; False where something stood in the way of one: the transaction is spoilt.

        One statement for all of them matters: each statement hands Python's lock over to whoever wants it.
        """
        return not rows or self.connection.executemany(_LOG["append"], rows).rowcount == len(rows)

    def write_heads(self) -> None:
        """Store the heads once, however many events the jobs appended."""
        if self.touched:
            heads = [(partition, self.heads[partition]) for partition in sorted(self.touched)]
            self.connection.executemany(_LOG["put_head"], heads)


class Job(Generic[T]):
    """One caller's share of a commit, and what came of it.

    Args:
        run: does the work.
        guarded: undo what `run` wrote if it raises.
        propose: the rows of events that `run` inserts if nothing stands in their way, and its result then.
    """

    __slots__ = ("error", "future", "guarded", "kind", "loop", "propose", "result", "run", "size_bytes")

    def __init__(
        self,
        run: Callable[[Transaction], T],
        kind: Kind,
        *,
        guarded: bool = False,
        size_bytes: int = 0,
        propose: Callable[[Transaction], tuple[list[Row], T]] | None = None,
    ) -> None:
        self.run = run
        self.kind = kind
        self.guarded = guarded
        self.propose = propose
        self.size_bytes = size_bytes
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self.loop.create_future()
        self.result: T | None = None
        self.error: BaseException | None = None


def refuse(jobs: list[Job[Any]], kind: Kind | None, error: Callable[[], Exception]) -> list[Job[Any]]:
    """Answer the jobs of one kind (None: all) with an error; return the others."""
    rest = []
    for job in jobs:
        if kind is None or job.kind == kind:
            job.error = error()
        else:
            rest.append(job)
    return rest


def deliver(jobs: list[Job[Any]]) -> None:
    """Answer every caller, waking its loop once."""
    loops: dict[asyncio.AbstractEventLoop, list[Job[Any]]] = {}
    for job in jobs:
        loops.setdefault(job.loop, []).append(job)
    for loop, done in loops.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, done)


def _resolve(jobs: list[Job[Any]]) -> None:
    for job in jobs:
        if job.future.done():  # the caller has gone; the job was done all the same
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
