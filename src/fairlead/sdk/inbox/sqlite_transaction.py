# SPDX-License-Identifier: Apache-2.0
"""One delivery's transaction in the SQLite inbox, and how those that began together are stored."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from fairlead.core.chain import Memory
from fairlead.drivers.sqlite.local import Connection, Cursor, SqliteError, Value
from fairlead.errors import InboxError
from fairlead.sdk.inbox import tables
from fairlead.sdk.inbox.hold import FileHold
from fairlead.sdk.inbox.process import InboxProcess
from fairlead.sdk.inbox.tables import Place

P = ParamSpec("P")
T = TypeVar("T")


class SqliteTransaction:
    """One delivery's transaction. What a handler needs of it is `execute`, `executemany` and `run`."""

    def __init__(self, process: InboxProcess, hold: FileHold, place: Place, memory: Memory) -> None:
        self._process, self._place, self._memory = process, place, memory
        self.hold = hold
        self._record: Memory | None = None
        self._joined = self._sealed = self._ended = False
        self._kept_in = 0  # the number of the hold's transaction that keeps what the handler wrote
        self._released = False
        self._wait: tuple[float, float | None] = (0.0, 0.0)  # for the file, from and until
        self._cursors: weakref.WeakSet[Cursor] = weakref.WeakSet()
        # An abandoned `run` must not take the file after the delivery has ended.
        self._turn = threading.Lock()

    # -- for the handler -------------------------------------------------------------------------------

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> Cursor:
        """Run one statement in the delivery's transaction; the first one takes the file's write lock.

        An `async def` handler calls it within `run`, so that its event loop never waits for that lock. The
        cursor is closed when the delivery ends.

        Raises:
            InboxBusy: another handler writes for longer than `lock_wait_seconds`.
            LockLost: a newer generation began meanwhile, or the key's lock ran out.
            RuntimeError: in an event loop's own thread, or after the delivery has ended.
            sqlite3.Error: of the statement.
        """
        self._take_part()
        return self._given(self._process.connection.execute(sql, parameters))

    def executemany(self, sql: str, rows: Iterable[Sequence[Value]]) -> Cursor:
        """As `execute`, once per row."""
        self._take_part()
        return self._given(self._process.connection.executemany(sql, rows))

    async def run(
        self, work: Callable[Concatenate[SqliteTransaction, P], T], *args: P.args, **kw: P.kwargs
    ) -> T:
        """For async handlers: `await transaction.run(work, …)` runs `work(transaction, …)` in a thread.

        The statements of all its runs are one transaction. Raises what `work` raises, and as `execute`.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._process.writers, partial(work, self, *args, **kw))

    def _given(self, cursor: Cursor) -> Cursor:
        self._cursors.add(cursor)
        return cursor

    def _close_cursors(self) -> None:
        """One that somebody keeps, half read, would keep the file from all that write after it."""
        for cursor in list(self._cursors):
            with contextlib.suppress(SqliteError):
                cursor.close()

    def _take_part(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._enter()
        else:
            raise RuntimeError(
                "this thread runs an event loop, which the statement would hold up; "
                "in an async handler use `await transaction.run(work)` and `execute` within work(transaction)"
            )

    def _enter(self) -> None:
        with self._turn:
            if self._sealed:
                raise RuntimeError("the delivery has ended; its transaction cannot be used any more")
            if not self._joined:
                self._wait = (time.perf_counter(), None)
                connection = self.hold.enter()
                self._joined = True
                self._wait = (self._wait[0], time.perf_counter())
                tables.check(connection, self._place, (self._record or self._memory).generation)

    # -- for the receiver ------------------------------------------------------------------------------

    @property
    def fence(self) -> tuple[int, int]:
        """See `Transaction.fence`."""
        return self._memory.generation, self._memory.epoch

    @property
    def seq(self) -> int:
        """See `Transaction.seq`."""
        return self._memory.seq

    @property
    def floor(self) -> int:
        """See `Transaction.floor`."""
        return self._memory.floor

    @property
    def applied(self) -> int:
        """See `Transaction.applied`."""
        return self._memory.applied

    def record(self, memory: Memory) -> None:
        """See `Transaction.record`."""
        self._record = memory

    def commit(self) -> None:
        """See `Transaction.commit`."""
        self.keep()
        error = store(self._process, self.hold, [self]).get(id(self))
        if error is not None:
            raise error

    def rollback(self) -> None:
        """See `Transaction.rollback`."""
        with self._turn:
            if self._ended:
                return
            self._ended = self._sealed = True
            self._close_cursors()
            try:
                if self._kept_in:
                    self.hold.abort(self._kept_in)
                elif self._joined:
                    self.hold.drop()
            finally:
                self.hold.when_free(partial(self._process.let_go, self._place, released=self._released))

    @property
    def waited_seconds(self) -> float:
        """How long the handler has waited for others that write; it may do so now."""
        began, ended = self._wait
        return (time.perf_counter() if ended is None else ended) - began

    # -- for `store` -----------------------------------------------------------------------------------

    @property
    def changes(self) -> bool:
        """Whether there is anything to store for good."""
        return bool(self._kept_in) or (self._record is not None and self._record != self._memory)

    def keep(self) -> None:
        """The handler has ended: it can write no more, and what it wrote and we record is stored together.

        Raises:
            LockLost, InboxError: as `commit`; RuntimeError: the handler ended the transaction itself.
        """
        with self._turn:
            self._sealed = True
        if not self._joined or self._kept_in:
            return
        self._close_cursors()
        try:
            self.hold.check()
            tables.finish(self._process.connection, self._place, self._record or self._memory)
            self.hold.keep()
        except BaseException as error:
            self.rollback()
            if isinstance(error, SqliteError):
                raise InboxError(f"{self._process.path}: {error}") from error
            raise
        self._kept_in = self.hold.number

    def end(self, *, stored: bool) -> None:
        """It is stored, or nothing of it is: let go of the key."""
        self._kept_in, self._released = 0, stored
        self._joined = False  # the hold has seen to what the handler wrote
        self.rollback()

    def finish(self, connection: Connection, *, held: bool) -> None:
        """Store what is recorded.

        Args:
            held: in the hold's transaction, not in one of its own.

        Raises:
            LockLost: nothing was written; InboxError: what the handler wrote is not in this transaction.
        """
        if self._kept_in:
            here = held and self._kept_in == self.hold.number
            if not here and self._kept_in not in self.hold.stored:
                raise InboxError(f"{self._process.path}: what the handler wrote was not stored")
        elif self._record is not None and self.changes:
            tables.finish(connection, self._place, self._record)
        else:
            tables.let_go(connection, self._place)


def store(
    process: InboxProcess, hold: FileHold, transactions: Sequence[SqliteTransaction]
) -> dict[int, InboxError]:
    """Commit what began with one hold, and end it; the error of each, by its `id`, that was not stored."""
    errors: dict[int, InboxError] = {}

    def finish(connection: Connection, *, held: bool) -> None:
        errors.clear()
        for one in transactions:
            try:
                one.finish(connection, held=held)
            except InboxError as error:
                errors[id(one)] = error

    try:
        if not hold.commit(partial(finish, held=True)):
            process.write(partial(finish, held=False), durable=any(one.changes for one in transactions))
    except SqliteError as error:
        errors = {id(one): InboxError(f"{process.path}: {error}") for one in transactions}
    except InboxError as error:
        errors = {id(one): error for one in transactions}
    for one in transactions:
        one.end(stored=id(one) not in errors)
    return errors
