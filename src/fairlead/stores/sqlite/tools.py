# SPDX-License-Identifier: Apache-2.0
"""What is done to a store from outside: check it, compact it, tell it that it was restored from a backup."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from fairlead.core.event import partition_of
from fairlead.drivers.sqlite.file import Connection, Error, SqliteFile, trouble_of
from fairlead.errors import StoreCorrupt, StoreError
from fairlead.stores.sqlite.opening import PARTITIONS, connect, prepare, recognise, unusable
from fairlead.stores.sqlite.queries import queries
from fairlead.stores.sqlite.reader import snapshot
from fairlead.stores.sqlite.rows import entry_of, progress_of

_SQL = queries("check")
_ACCESS = queries("access")
_SUBSCRIPTION = queries("subscription")
_CROSS_CHECKS = ("heads", "progress", "channels", "holds", "filters")
_BUSY_TIMEOUT_SECONDS = 5.0
_STEPS_PER_TICK = 200_000

StorePath = str | os.PathLike[str]


def restored(path: StorePath, now_ms: int, *, with_wal: bool = False) -> int:
    """Tell a store that it was restored from a backup: every subscription begins a new generation.

    Positions that were given after the backup will be given again, to other events; receivers take them for
    new only under a greater generation (design, section 4).

    Args:
        now_ms: Unix milliseconds; each generation becomes max(its own + 1, this).
        with_wal: the WAL beside the file was copied with it; without this there must be none.

    Returns:
        How many subscriptions there are.

    Raises:
        StoreLocked: a relay has it open; stop it first. StoreError: there is none, there is a WAL beside it
            that may be the former file's, or as `SqliteStore.open`.
    """
    with _owned(path, with_wal=with_wal) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_SUBSCRIPTION["raise_every_generation"], (now_ms,))
        connection.execute(_SUBSCRIPTION["adopt_generations"])
        count = connection.execute(_SUBSCRIPTION["count"]).fetchone()[0]
        connection.execute("COMMIT")
        return int(count)


def compact(path: StorePath, progress: Callable[[], None] | None = None) -> tuple[int, int]:
    """Give the room of deleted rows back to the disk; needs as much free room as the store takes.

    Args:
        progress: called several times a second while it runs.

    Returns:
        The file's size in bytes before and after.

    Raises:
        StoreLocked: a relay has it open; stop it first. StoreError: there is none, or no room.
    """
    with _owned(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = Path(path).stat().st_size
        if progress is not None:
            # Whatever a progress handler returns that is true would abort the statement.
            connection.set_progress_handler(lambda: progress() and None, _STEPS_PER_TICK)
        _vacuum(connection, path)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return before, Path(path).stat().st_size


def _vacuum(connection: Connection, path: StorePath) -> None:
    try:
        connection.execute("VACUUM")
    except Error as error:
        if trouble_of(error, connection) != "full":
            raise
        raise StoreError(
            f"{os.fspath(path)} cannot be compacted: that needs as much free room as the store takes; "
            "free some, or move the store to another disk"
        ) from error


def check(path: StorePath) -> list[str]:
    """Every damage of a store, one line each; empty when it is sound. Changes nothing; a relay may run.

    Raises:
        StoreForeign, StoreNewer: not a store that this Fairlead can judge. StoreError: there is none.
    """
    try:
        file = _file(path)
        _check_there(file)
        connection = file.connect_read_only()
        try:
            return damages(connection)
        finally:
            connection.close()
    except Error as error:
        return [f"{os.fspath(path)}: {error}"]
    except StoreCorrupt as corrupt:  # so much so that it cannot even be told what version it is of
        return [f"{os.fspath(path)}: {corrupt.__cause__}"]


def has_keys(path: StorePath) -> bool:
    """Whether a store holds an API key; not, if there is none. Changes nothing; a relay may run.

    Raises:
        StoreError: it cannot be told; as `check`, or it cannot be read now.
    """
    file = SqliteFile(path, busy_timeout_seconds=_BUSY_TIMEOUT_SECONDS)
    if not recognise(file):
        return False
    try:
        with closing(file.connect_read_only()) as connection:
            return connection.execute(_ACCESS["keys"]).fetchone() is not None
    except Error as error:
        raise unusable(path, error) from error


def damages(connection: Connection) -> list[str]:
    """Every damage found, one line each; empty when sound. Reads everything, in one snapshot."""
    searches = (_pages, _events, _relations, _done_ranges)
    with snapshot(connection):
        return [line for find in searches for line in _trying(find, connection)]


def _trying(find: Callable[[Connection], Iterator[str]], connection: Connection) -> Iterator[str]:
    """What one search finds, and where the damage stops it."""
    try:
        yield from find(connection)
    except Error as error:
        yield f"reading {find.__name__.strip('_').replace('_', ' ')}: {error}"


def _pages(connection: Connection) -> Iterator[str]:
    return (f"database: {line}" for (line,) in connection.execute("PRAGMA integrity_check") if line != "ok")


def _events(connection: Connection) -> Iterator[str]:
    partitions = connection.execute("SELECT count(*) FROM partition_head").fetchone()[0]
    for partition, *row in connection.execute(_SQL["events"]):
        try:
            entry = entry_of(partition, tuple(row))
        except StoreCorrupt:
            yield f"event {partition}:{row[0]}: does not hold what was written (digest)"
            continue
        if partition_of(entry.key, partitions) != partition:
            yield f"event {partition}:{row[0]}: its key {entry.key!r} belongs to another partition"


def _relations(connection: Connection) -> Iterator[str]:
    for name in _CROSS_CHECKS:
        for place, what in connection.execute(_SQL[name]):
            yield f"{place}: {what}"


def _done_ranges(connection: Connection) -> Iterator[str]:
    for place, low_water, scan_pos, stored in connection.execute(_SQL["ranges"]):
        try:
            done = progress_of(low_water, scan_pos, stored).done
        except StoreCorrupt:
            yield f"{place}: done_ranges cannot be read"
            continue
        edges = [low_water, *(edge for span in done for edge in span), scan_pos + 1]
        starts, ends = edges[1:-1:2], edges[2:-1:2]
        apart = all(start > before for before, start in zip(edges[::2], starts, strict=False))
        if not apart or any(first > last for first, last in done) or (ends and ends[-1] > scan_pos):
            yield f"{place}: done_ranges {list(done)} do not ascend between {low_water} and {scan_pos}"


@contextmanager
def _owned(path: StorePath, *, with_wal: bool = True) -> Iterator[Connection]:
    """A connection to a store that no relay has open."""
    file = _file(path)
    file.lock.take()
    try:
        if not with_wal:
            _check_no_wal(file.path)
        _check_there(file)
    except StoreError:
        file.lock.withdraw()
        raise
    try:
        connection = connect(file)
        try:
            prepare(connection, PARTITIONS)
            yield connection
        finally:
            connection.close()
    except Error as error:
        raise unusable(path, error) from error
    finally:
        file.lock.release()


def _file(path: StorePath) -> SqliteFile:
    return SqliteFile(path, busy_timeout_seconds=_BUSY_TIMEOUT_SECONDS)


def _check_there(file: SqliteFile) -> None:
    if not recognise(file):
        raise StoreError(f"{file.path}: there is no store")


def _check_no_wal(path: Path) -> None:
    """SQLite adds a sound WAL to whatever file it stands beside: nothing in it says whose it is."""
    wal = path.with_name(path.name + "-wal")
    if wal.exists() and wal.stat().st_size:
        raise StoreError(
            f"{wal} is not empty: if it belongs to the file before the backup, it would undo the restore or "
            f"damage the copy. Remove it and {path.name}-shm, put the copy back again, and run this again; "
            "or say --with-wal, if the backup was copied together with it"
        )
