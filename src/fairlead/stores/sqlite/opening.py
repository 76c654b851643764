# SPDX-License-Identifier: Apache-2.0
"""From a path to a database that is ours, of this version, with its schema and the rows every store has."""

from __future__ import annotations

import os

from fairlead.drivers.sqlite.file import APPLICATION_ID, Connection, Error, SqliteFile
from fairlead.drivers.sqlite.refusal import refusal
from fairlead.errors import StoreCorrupt, StoreError, StoreForeign, StoreNewer
from fairlead.stores.sqlite.queries import migrate, newest_version, queries

PARTITIONS = 8
"""How many partitions a new SQLite store gets."""

_SQL = queries("access")


def connect(file: SqliteFile) -> Connection:
    """A connection that writes, to a file that is new or ours; its lock is the caller's.

    Raises:
        StoreForeign, StoreNewer: as `recognise`. StoreError: it cannot be made.
    """
    if not recognise(file):
        file.create(APPLICATION_ID)
    return file.connect()


def recognise(file: SqliteFile) -> bool:
    """Whether the file is there, ours, and of a version that this Fairlead knows; changes no byte of it.

    Raises:
        StoreForeign: somebody else's. StoreNewer: a newer Fairlead's. StoreError: it cannot be read.
    """
    identity = file.identify()
    if identity is None:
        return False
    if identity.application_id != APPLICATION_ID:
        raise StoreForeign(
            f"{file.path} is not a Fairlead store: it is another program's SQLite database; name another file"
        )
    looking = file.connect_read_only()
    try:
        version = looking.execute("PRAGMA user_version").fetchone()[0]  # the WAL may be ahead of the header
    except Error as error:
        raise unusable(file.path, error) from error
    finally:
        looking.close()
    if max(version, identity.version) > newest_version():
        raise StoreNewer(
            f"{file.path} was written by a newer Fairlead (schema {version}, this one knows "
            f"{newest_version()}); "
            "start that version, or restore a backup from before the upgrade"
        )
    return True


def prepare(connection: Connection, partitions: int) -> None:
    """Bring the schema up to date and make sure of the rows that every store has."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version < newest_version():
        migrate(connection, version)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(_SQL["put_setting"], ("partitions", str(partitions)))
    fixed = int(connection.execute(_SQL["setting"], ("partitions",)).fetchone()[0])
    for partition in range(fixed):
        connection.execute(_SQL["insert_head"], (partition,))
        connection.execute(_SQL["insert_lease"], (partition,))
    connection.execute("COMMIT")


def unusable(path: str | os.PathLike[str], error: Error) -> StoreError:
    """What an error of SQLite means for somebody who opens a store."""
    return refusal(path, error) or StoreCorrupt(
        f"{os.fspath(path)} cannot be read: {error}; run `fairlead store check`, or restore a backup"
    )
