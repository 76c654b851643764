# SPDX-License-Identifier: Apache-2.0
"""Channels on SQLite, as their owner uses them: `fairlead.ports.Channels`.

Every write of an owner names its fence, and one that is not the store's writes nothing. What changes a
channel from outside (replay, release, skip, retention) is in `replay.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fairlead.core.channel import (
    ChannelFlush,
    ChannelId,
    ChannelState,
    Fence,
    FilterRevision,
    HoldRow,
    HoldState,
    ReplayFrom,
    Skip,
    SkipRow,
)
from fairlead.core.subscription import Subscription
from fairlead.drivers.sqlite.file import Connection
from fairlead.errors import Fenced, LeaseLost
from fairlead.stores.sqlite import attempts as sqlite_attempts
from fairlead.stores.sqlite import replay as sqlite_replay
from fairlead.stores.sqlite.jobs import Transaction
from fairlead.stores.sqlite.queries import queries
from fairlead.stores.sqlite.reader import Reader, snapshot
from fairlead.stores.sqlite.rows import Row, encode, hold_of, hold_row, progress_of, skip_of, skip_row
from fairlead.stores.sqlite.writer import Writer

_SQL = queries("channel")
_LAST = (1 << 62, -1, -1)


class SqliteChannels:
    """Progress, holds, skips and fences.

    Args:
        pages: the reader of what deliveries wait for; `lists` that of what people ask for.
        now: Unix seconds, for `switched_at` and the node's row.
    """

    def __init__(self, writer: Writer, *, pages: Reader, lists: Reader, now: Callable[[], float]) -> None:
        self._writer = writer
        self._pages = pages
        self._lists = lists
        self._now = now
        self._owner: str | None = None

    # -- the owner -------------------------------------------------------------------------------------

    async def take_all(self, owner: str) -> list[ChannelState]:
        now = self._now()

        def take(transaction: Transaction) -> list[ChannelState]:
            transaction.execute(_SQL["take_leases"], (owner,))
            transaction.execute(_SQL["raise_all_epochs"])
            transaction.execute(_SQL["put_node"], (owner, now))
            channels = [ChannelId(*row) for row in transaction.execute(_SQL["channels"]).fetchall()]
            return [
                state for channel in channels if (state := _state(transaction.connection, channel, owner))
            ]

        states = await self._writer.write(take)
        self._owner = owner
        return states

    async def load(self, channel: ChannelId) -> ChannelState | None:
        owner = self._owner

        def read(connection: Connection) -> ChannelState | None:
            with snapshot(connection):
                return _state(connection, channel, owner)

        return await self._pages.run(read)

    async def flush(self, flushes: Sequence[ChannelFlush]) -> list[Fence | Exception]:
        # No savepoints: a fence is checked before anything of its flush is written.
        owner = self._owner
        return await self._writer.write(
            lambda transaction: _flush(transaction, flushes, owner), guarded=False
        )

    async def fence(
        self, fence: Fence, *, at_least: int = 0, target: int | None = None, reason: str = ""
    ) -> Fence:
        now, owner = self._now(), self._owner
        raised = replace(
            fence,
            epoch=max(fence.epoch + 1, at_least),
            target=fence.target if target is None else target,
        )

        def write(transaction: Transaction) -> Fence:
            if (refusal := _refusal(transaction, fence, owner)) is not None:
                raise refusal
            transaction.execute(
                _SQL["raise_fence"],
                {
                    **_named(fence.channel),
                    "epoch": raised.epoch,
                    "target": raised.target,
                    "reason": reason or None,
                    "now": now,
                },
            )
            return raised

        return await self._writer.write(write, guarded=False)

    # -- from outside ----------------------------------------------------------------------------------

    async def replay(
        self,
        subscription: str,
        starts: Sequence[ReplayFrom],
        now_ms: int,
        replacement: Subscription | None = None,
    ) -> dict[int, Fence]:
        return await self._writer.write(
            lambda transaction: sqlite_replay.replay(transaction, subscription, starts, now_ms, replacement)
        )

    async def release(
        self, channel: ChannelId, keys: Sequence[str] | None, state: HoldState | None, now: float
    ) -> int:
        return await self._writer.write(
            lambda transaction: sqlite_replay.release(transaction, channel, keys, state, now)
        )

    async def skip(self, channel: ChannelId, skip: Skip, head_pos: int, now: float) -> bool:
        return await self._writer.write(
            lambda transaction: sqlite_replay.skip(transaction, channel, skip, head_pos, now)
        )

    async def expire(
        self, skips: Mapping[ChannelId, Sequence[Skip]], partition: int, positions: Sequence[int]
    ) -> int:
        return await self._writer.write(
            lambda transaction: sqlite_replay.expire(transaction, skips, partition, positions)
        )

    # -- lists -----------------------------------------------------------------------------------------

    async def holds(
        self, subscription: str, state: HoldState | None, after: tuple[int, str] | None, limit: int
    ) -> list[HoldRow]:
        partition, key = after or (-1, "")
        arguments = {
            "subscription": subscription,
            "state": state,
            "partition": partition,
            "key": key,
            "limit": limit,
        }
        return await self._lists.run(
            lambda connection: [
                HoldRow(ChannelId(subscription, row[0]), hold_of(row[1:-1]), row[-1])
                for row in connection.execute(_SQL["list_holds"], arguments)
            ]
        )

    async def count_holds(self, subscription: str) -> dict[HoldState, int]:
        return await self._lists.run(
            lambda connection: dict(connection.execute(_SQL["count_holds"], (subscription,)).fetchall())
        )

    async def count_waiting(self, subscription: str, most: int) -> int:
        arguments = {"subscription": subscription, "most": most}
        return await self._lists.run(
            lambda connection: int(connection.execute(_SQL["count_waiting"], arguments).fetchone()[0])
        )

    async def skips(self, subscription: str, after: tuple[int, int, int] | None, limit: int) -> list[SkipRow]:
        generation, partition, pos = after or _LAST
        arguments = {
            "subscription": subscription,
            "generation": generation,
            "partition": partition,
            "pos": pos,
            "limit": limit,
        }
        return await self._lists.run(
            lambda connection: [
                SkipRow(ChannelId(subscription, row[1]), row[0], skip_of(row[2:]))
                for row in connection.execute(_SQL["list_skips"], arguments)
            ]
        )

    async def count_skips(self, subscription: str) -> int:
        return await self._lists.run(
            lambda connection: int(connection.execute(_SQL["count_skips"], (subscription,)).fetchone()[0])
        )

    async def skipped_before(
        self, channel: ChannelId, generation: int, key: str, below: int, limit: int
    ) -> list[int]:
        arguments = (channel.subscription, generation, channel.partition, key, below, limit)
        return await self._pages.run(
            lambda connection: [row[0] for row in connection.execute(_SQL["skipped_before"], arguments)]
        )


def _state(connection: Connection, channel: ChannelId, owner: str | None) -> ChannelState | None:
    """All that the store knows of one channel; None if it is gone.

    Raises:
        LeaseLost: `owner` does not own the partition.
    """
    row = connection.execute(_SQL["state"], channel).fetchone()
    if row is None:
        return None
    holder, lease, generation, epoch, target, reason, switched_at, low_water, scan_pos, done_ranges = row
    if owner is None or holder != owner:
        raise LeaseLost(f"partition {channel.partition} belongs to {holder!r}, not to {owner!r}")
    skipped = connection.execute(_SQL["skipped_keys"], (channel.subscription, generation, channel.partition))
    return ChannelState(
        fence=Fence(channel, lease, generation, epoch, target),
        progress=progress_of(low_water, scan_pos, done_ranges),
        holds=tuple(map(hold_of, connection.execute(_SQL["holds"], channel))),
        filters=tuple(FilterRevision(*found) for found in connection.execute(_SQL["filters"], channel)),
        skipped=frozenset(key for (key,) in skipped),
        reason=reason,
        switched_at=switched_at,
    )


def _refusal(transaction: Transaction, fence: Fence, owner: str | None) -> Fenced | None:
    """Why a fenced write may not be, or None."""
    row = transaction.execute(_SQL["fence"], fence.channel).fetchone()
    if row is None:
        return Fenced(f"channel {fence.channel.subscription}/{fence.channel.partition} is gone")
    holder, lease, generation, epoch, _ = row
    if holder != owner or lease != fence.lease:
        return LeaseLost(
            f"partition {fence.channel.partition} belongs to {holder!r} under lease {lease}, "
            f"not {fence.lease}"
        )
    if (generation, epoch) != (fence.generation, fence.epoch):
        return Fenced(
            f"channel {fence.channel.subscription}/{fence.channel.partition} is at generation {generation}, "
            f"epoch {epoch}, not {fence.generation}, {fence.epoch}"
        )
    return None


def _flush(
    transaction: Transaction, flushes: Sequence[ChannelFlush], owner: str | None
) -> list[Fence | Exception]:
    """Nearly all of a flush is progress under a fence that holds: that is one statement for every channel."""
    progressed = [_progress_row(flush, owner) for flush in flushes if flush.progress is not None]
    changed = transaction.connection.executemany(_SQL["put_progress_fenced"], progressed).rowcount
    hold = changed == len(flushes)
    return [
        (None if hold else _refusal(transaction, flush.fence, owner)) or _flush_rest(transaction, flush)
        for flush in flushes
    ]


def _progress_row(flush: ChannelFlush, owner: str | None) -> Row:
    fence, progress = flush.fence, flush.progress
    assert progress is not None  # noqa: S101  # asked for only then
    place = (progress.low_water, progress.scan_pos, encode(progress.done), *fence.channel)
    return (*place, owner, fence.lease, fence.generation, fence.epoch)


def _flush_rest(transaction: Transaction, flush: ChannelFlush) -> Fence:
    """What a flush has beside its progress; its fence was found to hold."""
    fence, execute = flush.fence, transaction.execute
    channel = fence.channel
    for key in flush.released:
        execute(_SQL["drop_hold"], (*channel, key))
    for hold in flush.holds:
        execute(_SQL["put_hold"], hold_row(*channel, hold))
    for skip in flush.skips:
        execute(_SQL["put_skip"], skip_row(channel.subscription, fence.generation, channel.partition, skip))
    if flush.attempts:
        sqlite_attempts.record(transaction, channel, flush.attempts)
    if flush.filter is None:
        return fence
    execute(_SQL["drop_filters_from"], (*channel, flush.filter.from_pos))
    execute(_SQL["put_filter"], (*channel, flush.filter.from_pos, flush.filter.revision))
    execute(_SQL["raise_epoch"], channel)
    return replace(fence, epoch=fence.epoch + 1)


def _named(channel: ChannelId) -> dict[str, object]:
    return {"subscription": channel.subscription, "partition": channel.partition}
