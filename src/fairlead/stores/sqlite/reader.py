# SPDX-License-Identifier: Apache-2.0
"""Reading beside the writer: a connection and a thread of its own, so that neither waits for the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

from fairlead.drivers.sqlite.file import Connection, Error, trouble_of
from fairlead.errors import StoreBusy, StoreCorrupt
from fairlead.stores.sqlite.writer import Writer

T = TypeVar("T")


class Reader(Protocol):
    """Runs a function on a connection that sees every commit."""

    def run(self, function: Callable[[Connection], T]) -> Awaitable[T]:
        """The function's result.

        Raises:
            StoreCorrupt: the file cannot be read. StoreBusy: it is locked. What the function raises.
        """

    def close(self) -> None: ...


class ThreadReader:
    """A connection and the one thread that uses it; refuses, like the writer, once serving has ended."""

    def __init__(self, writer: Writer, connection: Connection, name: str) -> None:
        self._writer = writer
        self._connection = connection
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, function: Callable[[Connection], T]) -> T:
        self._writer.check_open()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, function)

    def close(self) -> None:
        self._thread.shutdown()
        self._connection.close()

    def _read(self, function: Callable[[Connection], T]) -> T:
        return _reading(function, self._connection)


class WriterReader:
    """Reads on the writer's connection: for a database in memory, which has no other."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def run(self, function: Callable[[Connection], T]) -> T:
        return await self._writer.read(lambda connection: _reading(function, connection))

    def close(self) -> None:
        """Nothing of its own."""


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """Let several statements see one state of the database, where they do not anyway."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def _reading(function: Callable[[Connection], T], connection: Connection) -> T:
    """Run it; what the file does wrong becomes a StoreError of this read alone."""
    try:
        return function(connection)
    except Error as error:
        trouble = trouble_of(error)
        if trouble == "statement":
            raise
        if trouble == "busy":
            raise StoreBusy(
                "the store is locked by another program; try again", retry_after_seconds=1
            ) from error
        raise StoreCorrupt(f"the store cannot be read: {error}; run `fairlead store check`") from error
