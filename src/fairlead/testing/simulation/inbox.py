# SPDX-License-Identifier: Apache-2.0
"""A receiver's inbox for the simulator: the statements of the library's SQLite inbox, without its threads."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from fairlead.core.chain import Memory
from fairlead.core.channel import ChannelId
from fairlead.drivers.sqlite.file import Connection
from fairlead.errors import InboxBusy, LockLost
from fairlead.sdk.inbox import tables
from fairlead.testing.simulation.disk import new_database

LEASE_SECONDS = 2.0

Effect = Callable[[], None]


class SimulatedInbox:
    """`sdk.inbox.port.Inbox` in memory; a claim is a lock row, as between the processes of a receiver.

    Args:
        now: Unix seconds.
        locking: False breaks the rule `key_lock`: no claim, and no look at the generation at the commit.
        snapshots: a transaction reads what was stored before it got its lock, as one does whose isolation is
            by snapshots and whose first statement waits for the lock: an inbox must not be such.
    """

    def __init__(self, now: Callable[[], float], *, locking: bool = True, snapshots: bool = False) -> None:
        self.connection: Connection = new_database()
        self.connection.executescript(tables.SCHEMA)
        self.locking = locking
        self.snapshots = snapshots
        self._now = now
        self._owners = count(1)

    def begin(
        self, channel: ChannelId, key: str | None, snapshot: Memory | None = None
    ) -> SimulatedTransaction:
        """See `Inbox.begin`; it reads what is stored now, or a snapshot of what was."""
        owner = f"owner-{next(self._owners)}"
        if (
            key is not None
            and self.locking
            and not tables.claim(
                self.connection, channel, key, owner, now=self._now(), lease_seconds=LEASE_SECONDS
            )
        ):
            raise InboxBusy(f"{key!r} is being handled")
        held = tables.read(self.connection, channel, key) if snapshot is None else snapshot
        return SimulatedTransaction(self, channel, key, owner, held)

    def close(self) -> None:
        """See `Inbox.close`."""
        self.connection.close()


class SimulatedTransaction:
    """One delivery's; what the handler does with `effect` happens at the commit, or not at all."""

    def __init__(
        self, inbox: SimulatedInbox, channel: ChannelId, key: str | None, owner: str, held: Memory
    ) -> None:
        self._inbox = inbox
        self._channel, self._key, self._owner = channel, key, owner
        self._held = held
        self._record: Memory | None = None
        self._effects: list[Effect] = []
        self._ended = False

    @property
    def fence(self) -> tuple[int, int]:
        """See `Transaction.fence`."""
        return self._held.generation, self._held.epoch

    @property
    def seq(self) -> int:
        """See `Transaction.seq`."""
        return self._held.seq

    @property
    def floor(self) -> int:
        """See `Transaction.floor`."""
        return self._held.floor

    @property
    def applied(self) -> int:
        """See `Transaction.applied`."""
        return self._held.applied

    def effect(self, effect: Effect) -> None:
        """What the handler wants done in this transaction."""
        self._effects.append(effect)

    def record(self, memory: Memory) -> None:
        """See `Transaction.record`."""
        self._record = memory

    def commit(self) -> None:
        """See `Transaction.commit`."""
        inbox, connection = self._inbox, self._inbox.connection
        try:
            if self._record is not None:
                if inbox.locking:
                    self._check(connection)
                connection.execute("BEGIN")
                tables.write(connection, self._channel, self._key, self._record)
                connection.execute("COMMIT")
            for effect in self._effects:
                effect()
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self.rollback()

    def _check(self, connection: Connection) -> None:
        if self._key is not None and not tables.owns(connection, self._channel, self._key, self._owner):
            raise LockLost(f"the lock of {self._key!r} ran out while it was handled")
        generation = tables.read(connection, self._channel, None).generation
        if self._record is not None and generation > self._record.generation:
            raise LockLost(f"generation {generation} began while {self._key!r} was handled")

    def abandon(self) -> None:
        """The process died: nothing is stored, and the lock row stays until it runs out."""
        self._ended = True

    def rollback(self) -> None:
        """See `Transaction.rollback`."""
        if not self._ended:
            self._ended = True
            if self._key is not None:
                tables.release(self._inbox.connection, self._channel, self._key, self._owner)
