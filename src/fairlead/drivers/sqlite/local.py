# SPDX-License-Identifier: Apache-2.0
"""Small SQLite files that several processes share: the publisher's outbox and the receiver's inbox.

Connections are in autocommit; `transaction` opens and ends one. They may go from thread to thread, one at a
time, but not through a fork: see `ForkedFile`.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairlead.drivers.sqlite.file import APPLICATION_ID, trouble_of
from fairlead.drivers.sqlite.fork import Synchronous, torn
from fairlead.drivers.sqlite.refusal import refusal
from fairlead.drivers.sqlite.room import is_used_up
from fairlead.errors import StoreCorrupt, StoreError, StoreForeign, StoreNewer

Connection = sqlite3.Connection
Cursor = sqlite3.Cursor
SqliteError = sqlite3.Error
Value = str | int | float | bytes | None

_KINDS = {"fairlead_inbox": "a receiver's inbox", "fairlead_outbox": "a publisher's outbox"}


def open_local(
    path: str | os.PathLike[str],
    schema: str,
    *,
    name: str,
    version: int,
    synchronous: Synchronous = "FULL",
    busy_timeout_seconds: float = 10.0,
) -> Connection:
    """Open a file in WAL mode, readable by its owner only, and lay out our tables if they are not there.

    Args:
        schema: statements that create what is missing (`IF NOT EXISTS`), also in a file of an older version.
        name: the table with our version, for example `fairlead_inbox`; the file may hold tables of others.
        synchronous: FULL: a commit is on disk when it returns; NORMAL: the last may be lost with the power.

    Raises:
        StoreLocked: another process keeps it locked. StoreError: no room on the disk, or no permission; or
            this process was forked during a transaction there.
        StoreForeign: it is no SQLite database, has tables that only look like ours, or is another of our own
            files: a relay's store, an outbox, an inbox; it is left as it is. StoreCorrupt: damaged.
        StoreNewer: our tables were made by a newer Fairlead.
    """
    file = Path(path)
    if (refused := torn(file)) is not None:
        raise StoreError(refused)
    try:
        file.touch(mode=0o600, exist_ok=True)
        connection = sqlite3.connect(
            file, timeout=busy_timeout_seconds, isolation_level=None, check_same_thread=False
        )
    except (SqliteError, OSError) as error:
        raise _unusable(file, error) from error
    try:
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA foreign_keys=ON")
        if sys.platform == "darwin":
            connection.execute("PRAGMA fullfsync=ON")
        _refuse_another(connection, file, name)
        _enter_wal(connection, time.monotonic() + busy_timeout_seconds)
        _lay_out(connection, file, schema, name, version)
    except BaseException as error:
        connection.close()
        if isinstance(error, SqliteError):
            raise _unusable(file, error) from error
        raise
    return connection


def _unusable(file: Path, error: SqliteError | OSError) -> StoreError:
    """What an error means for somebody who opens a file."""
    if (refused := refusal(file, error)) is not None:
        return refused
    if trouble_of(error) == "broken" and getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_NOTADB:
        return StoreCorrupt(
            f"{file} cannot be read: {error}; restore a backup, or move it away to begin with a new one"
        )
    return StoreForeign(f"{file} cannot be opened as a Fairlead file: {error}; name another file")


def _refuse_another(connection: Connection, file: Path, name: str) -> None:
    """One file for each of us: who owns it would prune, compact, move and lock it as its own."""
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    kinds = ["a relay's store"] if mark == APPLICATION_ID else []
    kinds += [kind for table, kind in _KINDS.items() if table != name and _version(connection, table)]
    if kinds:
        raise StoreForeign(f"{file} is {kinds[0]}; name another file for {_KINDS[name]}")


def _enter_wal(connection: Connection, deadline: float) -> None:
    """Switch to WAL; SQLite does not wait by itself when another process switches at the same moment."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _lay_out(connection: Connection, file: Path, schema: str, name: str, version: int) -> None:
    found = _version(connection, name)
    if found < version:
        with transaction(connection):
            connection.execute(f"CREATE TABLE IF NOT EXISTS {name} (version INTEGER NOT NULL)")
            found = max(version, _version(connection, name))  # of two processes the newer may have been first
            for statement in filter(str.strip, schema.split(";\n\n")):
                connection.execute(statement)
            connection.execute(f"DELETE FROM {name}")  # noqa: S608  # our name
            connection.execute(f"INSERT INTO {name} VALUES (?)", (found,))  # noqa: S608
    if found > version:
        raise StoreNewer(f"{file}: {name} has version {found}; this Fairlead knows {version}: upgrade it")


def _version(connection: Connection, name: str) -> int:
    """The version of our tables in a file; 0 where there are none."""
    there = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    if connection.execute(there, (name,)).fetchone() is None:
        return 0
    row = connection.execute(f"SELECT version FROM {name}").fetchone()  # noqa: S608  # our name
    return 0 if row is None else int(row[0])


@contextmanager
def transaction(connection: Connection) -> Iterator[Connection]:
    """Run the block in one `BEGIN IMMEDIATE` transaction: committed at its end, rolled back if it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def is_busy(error: BaseException) -> bool:
    """Whether an error only says that another process holds the file's lock."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, sqlite3.OperationalError) and code in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    )


def is_full(error: BaseException, path: str | os.PathLike[str]) -> bool:
    """Whether an error says that the disk of a file is full, or a quota there used up."""
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_WRITE:
        return is_used_up(path)
    return trouble_of(error) == "full"
