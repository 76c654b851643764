# SPDX-License-Identifier: Apache-2.0
"""The disk of the store: its work takes a moment, and can be refused, fail, or leave open what was done."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Literal

from fairlead.drivers.sqlite.file import Connection, Error, memory

DiskFault = Literal["busy", "full", "reserve", "lost", "unknown"]
_CODES = {"busy": 5, "full": 13, "lost": 10, "unknown": 10}


class FaultyConnection(Connection):
    """SQLite in memory whose next statements of a kind fail while `fault` is set.

    Attributes:
        fault: `busy`: locked by another program; `full`: no room for anything that writes; `reserve`: no room
            for appends; `lost`: a commit fails and nothing of it is stored; `unknown`: it fails, yet all is.
        committed: called after each commit.
        refused: this statement meets a lock the next time.
    """

    fault: DiskFault | None = None
    committed: Callable[[], None] | None = None
    refused: str | None = None
    _writing = False

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        if sql == self.refused:
            self.refused = None
            raise _error("busy")
        if self.fault is not None:
            if sql.startswith("BEGIN") and self.fault == "busy":
                raise _error("busy")
            if sql.startswith(("INSERT", "UPDATE", "DELETE")) and self.fault == "full":
                raise _error("full")
            if sql == "COMMIT" and self._writing and self.fault in ("lost", "unknown"):
                fault, self.fault = self.fault, None
                super().execute("ROLLBACK" if fault == "lost" else "COMMIT")
                self._tell()
                raise _error(fault)
        result = super().execute(sql, parameters)
        if sql in ("BEGIN IMMEDIATE", "ROLLBACK"):
            self._writing = sql != "ROLLBACK"  # readers begin and commit too
        elif sql == "COMMIT" and self._writing:
            self._tell()
        return result

    def _tell(self) -> None:
        self._writing = False
        if self.committed is not None:
            self.committed()

    def executemany(self, sql: str, rows: Iterable[Any], /) -> Any:
        if self.fault == "full":
            raise _error("full")
        return super().executemany(sql, rows)

    def __del__(self) -> None:
        """A power cut closes nothing, and what is in memory needs it not; from 3.13 Python warns of it."""
        self.close()


def _error(fault: DiskFault) -> Error:
    error = Error(f"simulated: {fault}")
    error.sqlite_errorcode = _CODES[fault]
    return error


def new_database() -> FaultyConnection:
    """An empty database in memory, for `SqliteStore.open(connection=…)`."""
    connection = memory(FaultyConnection)
    assert isinstance(connection, FaultyConnection)
    return connection


class Disk:
    """The writer's executor: runs its work in order, each a moment later.

    Args:
        before: called before each piece of work.
    """

    def __init__(self, random: Random, before: Callable[[], None] | None = None) -> None:
        self._random = random
        self.before = before
        self._work: deque[Callable[[], None]] = deque()

    def __call__(self, work: Callable[[], None]) -> None:
        self._work.append(work)
        if len(self._work) == 1:
            self._turn()

    def _turn(self) -> None:
        slow = self._random.random() < 0.03
        delay_seconds = self._random.random() * (0.2 if slow else 0.004)
        asyncio.get_running_loop().call_later(delay_seconds, self._run)

    def _run(self) -> None:
        """As the thread does it: whatever was asked for is one commit, the rest finds nothing left to do."""
        if self.before is not None:
            self.before()
        works, self._work = self._work, deque()
        for work in works:
            work()
        if self._work:
            self._turn()


def free_bytes(connection: FaultyConnection) -> int:
    """What the disk has left."""
    return 0 if connection.fault in ("reserve", "full") else sys.maxsize
