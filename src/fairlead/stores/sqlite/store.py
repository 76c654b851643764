# SPDX-License-Identifier: Apache-2.0
"""The store in one SQLite file: the composition behind `fairlead.ports.Store`.

One writer (`writer.py`) owns the file; two readers look on: one for what deliveries wait for, one for
lists, so that a long search holds up nobody. In memory, or under a given executor, all is one connection.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from functools import partial

from fairlead.drivers.sqlite.file import Connection, Error, SqliteFile, memory
from fairlead.drivers.sqlite.room import is_used_up
from fairlead.errors import StoreError, StoreFailed, StoreForeign
from fairlead.stores.sqlite import rejects as sqlite_rejects
from fairlead.stores.sqlite import tools as sqlite_tools
from fairlead.stores.sqlite.attempts import SqliteAttempts
from fairlead.stores.sqlite.channels import SqliteChannels
from fairlead.stores.sqlite.checkpoint import Checkpointer
from fairlead.stores.sqlite.keys import SqliteKeys
from fairlead.stores.sqlite.log import SqliteLog
from fairlead.stores.sqlite.opening import PARTITIONS, connect, prepare, unusable
from fairlead.stores.sqlite.queries import queries
from fairlead.stores.sqlite.reader import Reader, ThreadReader, WriterReader
from fairlead.stores.sqlite.rejects import SqliteRejects
from fairlead.stores.sqlite.reserve import Reserve
from fairlead.stores.sqlite.subscriptions import SqliteSubscriptions
from fairlead.stores.sqlite.writer import Executor, Writer, WriterThread

MEMORY = ":memory:"
DISK_RESERVE_BYTES = 64 * 1024 * 1024
BUSY_TIMEOUT_SECONDS = 5.0
ROOM_SECONDS = 1.0  # for who asks after the disk while it hangs
_SQL = queries("access")


class SqliteStore:
    """One durable store in one file that one process owns. Made by `open`.

    Attributes:
        on_failed: called once, on any thread, with the error that ended serving.
        failure: that error, None while the store serves.
    """

    shared = False

    def __init__(
        self,
        connection: Connection,
        file: SqliteFile | None,
        executor: Executor | None,
        *,
        disk_reserve_bytes: int,
        free_bytes: Callable[[], int],
        now: Callable[[], float],
        keep_connection: bool,
    ) -> None:
        self.connection = connection
        self.on_failed: Callable[[StoreFailed], None] | None = None
        self.failure: StoreFailed | None = None
        self._file = file
        self._keep_connection = keep_connection
        self._thread = None if executor is not None else WriterThread()
        self._checkpointer: Checkpointer | None = None
        self._closing: asyncio.Future[None] | None = None
        self._writer = Writer(
            connection,
            executor or self._thread or _at_once,
            reserve=Reserve(
                free_bytes, disk_reserve_bytes, lambda: file is not None and is_used_up(file.path)
            ),
            committed=self._committed,
            failed=self._failed,
        )
        self._readers: list[Reader] = []
        if file is not None and executor is None:
            self._checkpointer = Checkpointer(file.connect(), connection, self._writer.fail)
            self._readers = [
                ThreadReader(self._writer, file.connect_reader(), f"fairlead-store-{name}")
                for name in ("pages", "lists")
            ]
        else:
            self._readers = [WriterReader(self._writer)] * 2
        pages, lists = self._readers
        partitions = int(connection.execute(_SQL["setting"], ("partitions",)).fetchone()[0])
        self.log = SqliteLog(self._writer, pages=pages, lists=lists, partitions=partitions)
        self.channels = SqliteChannels(self._writer, pages=pages, lists=lists, now=now)
        self.attempts = SqliteAttempts(self._writer, lists)
        self.subscriptions = SqliteSubscriptions(self._writer, pages)
        self.keys = SqliteKeys(self._writer, pages)
        self.rejects = SqliteRejects(self._writer, lists)
        self._pages, self._lists = pages, lists

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] = MEMORY,
        *,
        disk_reserve_bytes: int = DISK_RESERVE_BYTES,
        busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS,
        partitions: int = PARTITIONS,
        executor: Executor | None = None,
        connection: Connection | None = None,
        factory: type[Connection] = Connection,
        free_bytes: Callable[[], int] | None = None,
        now: Callable[[], float] = time.time,
    ) -> SqliteStore:
        """Open a store, making it or bringing it up to date where needed.

        Args:
            path: the file, or `:memory:`.
            disk_reserve_bytes: what appends must leave free on the disk, for deliveries to go on.
            busy_timeout_seconds: how long to wait for a lock that a foreign tool holds.
            partitions: for a new store; an old one keeps its own.
            executor: runs the writer's work in order, instead of a thread; reads then go there too.
            connection: a database in memory to open again, as after a crash; it is not closed by `close`.
            factory: the class of the connections (tests inject faults with it).
            free_bytes: what the disk has left, instead of asking it.
            now: Unix seconds, instead of the wall clock.

        Raises:
            StoreLocked: another process has it. StoreForeign, StoreNewer: not ours; it was not touched.
            StoreCorrupt: it is damaged. StoreError: it cannot be made or written there.
        """
        file = None
        if connection is None and os.fspath(path) != MEMORY:
            file = SqliteFile(path, busy_timeout_seconds=busy_timeout_seconds, factory=factory)
            file.lock.take()
        opened = connection
        try:
            opened = connection or (memory(factory) if file is None else connect(file))
            prepare(opened, partitions)
            return cls(
                opened,
                file,
                executor,
                disk_reserve_bytes=disk_reserve_bytes,
                free_bytes=free_bytes
                or (partial(file.room().free_bytes, opened) if file is not None else _boundless),
                now=now,
                keep_connection=connection is not None,
            )
        except BaseException as error:
            if opened is not None and connection is None:
                opened.close()
            if file is not None:
                file.lock.withdraw() if isinstance(error, StoreForeign) else file.lock.release()
            if isinstance(error, Error):
                raise unusable(path, error) from error
            raise

    async def note(self, source: str, subject: str, text: str | None = None) -> str | None:
        if text is None:
            return await self._pages.run(  # a bridge's callers wait for it
                lambda connection: sqlite_rejects.read_note(connection, source, subject)
            )
        return await self._writer.write(
            lambda transaction: sqlite_rejects.note(transaction, source, subject, text), guarded=False
        )

    def time_commits(self, observe: Callable[[float], None]) -> None:
        self._writer.on_commit = observe

    async def has_room(self) -> bool:
        try:
            async with asyncio.timeout(ROOM_SECONDS):
                return await self._writer.has_room()
        except TimeoutError:  # the writer is asked only where something had no room; now its disk hangs, too
            return False

    async def check(self) -> list[str]:
        return await self._lists.run(sqlite_tools.damages)

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._writer.finish(StoreError("the store is closed"))
        if self._thread is None:  # whoever brought the executor also brought the loop's threads, or has none
            self._let_go()
        else:
            await asyncio.get_running_loop().run_in_executor(None, self._let_go)

    def abandon(self) -> Connection:
        """Stop as a power cut would: what is not committed is gone, nobody gets an answer.

        Returns:
            The connection, for `open(connection=…)` to find what was committed.
        """
        self._writer.abandon()
        return self.connection

    def _let_go(self) -> None:
        if self._thread is not None:
            self._thread.stop()
        if self._checkpointer is not None:
            self._checkpointer.stop()
        for reader in self._readers:
            reader.close()
        if not self._keep_connection:
            self.connection.close()
        if self._file is not None:
            self._file.lock.release()

    def _committed(self, size_bytes: int) -> None:
        if self._checkpointer is not None:
            self._checkpointer.committed(size_bytes)

    def _failed(self, failure: StoreFailed) -> None:
        self.failure = failure
        if self.on_failed is not None:
            self.on_failed(failure)


def _boundless() -> int:
    return sys.maxsize


def _at_once(work: Callable[[], None]) -> None:
    work()
