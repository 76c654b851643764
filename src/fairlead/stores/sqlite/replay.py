# SPDX-License-Identifier: Apache-2.0
"""What changes a channel from outside: replay, release, skip, retention (design, section 4).

Each is one job of one transaction and raises the channel's epoch, so that its owner, whose fence is then old,
can store nothing of what it still remembers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fairlead.core.channel import ChannelId, Fence, HoldState, ReplayFrom, Skip
from fairlead.core.subscription import Subscription
from fairlead.errors import NotFound, NotReplayable
from fairlead.stores.sqlite import subscriptions as sqlite_subscriptions
from fairlead.stores.sqlite.jobs import Transaction
from fairlead.stores.sqlite.log import delete_entries, oldest
from fairlead.stores.sqlite.queries import queries
from fairlead.stores.sqlite.rows import encode, progress_of, skip_row

_SQL = queries("operate")
_CHANNEL = queries("channel")


def replay(
    transaction: Transaction,
    subscription: str,
    starts: Sequence[ReplayFrom],
    now_ms: int,
    replacement: Subscription | None,
) -> dict[int, Fence]:
    """Send every start's channel back, under one new generation; as `fairlead.ports.Channels.replay`."""
    kept = oldest(transaction.connection)
    if replacement is not None:
        sqlite_subscriptions.store_revision(transaction, replacement)
    elif sqlite_subscriptions.find(transaction.connection, subscription) is None:
        raise sqlite_subscriptions.not_found(subscription)
    generation = sqlite_subscriptions.raise_generation(transaction, subscription, now_ms)
    return {
        start.partition: _rewind(
            transaction, subscription, start, generation=generation, kept=kept, now=now_ms / 1000
        )
        for start in starts
    }


def _rewind(
    transaction: Transaction,
    subscription: str,
    start: ReplayFrom,
    *,
    generation: int,
    kept: Mapping[int, int],
    now: float,
) -> Fence:
    channel = ChannelId(subscription, start.partition)
    row = transaction.execute(_SQL["where"], channel).fetchone()
    if row is None:
        raise NotFound(f"subscription {subscription!r} has no partition {start.partition}")
    low_water, scan_pos, done_ranges, epoch, target, lease = row
    _check_start(start, scan_pos, kept[start.partition])
    place = {"subscription": subscription, "partition": start.partition}
    done = progress_of(low_water, scan_pos, done_ranges).done
    if start.key is not None:
        # What is open of the lane before the start stands in no hold yet: the hold must not hide it.
        waiting = transaction.execute(
            _SQL["in_lane"], (start.partition, start.key, low_water + 1, start.position - 1)
        )
        still_open = (pos for (pos,) in waiting if not any(first <= pos <= end for first, end in done))
        head_pos = next(still_open, start.position)
        arguments = {**place, "key": start.key, "pos": head_pos, "now": now}
        transaction.execute(_SQL["rewind_lane"], arguments)
    else:
        # Below the start nothing is forgotten: what was open or done there stays so.
        last = start.position - 1
        below = [(first, min(end, last)) for first, end in done if first <= last]
        transaction.execute(_CHANNEL["put_progress"], (min(low_water, last), last, encode(below), *channel))
        transaction.execute(_SQL["drop_holds_from"], (*channel, start.position))
        transaction.execute(_SQL["renew_holds"], (now, now, *channel))
    transaction.execute(_SQL["put_generation"], (generation, epoch + 1, *channel))
    return Fence(channel, lease, generation, epoch + 1, target)


def _check_start(start: ReplayFrom, scan_pos: int, oldest_kept: int) -> None:
    """Refuse to go forward, and to go back to what is no longer there."""
    furthest = scan_pos if start.key is not None else scan_pos + 1
    if start.position > furthest:
        raise NotReplayable(
            f"position {start.partition}:{start.position} has not been read yet; a replay only goes back, "
            f"from {start.partition}:{scan_pos} at most",
            members={"read": {"partition": start.partition, "position": scan_pos}},
        )
    if start.position < oldest_kept:
        raise NotReplayable(
            f"position {start.partition}:{start.position} was deleted by [retention]; "
            f"the oldest that is kept is {start.partition}:{oldest_kept}",
            members={"oldest": {"partition": start.partition, "position": oldest_kept}},
        )


def release(
    transaction: Transaction,
    channel: ChannelId,
    keys: Sequence[str] | None,
    state: HoldState | None,
    now: float,
) -> int:
    """Give lanes a new schedule that begins now; as `fairlead.ports.Channels.release`."""
    place = {"subscription": channel.subscription, "partition": channel.partition, "state": state, "now": now}
    if keys is None:
        released = transaction.execute(_SQL["release_state"], place).rowcount
    else:
        released = sum(
            transaction.execute(_SQL["release_key"], {**place, "key": key}).rowcount
            for key in dict.fromkeys(keys)
        )
    if released:
        transaction.execute(_CHANNEL["raise_epoch"], channel)
    return released


def skip(transaction: Transaction, channel: ChannelId, skip: Skip, head_pos: int, now: float) -> bool:
    """Drop the head of a lane on record; as `fairlead.ports.Channels.skip`."""
    arguments = {
        "subscription": channel.subscription,
        "partition": channel.partition,
        "key": skip.key,
        "head": head_pos,
        "next": skip.position + 1,
        "now": now,
    }
    if not transaction.execute(_SQL["skip_head"], arguments).rowcount:
        return False
    _put_skips(transaction, channel, [skip])
    return True


def expire(
    transaction: Transaction,
    skips: Mapping[ChannelId, Sequence[Skip]],
    partition: int,
    positions: Sequence[int],
) -> int:
    """Delete entries that somebody still had to get, on record; as `fairlead.ports.Channels.expire`."""
    for channel, expired in skips.items():
        _put_skips(transaction, channel, expired)
    span = (partition, min(positions), max(positions))
    keys = [key for (key,) in transaction.execute(_SQL["keys_between"], span)]
    deleted = delete_entries(transaction, partition, positions)
    for subscription, _ in skips:
        for key in keys:
            transaction.execute(_SQL["drop_empty_hold"], (subscription, partition, key))
    return deleted


def _put_skips(transaction: Transaction, channel: ChannelId, skips: Sequence[Skip]) -> None:
    row = transaction.execute(_SQL["generation"], channel).fetchone()
    if row is None:  # deleted meanwhile: nobody waits for these events any more
        return
    for skip in skips:
        transaction.execute(
            _CHANNEL["put_skip"], skip_row(channel.subscription, row[0], channel.partition, skip)
        )
    transaction.execute(_CHANNEL["raise_epoch"], channel)
