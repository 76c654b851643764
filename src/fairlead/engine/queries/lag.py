# SPDX-License-Identifier: Apache-2.0
"""How far a subscription is behind, cheaply (interface, section 4: `lag_events`, `lag_seconds`).

`lag_events` is the sum of what its channels have not read yet, what they have read and not settled, and what
waits in held, parked and slow lanes, the latter counted up to 100,000: it is 0 exactly when nothing is left
to deliver. What was not read yet, or waits in a lane, counts whether or not the filter passes it; what
retention has deleted does not count. Right after a start, what was settled above the lowest open position
counts too until that is read again, and a lane of which the hold is stored in this very moment may count
twice.

`lag_seconds` is the age of the oldest of these; of held lanes the first hundred are looked at, by when their
head failed first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from fairlead.core.channel import ChannelId
from fairlead.errors import StoreCorrupt
from fairlead.ports import Store

_LANES_SEEN = 100
_MOST_WAITING = 100_000


class Seen(Protocol):
    """What of a channel's view the lag is made of."""

    @property
    def channel(self) -> ChannelId: ...
    @property
    def cursor(self) -> int: ...
    @property
    def open_positions(self) -> Collection[int]: ...
    @property
    def holds(self) -> int: ...
    @property
    def taken_over(self) -> Collection[tuple[int, int]]: ...


@dataclass(frozen=True, slots=True)
class Lag:
    events: int
    seconds: float


async def lag_of(
    store: Store,
    subscription: str,
    views: Collection[Seen],
    *,
    kept: Mapping[int, range],
    now: float,
) -> Lag:
    """The lag of one subscription.

    Args:
        views: its channels as the dispatcher sees them.
        kept: of each partition, the positions from the oldest kept to the last.
        now: Unix seconds.
    """
    events = 0
    oldest = now
    for view in views:
        partition = view.channel.partition
        unread = len(range(max(view.cursor + 1, kept[partition].start), kept[partition].stop))
        held = {position: count for position, count in view.taken_over if count}
        events += unread + len(view.open_positions) + sum(held.values())
        if view.open_positions or held or unread:
            first = min((*view.open_positions, *held), default=view.cursor + 1)
            oldest = min(oldest, await _accepted_at(store, partition, first, now))
    if any(view.holds for view in views):
        waiting = await store.channels.count_waiting(subscription, _MOST_WAITING)
        events += waiting
        if waiting:
            rows = await store.channels.holds(subscription, None, None, _LANES_SEEN)
            oldest = min([oldest, *(row.hold.since for row in rows)])
    return Lag(events, max(now - oldest, 0.0))


async def _accepted_at(store: Store, partition: int, position: int, now: float) -> float:
    try:
        entries = await store.log.read(partition, position - 1, 1)
    except StoreCorrupt:
        return now  # the delivery of it says so, and `fairlead store check`; a status must still be had
    return entries[0].accepted_at if entries else now
