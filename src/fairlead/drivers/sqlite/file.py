# SPDX-License-Identifier: Apache-2.0
"""SQLite as a file that one process owns.

What is durable here is so because of four settings: WAL, `synchronous=FULL` (an fsync per commit),
`fullfsync` where fsync alone does not reach the disk (macOS), and a lock that keeps every other process out.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fairlead.drivers.sqlite.lock import SqliteLock
from fairlead.drivers.sqlite.room import Room, is_used_up
from fairlead.errors import StoreError, StoreForeign

Connection = sqlite3.Connection
Error = sqlite3.Error
Trouble = Literal["busy", "full", "statement", "broken"]

MAGIC = b"SQLite format 3\0"
APPLICATION_ID = 0x464C6431
"""`FLd1`: SQLite's mark of a relay's store."""

_HEADER_BYTES = 100
_STATEMENTS_KEPT = 256
_TROUBLES: dict[int, Trouble] = {
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_LOCKED: "busy",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_ERROR: "statement",
    sqlite3.SQLITE_CONSTRAINT: "statement",
    sqlite3.SQLITE_MISMATCH: "statement",
    sqlite3.SQLITE_RANGE: "statement",
    sqlite3.SQLITE_TOOBIG: "statement",
    sqlite3.SQLITE_MISUSE: "statement",
}


def trouble_of(error: BaseException, connection: Connection | None = None) -> Trouble:
    """What an error of this library, or of the code that used it, means for the store.

    Args:
        connection: where it was raised, to look there whether a write failed only because a quota is used up.

    `busy`: another process holds a lock, try later. `full`: no room. `statement`: this statement or its
    arguments are wrong, the store is sound. `broken`: the file or the disk cannot be relied on.
    """
    if not isinstance(error, sqlite3.Error):
        return "statement"
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by the module itself, before SQLite was asked
        return "broken" if "decode" in str(error) else "statement"
    if code == sqlite3.SQLITE_IOERR_WRITE and connection is not None and _has_no_room(connection):
        return "full"
    if code == sqlite3.SQLITE_IOERR_SHMSIZE:  # the index of the WAL could not grow
        return "full"
    return _TROUBLES.get(code & 0xFF, "broken")


def _has_no_room(connection: Connection) -> bool:
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    return bool(path) and is_used_up(path)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose file it is: SQLite's `application_id` and `user_version`; both 0 in a file without content."""

    application_id: int
    version: int


def memory(factory: type[Connection] = Connection) -> Connection:
    """A database in memory: the same engine, nothing durable."""
    connection = sqlite3.connect(
        ":memory:",
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS_KEPT,
        factory=factory,
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


class SqliteFile:
    """One database file.

    Attributes:
        lock: keeps other processes out, where it is taken before anything else and released when every
            connection is closed.

    Args:
        path: the file; symbolic links are followed, so that one file has one lock.
        busy_timeout_seconds: how long a statement waits for a lock that a foreign tool holds.
        factory: the class of the connections (tests inject faults with it).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        busy_timeout_seconds: float,
        factory: type[Connection] = Connection,
    ) -> None:
        self.path = Path(path).resolve()
        self._busy_timeout_seconds = busy_timeout_seconds
        self._factory = factory
        self.lock = SqliteLock(self.path)

    def create(self, application_id: int) -> None:
        """Make an empty database with that mark, readable by its owner only; its name is durable then.

        Raises:
            StoreError: it cannot be made. StoreLocked: as `SqliteLock.take`.
        """
        # Under another name first: a crash never leaves a file at `path` whose owner cannot be told.
        draft = self.path.with_name(self.path.name + ".new")
        try:
            draft.unlink(missing_ok=True)
            os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(draft, isolation_level=None)
            try:
                connection.execute(f"PRAGMA application_id = {application_id}")
            finally:
                connection.close()
            draft.replace(self.path)
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(f"{self.path} cannot be made: {error.strerror}") from error
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self.lock.follow()

    def identify(self) -> Identity | None:
        """Whose file it is, without changing a byte of it; None where there is no file or an empty one.

        Not in a process that has the database open, which only its lock can tell: to close a file ends every
        lock of the process on it, SQLite's too, and then another program may delete the WAL in use.

        Raises:
            StoreForeign: it is not an SQLite database.
        """
        try:
            with self.path.open("rb") as file:
                header = file.read(_HEADER_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.path} cannot be read: {error.strerror}") from error
        if not header:
            return None
        if not header.startswith(MAGIC) or len(header) < _HEADER_BYTES:
            raise StoreForeign(
                f"{self.path} is not a Fairlead store: it is not an SQLite database; name another file"
            )
        # The file's own header: what a WAL beside it may add never concerns the application id.
        return Identity(int.from_bytes(header[68:72], "big"), int.from_bytes(header[60:64], "big"))

    def room(self) -> Room:
        """What its disk has left, from now on; for who has a connection."""
        return Room(self.path)

    def connect(self) -> Connection:
        """A connection that writes; every commit is on disk when it returns."""
        reaching_the_disk = (
            ("fullfsync = ON", "checkpoint_fullfsync = ON") if sys.platform == "darwin" else ()
        )
        return self._open(
            "rw",
            "journal_mode = WAL",
            "synchronous = FULL",
            *reaching_the_disk,
            "wal_autocheckpoint = 0",
            "cell_size_check = ON",
            "secure_delete = OFF",  # some builds zero what is deleted: a write per page
            "cache_size = -32768",
        )

    def connect_reader(self) -> Connection:
        """A connection that cannot write."""
        return self._open("rw", "query_only = ON", "wal_autocheckpoint = 0", "cache_size = -8192")

    def connect_read_only(self) -> Connection:
        """A connection for looking at a file that somebody else may own; changes no byte of it."""
        return self._open("ro")

    def _open(self, mode: str, *pragmas: str) -> Connection:
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}",
            uri=True,
            timeout=self._busy_timeout_seconds,
            isolation_level=None,  # transactions are ours alone
            check_same_thread=False,  # a connection is used by one thread at a time, not always the same
            cached_statements=_STATEMENTS_KEPT,
            factory=self._factory,
        )
        try:
            for pragma in ("trusted_schema = OFF", *pragmas):
                connection.execute(f"PRAGMA {pragma}")
        except Error:  # a damaged file is found here, and left as it is
            connection.close()
            raise
        return connection
