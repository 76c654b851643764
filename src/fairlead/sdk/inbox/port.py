# SPDX-License-Identifier: Apache-2.0
"""The receiver's seam: the durable inbox (design, section 6; interface, section 11).

An inbox remembers, per channel, the newest (generation, epoch) and the floor, and per key the last position
applied. One transaction per delivery: `begin` takes the lock of the key first and reads after that; the lock
is held to `commit` or `rollback`. `fairlead.testing.inbox_contract` is the suite that every inbox passes
unchanged. All processes of a receiver share one inbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from fairlead.core.chain import Memory
from fairlead.core.channel import ChannelId
from fairlead.errors import InboxError


class Transaction(Protocol):
    """One delivery's hold on one key. A handler may write through it where the inbox lets it take part."""

    @property
    def fence(self) -> tuple[int, int]:
        """The newest (generation, epoch) of the channel; (0, 0) if it was never heard of."""

    @property
    def seq(self) -> int:
        """The last `flseq` of that epoch."""

    @property
    def floor(self) -> int:
        """Everything at or below is settled in that generation."""

    @property
    def applied(self) -> int:
        """The last position of the key applied in that generation; 0 for none."""

    def record(self, memory: Memory) -> None:
        """Say what `commit` shall store. Without it `commit` stores nothing of ours.

        A newer generation deletes every `applied` of the channel; a floor deletes those at or below it.
        """

    def commit(self) -> None:
        """Store what was recorded and what the handler wrote, all or nothing, on disk; let go of the key.

        Within a generation epoch, seq, floor and applied never go back, whatever was recorded.

        Raises:
            LockLost: the lock ran out, or the inbox holds a newer generation than the one recorded: nothing
                was stored.
            InboxError: the database would not take it; nothing was stored.
        """

    def rollback(self) -> None:
        """Store nothing and let go of the key. After `commit` or `rollback` it does nothing."""


class Inbox(Protocol):
    """A durable inbox. Methods block and are called from any thread."""

    def begin(self, channel: ChannelId, key: str | None) -> Transaction:
        """Take the lock of the key (None: a fence, which needs no key's lock), then read.

        Raises:
            InboxBusy: another delivery of the key held its lock for too long.
            InboxError: the database cannot be used now.
        """

    def close(self) -> None:
        """Let go of the database; idempotent."""


def memory_of(transaction: Transaction) -> Memory:
    """What a transaction read, as the pure rules want it."""
    generation, epoch = transaction.fence
    return Memory(generation, epoch, transaction.seq, transaction.floor, transaction.applied)


# -- several deliveries at once ----------------------------------------------------------------------------


@runtime_checkable
class Together(Protocol):
    """What an inbox may add to `Inbox`, to be quick: deliveries of keys that differ, in few transactions.

    A handler of one may fail without the others, and none is stored before `commit_all`.
    """

    def begin_all(self, wanted: Sequence[tuple[ChannelId, str | None]]) -> list[Transaction | InboxError]:
        """As `begin` for each, but without waiting for a key that is locked; errors in their places."""

    def handled(self, transaction: Transaction) -> None:
        """The handler of one of them has ended well, before that of the next begins. Raises as `commit`."""

    def waited_seconds(self, transaction: Transaction) -> float:
        """How long a handler of one of them has waited for other handlers that write."""

    def commit_all(self, transactions: Sequence[Transaction]) -> list[InboxError | None]:
        """As `commit` for each; errors in their places."""


class OneByOne:
    """`Together` of any inbox, by its own `begin` and `commit`; for one delivery at a time.

    Of two transactions of such an inbox one may wait for the other.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def begin_all(self, wanted: Sequence[tuple[ChannelId, str | None]]) -> list[Transaction | InboxError]:
        """See `Together.begin_all`, but that it waits for a key that is locked."""
        begun: list[Transaction | InboxError] = []
        for channel, key in wanted:
            try:
                begun.append(self._inbox.begin(channel, key))
            except InboxError as error:
                begun.append(error)
        return begun

    def handled(self, transaction: Transaction) -> None:
        """See `Together.handled`."""

    def waited_seconds(self, transaction: Transaction) -> float:
        """See `Together.waited_seconds`."""
        return 0.0

    def commit_all(self, transactions: Sequence[Transaction]) -> list[InboxError | None]:
        """See `Together.commit_all`."""
        errors: list[InboxError | None] = []
        for transaction in transactions:
            try:
                transaction.commit()
                errors.append(None)
            except InboxError as error:
                errors.append(error)
        return errors


def together(inbox: Inbox) -> Together:
    """How to take several deliveries at once with this inbox."""
    return inbox if isinstance(inbox, Together) else OneByOne(inbox)
