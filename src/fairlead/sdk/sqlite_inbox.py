# SPDX-License-Identifier: Apache-2.0
"""The default inbox: one SQLite file, shared by every process of the receiver.

A handler whose effect is elsewhere holds no write transaction: a lock per key spans it, in the process and,
as a lock row with owner and expiry, between processes; two short transactions stand before and after it. A
handler that writes here (`SqliteTransaction.execute`) takes part in the delivery's transaction: its rows and
ours are stored together or not at all, and while it runs the file's other writers wait.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Concatenate, ParamSpec, TypeVar

from fairlead.core.chain import Memory
from fairlead.core.channel import ChannelId
from fairlead.drivers.sqlite_local import Connection, Cursor, SqliteError, Value
from fairlead.errors import InboxError
from fairlead.sdk import inbox_file
from fairlead.sdk.inbox_process import InboxProcess

P = ParamSpec("P")
T = TypeVar("T")


class SqliteInbox:
    """An inbox in an SQLite file, made at its first use; it may be your own database: ours begin `fairlead_`.

    Args:
        path: the file; a local disk, never a network file system.
        lock_wait_seconds: how long a delivery waits for another of its key, or for the file's other writers.
        lease_seconds: how long the key of a process that died stays locked; renewed while a handler runs.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, lock_wait_seconds: float = 10.0, lease_seconds: float = 20.0
    ) -> None:
        self.path = os.fspath(path)
        self._lock_wait = lock_wait_seconds
        self._lease = lease_seconds
        self._processes: dict[int, InboxProcess] = {}

    def begin(self, channel: ChannelId, key: str | None) -> SqliteTransaction:
        """See `Inbox.begin`."""
        process = self._process()
        owner = f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            memory = process.read(channel, None) if key is None else process.take(channel, key, owner)
        except SqliteError as error:
            raise InboxError(f"{self.path}: {error}") from error
        return SqliteTransaction(process, channel, key, owner, memory)

    def close(self) -> None:
        """See `Inbox.close`. The next `begin` opens the file again."""
        process = self._processes.pop(os.getpid(), None)
        if process is not None:
            process.close()

    def _process(self) -> InboxProcess:
        """What this process has open; a child of a fork opens its own."""
        pid = os.getpid()
        process = self._processes.get(pid)
        if process is None:
            for other in self._processes.values():
                other.abandon()
            mine = InboxProcess(self.path, self._lock_wait, self._lease)
            process = self._processes.setdefault(pid, mine)  # atomic: of two threads one wins
            if process is not mine:
                mine.close()
        return process

    def __enter__(self) -> SqliteInbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SqliteTransaction:
    """One delivery's transaction. What a handler needs of it is `execute`, `executemany` and `run`."""

    def __init__(
        self, process: InboxProcess, channel: ChannelId, key: str | None, owner: str, memory: Memory
    ) -> None:
        self._process = process
        self._channel, self._key, self._owner = channel, key, owner
        self._memory = memory
        self._record: Memory | None = None
        self._joined = self._sealed = self._ended = self._released = False
        # An abandoned `run` must not take the file after the delivery has ended.
        self._turn = threading.Lock()

    # -- for the handler -------------------------------------------------------------------------------

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> Cursor:
        """Run one statement in the delivery's transaction; the first one takes the file's write lock.

        An `async def` handler calls it within `run`, so that its event loop never waits for that lock.

        Raises:
            InboxBusy: another handler writes for longer than `lock_wait_seconds`.
            LockLost: a newer generation began meanwhile, or the key's lock ran out.
            RuntimeError: in an event loop's own thread, or after the delivery has ended.
            sqlite3.Error: of the statement.
        """
        self._take_part()
        return self._process.connection.execute(sql, parameters)

    def executemany(self, sql: str, rows: Iterable[Sequence[Value]]) -> Cursor:
        """As `execute`, once per row."""
        self._take_part()
        return self._process.connection.executemany(sql, rows)

    async def run(
        self, work: Callable[Concatenate[SqliteTransaction, P], T], *args: P.args, **kw: P.kwargs
    ) -> T:
        """For async handlers: `await transaction.run(work, …)` runs `work(transaction, …)` in a thread.

        The statements of all its runs are one transaction. Raises what `work` raises, and as `execute`.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._process.writers, partial(work, self, *args, **kw))

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
                self._process.enter()
                self._joined = True
                self._check()

    def _check(self) -> None:
        """Inside the write transaction: the delivery still has what it began with, or LockLost."""
        generation = (self._record or self._memory).generation
        inbox_file.check(self._process.connection, self._channel, self._key, self._owner, generation)

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
        try:
            with self._turn:
                self._sealed = True
            if self._joined:
                self._commit_with_the_handler()
            elif self._record is not None and self._record != self._memory:
                self._process.write(self._finish)
                self._released = True
        except SqliteError as error:
            raise InboxError(f"{self._process.path}: {error}") from error
        finally:
            self.rollback()

    def _commit_with_the_handler(self) -> None:
        connection = self._process.connection
        if not connection.in_transaction:
            raise RuntimeError("the handler ended the delivery's transaction; only the receiver may")
        self._finish(connection)
        connection.execute("COMMIT")
        self._released = True

    def _finish(self, connection: Connection) -> None:
        memory = self._record or self._memory
        inbox_file.finish(connection, self._channel, self._key, self._owner, memory)

    def rollback(self) -> None:
        """See `Transaction.rollback`."""
        with self._turn:
            if self._ended:
                return
            self._ended = self._sealed = True
            try:
                if self._joined:
                    self._process.leave()
            finally:
                if self._key is not None:
                    self._process.let_go(self._channel, self._key, self._owner, released=self._released)
