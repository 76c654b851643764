# SPDX-License-Identifier: Apache-2.0
"""The publisher's durable outbox: one SQLite file that several processes may share (interface, section 11).

Events leave in the order in which they were stored. What the relay refused for good moves to the refused
table.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from fairlead.core.event import Event
from fairlead.drivers.green import off_hub, system_lock
from fairlead.drivers.sqlite.fork import ForkedFile, Synchronous
from fairlead.drivers.sqlite.local import Connection, SqliteError, is_full, open_local, transaction
from fairlead.drivers.sqlite.room import Room
from fairlead.errors import OutboxError, OutboxFull, StoreError
from fairlead.sdk.publishing.records import (
    Decided,
    Decision,
    OutboxStatus,
    Receipt,
    RefusedEvent,
    Waiting,
    decision_of,
    decision_row,
    lost_of,
    problem_json,
    refused_of,
)

TABLE, VERSION = "fairlead_outbox", 2
SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, source TEXT NOT NULL, body BLOB NOT NULL,
    awaited INTEGER NOT NULL, stored_at REAL NOT NULL);

CREATE TABLE IF NOT EXISTS refused (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, source TEXT NOT NULL, body BLOB NOT NULL,
    problem BLOB NOT NULL, refused_at REAL NOT NULL);

CREATE TABLE IF NOT EXISTS receipt (
    seq INTEGER PRIMARY KEY, partition INTEGER, position INTEGER, duplicate INTEGER,
    problem BLOB, at REAL NOT NULL);

CREATE TABLE IF NOT EXISTS lost (count INTEGER NOT NULL, last_at REAL NOT NULL, reason TEXT NOT NULL);

CREATE TABLE IF NOT EXISTS size (bytes INTEGER NOT NULL);

INSERT INTO size SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM size);

CREATE TRIGGER IF NOT EXISTS event_in AFTER INSERT ON event
BEGIN UPDATE size SET bytes = bytes + length(NEW.body); END;

CREATE TRIGGER IF NOT EXISTS event_out AFTER DELETE ON event
BEGIN UPDATE size SET bytes = bytes - length(OLD.body); END;

CREATE TRIGGER IF NOT EXISTS refused_in AFTER INSERT ON refused
BEGIN UPDATE size SET bytes = bytes + length(NEW.body); END;

CREATE TRIGGER IF NOT EXISTS refused_out AFTER DELETE ON refused
BEGIN UPDATE size SET bytes = bytes - length(OLD.body); END
"""

DISK_RESERVE_BYTES = 8 * 1024 * 1024
"""What `append` leaves of the disk: the WAL of a batch that is let go of, twice."""

REMEDY = "Is the relay reachable (status().last_error)"
_RECEIPTS_KEPT_SECONDS = 3600.0


class Outbox:
    """The open outbox of one process; methods block and may be called from any thread.

    Under eventlet only the calling greenlet waits.

    Every method raises OutboxError when the file cannot be used, OutboxFull when its disk is full; what it
    was to store is then not stored.
    """

    def __init__(self, path: str | os.PathLike[str], max_bytes: int) -> None:
        self.path, self.max_bytes = str(Path(path).absolute()), max_bytes
        self._file = ForkedFile(self.path, system_lock(), self._open)
        with self._file.held():
            self._file.connection()

    def _open(self, synchronous: Synchronous) -> Connection:
        connection = open_local(self.path, SCHEMA, name=TABLE, version=VERSION, synchronous=synchronous)
        self._room = Room(self.path)  # the WAL goes with the last connection: before a fork, say
        return connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with self._file.held():
                yield self._file.connection()
        except StoreError as error:
            raise OutboxError(str(error)) from error
        except OSError as error:
            raise OutboxError(
                f"{self.path}: {error.strerror}; see that the file is there, and start this process anew"
            ) from error
        except SqliteError as error:
            if is_full(error, self.path):
                raise OutboxFull(f"the disk of {self.path} is full; free some room there") from error
            raise OutboxError(f"{self.path}: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._reading() as connection:
            if self._room.free_bytes(connection) < 2 * DISK_RESERVE_BYTES:
                # The WAL begins anew then, in the room that it has: what goes out needs no more, should
                # others eat the reserve. If they have, what comes back is the database's before the WAL's.
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            with transaction(connection):
                yield connection

    # -- in --------------------------------------------------------------------------------------------

    @off_hub
    def append(self, events: Sequence[tuple[Event, bytes, bool]]) -> list[int | OutboxFull]:
        """Store events, with their JSON and whether somebody awaits their receipt, in one commit, on disk.

        Returns per event its number, or why there is no room for it: the disk keeps its reserve.
        """
        with self._writing() as connection:
            (size,) = connection.execute("SELECT bytes FROM size").fetchone()
            room = self._room.free_bytes(connection) - DISK_RESERVE_BYTES
            results: list[int | OutboxFull] = []
            for event, body, awaited in events:
                if (full := self._full(size, len(body), room)) is not None:
                    results.append(full)
                    continue
                size, room = size + len(body), room - 2 * len(body)
                row = (event.id, event.source, body, awaited, time.time())
                sql = "INSERT INTO event (id, source, body, awaited, stored_at) VALUES (?, ?, ?, ?, ?)"
                results.append(connection.execute(sql, row).lastrowid or 0)
        return results

    def _full(self, size: int, wanted: int, room: int) -> OutboxFull | None:
        if size + wanted > self.max_bytes:
            what = f"{self.path} holds {size} bytes and the event has {wanted}; max_bytes is {self.max_bytes}"
            return OutboxFull(f"{what}. {REMEDY}, or are there refused events to discard?")
        if 2 * wanted > room:  # it takes its room in the WAL first
            kept = f"{DISK_RESERVE_BYTES // 1024**2} MiB, kept for what goes out"
            return OutboxFull(f"the disk of {self.path} is full but for {kept}; free some room. {REMEDY}?")
        return None

    # -- out -------------------------------------------------------------------------------------------

    @off_hub
    def head(self, max_events: int, max_bytes: int) -> list[Waiting]:
        """The oldest events, at most so many and so big, but one at least if there is any."""
        rows: list[Waiting] = []
        total = 0
        with self._reading() as connection:
            sql = "SELECT seq, id, source, body, awaited FROM event ORDER BY seq LIMIT ?"
            for seq, id, source, body, awaited in connection.execute(sql, (max_events,)):
                total += len(body) + 1
                if rows and total > max_bytes:
                    break
                rows.append(Waiting(seq, id, source, body, bool(awaited)))
        return rows

    @off_hub
    def settle(self, decided: Sequence[Decided]) -> int:
        """Let go of what the relay accepted, and set aside what it refused, in one commit.

        On a disk without room for all of them only the first ones, as many as it has room for.

        Returns:
            How many, at least one. Their receipts are kept for whoever awaits them, in whichever process, for
            an hour.

        Raises:
            OutboxFull: there is no room for even one.
        """
        count = len(decided)
        while True:
            try:
                self._settle(decided[:count])
                return count
            except OutboxFull:
                if count == 1:
                    raise
            count //= 2

    def _settle(self, decided: Sequence[Decided]) -> None:
        now = time.time()
        gone = [(row.seq,) for row, decision in decided if isinstance(decision, Receipt)]
        refused = [(row, problem) for row, problem in decided if not isinstance(problem, Receipt)]
        receipts = [(row.seq, *decision_row(decision), now) for row, decision in decided if row.awaited]
        with self._writing() as connection:
            connection.executemany("DELETE FROM event WHERE seq = ?", gone)
            for row, problem in refused:
                # Once: whoever forwarded before, and lost its turn, may have set it aside already.
                if connection.execute("DELETE FROM event WHERE seq = ?", (row.seq,)).rowcount:
                    aside = (row.seq, row.id, row.source, row.body, problem_json(problem), now)
                    connection.execute("INSERT INTO refused VALUES (?, ?, ?, ?, ?, ?)", aside)
            connection.executemany("INSERT OR REPLACE INTO receipt VALUES (?, ?, ?, ?, ?, ?)", receipts)
            connection.execute("DELETE FROM receipt WHERE at < ?", (now - _RECEIPTS_KEPT_SECONDS,))

    @off_hub
    def receipts(self, seqs: Sequence[int]) -> dict[int, Decision]:
        """What became of awaited events, as far as it is known."""
        sql = """SELECT seq, partition, position, duplicate, problem FROM receipt
                 WHERE seq IN (SELECT value FROM json_each(?))"""
        with self._reading() as connection:
            rows = connection.execute(sql, (msgspec.json.encode(list(seqs)).decode(),)).fetchall()
        return {seq: decision_of(*row) for seq, *row in rows}

    # -- what is in it ---------------------------------------------------------------------------------

    @off_hub
    def last_seq(self) -> int:
        """The number of the newest waiting event; 0 if none waits."""
        with self._reading() as connection:
            return int(connection.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()[0])

    @off_hub
    def left(self, up_to_seq: int) -> int:
        """How many events up to a number still wait."""
        with self._reading() as connection:
            sql = "SELECT count(*) FROM event WHERE seq <= ?"
            return int(connection.execute(sql, (up_to_seq,)).fetchone()[0])

    @off_hub
    def status(self, last_error: str | None = None) -> OutboxStatus:
        """How it stands."""
        with self._reading() as connection:
            waiting, oldest = connection.execute("SELECT count(*), min(stored_at) FROM event").fetchone()
            (refused,) = connection.execute("SELECT count(*) FROM refused").fetchone()
            (size,) = connection.execute("SELECT bytes FROM size").fetchone()
            lost = connection.execute("SELECT count, last_at, reason FROM lost").fetchone()
        since = None if oldest is None else datetime.fromtimestamp(oldest, UTC)
        return OutboxStatus(
            waiting, refused, since, size, last_error, None if lost is None else lost_of(*lost)
        )

    @off_hub
    def refused(self) -> list[RefusedEvent]:
        """Every refused event, in the order in which they were published."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT seq, body, problem, refused_at FROM refused ORDER BY seq"
            ).fetchall()
        return [refused_of(*row) for row in rows]

    @off_hub
    def retry_refused(self, id: int) -> bool:
        """Publish a refused event again, as the newest; False if there is none of that number."""
        sql = """INSERT INTO event (id, source, body, awaited, stored_at)
                 SELECT id, source, body, 0, ? FROM refused WHERE seq = ?"""
        with self._writing() as connection:
            found = connection.execute(sql, (time.time(), id)).rowcount == 1
            connection.execute("DELETE FROM refused WHERE seq = ?", (id,))
        return found

    @off_hub
    def discard_refused(self, id: int) -> bool:
        """Delete a refused event; False if there is none of that number."""
        with self._writing() as connection:
            return connection.execute("DELETE FROM refused WHERE seq = ?", (id,)).rowcount == 1

    @off_hub
    def note_lost(self, count: int, reason: str) -> None:
        """Add to the number of events that were not stored, for those who look at the file."""
        now = time.time()
        with self._writing() as connection:
            changed = connection.execute(
                "UPDATE lost SET count = count + ?, last_at = ?, reason = ?", (count, now, reason)
            )
            if changed.rowcount == 0:
                connection.execute("INSERT INTO lost VALUES (?, ?, ?)", (count, now, reason))

    # -- the end ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the file; idempotent."""
        try:
            self._file.close()
        except StoreError as error:
            raise OutboxError(str(error)) from error
