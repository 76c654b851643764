# SPDX-License-Identifier: Apache-2.0
"""The tables of the SQLite inbox and the statements on them; locks and threads are in `sqlite_inbox`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from fairlead.core.chain import Memory
from fairlead.core.channel import ChannelId
from fairlead.drivers.sqlite.local import Connection
from fairlead.errors import LockLost

TABLE, VERSION = "fairlead_inbox", 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS fairlead_channel (
    subscription TEXT NOT NULL, partition INTEGER NOT NULL,
    generation INTEGER NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, floor INTEGER NOT NULL,
    PRIMARY KEY (subscription, partition)) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS fairlead_applied (
    subscription TEXT NOT NULL, partition INTEGER NOT NULL, key TEXT NOT NULL, pos INTEGER NOT NULL,
    PRIMARY KEY (subscription, partition, key)) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS fairlead_applied_pos ON fairlead_applied (subscription, partition, pos);

CREATE TABLE IF NOT EXISTS fairlead_claim (
    subscription TEXT NOT NULL, partition INTEGER NOT NULL, key TEXT NOT NULL,
    owner TEXT NOT NULL, expires_at REAL NOT NULL,
    PRIMARY KEY (subscription, partition, key)) WITHOUT ROWID
"""

_READ = """
SELECT generation, epoch, seq, floor, pos FROM fairlead_channel c
LEFT JOIN fairlead_applied a ON a.subscription = c.subscription AND a.partition = c.partition AND a.key = ?
WHERE c.subscription = ? AND c.partition = ?
"""
_CLAIM = """
INSERT INTO fairlead_claim VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at
WHERE expires_at <= ? OR expires_at > ?
"""
_OWNER = "SELECT owner FROM fairlead_claim WHERE subscription = ? AND partition = ? AND key = ?"
_RELEASE = "DELETE FROM fairlead_claim WHERE subscription = ? AND partition = ? AND key = ? AND owner = ?"
_RENEW = "UPDATE fairlead_claim SET expires_at = ? WHERE owner = ?"
_PUT_CHANNEL = """
INSERT INTO fairlead_channel VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
generation = excluded.generation, epoch = excluded.epoch, seq = excluded.seq, floor = excluded.floor
"""
_PUT_APPLIED = "INSERT INTO fairlead_applied VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET pos = excluded.pos"
_FORGET = "DELETE FROM fairlead_applied WHERE subscription = ? AND partition = ? AND pos <= ?"
_FORGET_ALL = "DELETE FROM fairlead_applied WHERE subscription = ? AND partition = ?"


def read(connection: Connection, channel: ChannelId, key: str | None) -> Memory:
    """What the file holds of a channel and a key of it."""
    row = connection.execute(_READ, (key, *channel)).fetchone()
    if row is None:
        return Memory()
    generation, epoch, seq, floor, applied = row
    return Memory(generation, epoch, seq, floor, applied or 0)


def claim(
    connection: Connection, channel: ChannelId, key: str, owner: str, *, now: float, lease_seconds: float
) -> bool:
    """Take the lock row of a key for `lease_seconds` of wall time, if it is free or has run out.

    A row that would hold for more than two leases was written before the clock was set back: it has run out.
    """
    cursor = connection.execute(
        _CLAIM, (*channel, key, owner, now + lease_seconds, now, now + 2 * lease_seconds)
    )
    return cursor.rowcount == 1


def release(connection: Connection, channel: ChannelId, key: str, owner: str) -> bool:
    """Delete the lock row of a key, if it is this owner's; whether it was."""
    return connection.execute(_RELEASE, (*channel, key, owner)).rowcount == 1


def renew(connection: Connection, owners: Iterable[str], until: float) -> None:
    """Let the lock rows of some deliveries hold until a Unix time."""
    connection.executemany(_RENEW, [(until, owner) for owner in owners])


def owns(connection: Connection, channel: ChannelId, key: str, owner: str) -> bool:
    """Whether the lock row of a key is still this owner's."""
    row = connection.execute(_OWNER, (*channel, key)).fetchone()
    return row is not None and row[0] == owner


class Place(NamedTuple):
    """What one delivery has of the file.

    Attributes:
        owner: of the key's lock row; made up for the delivery.
    """

    channel: ChannelId
    key: str | None
    owner: str


def let_go(connection: Connection, place: Place) -> None:
    """Free the key of a delivery, if it has one."""
    if place.key is not None:
        release(connection, place.channel, place.key, place.owner)


def check(connection: Connection, place: Place, generation: int) -> None:
    """A delivery still has its lock row, and its generation is not over; else LockLost."""
    channel, key, owner = place
    _newest(read(connection, channel, None), generation)
    if key is not None and not owns(connection, channel, key, owner):
        raise _lost(key)


def write(connection: Connection, channel: ChannelId, key: str | None, memory: Memory) -> None:
    """Store what a delivery recorded; the caller's transaction is open and immediate.

    Raises:
        LockLost: the file holds a newer generation; nothing was written.
    """
    held = read(connection, channel, key)
    _newest(held, memory.generation)
    _put(connection, channel, key, held, memory)


def finish(connection: Connection, place: Place, memory: Memory) -> None:
    """As `write`, and free the key, whose lock row must still be its owner's. Raises as `check`."""
    channel, key, owner = place
    held = read(connection, channel, key)
    _newest(held, memory.generation)
    if key is not None and not release(connection, channel, key, owner):
        raise _lost(key)
    _put(connection, channel, key, held, memory)


def _put(connection: Connection, channel: ChannelId, key: str | None, held: Memory, memory: Memory) -> None:
    if held.generation == memory.generation:
        memory = _risen(held, memory)
    if replace(memory, applied=held.applied) != held:
        row = (*channel, memory.generation, memory.epoch, memory.seq, memory.floor)
        connection.execute(_PUT_CHANNEL, row)
    if held.generation < memory.generation:
        connection.execute(_FORGET_ALL, channel)
        held = Memory()
    elif memory.floor > held.floor:
        connection.execute(_FORGET, (*channel, memory.floor))
    if key is not None and memory.applied > max(memory.floor, held.applied):
        connection.execute(_PUT_APPLIED, (*channel, key, memory.applied))


def _newest(held: Memory, generation: int) -> None:
    if held.generation > generation:
        raise LockLost(f"generation {held.generation} began while {generation} was handled")


def _lost(key: str) -> LockLost:
    return LockLost(f"the lock of {key!r} ran out while it was handled")


def _risen(held: Memory, memory: Memory) -> Memory:
    """Within one generation nothing goes back: another key's delivery may have come further meanwhile."""
    epoch, seq = max((held.epoch, held.seq), (memory.epoch, memory.seq))
    return replace(
        memory,
        epoch=epoch,
        seq=seq,
        floor=max(held.floor, memory.floor),
        applied=max(held.applied, memory.applied),
    )
