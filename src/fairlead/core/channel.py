# SPDX-License-Identifier: Apache-2.0
"""A channel's durable state, as values (design, sections 2, 4 and 6).

A channel is one subscription's share of one partition. Everything here is what the store keeps of it; what
its owner keeps in memory on top of that is `fairlead.core.lanes`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import msgspec

from fairlead.core.outcome import Outcome

HoldState = Literal["held", "parked", "slow"]
SkipReason = Literal["operator", "exhausted", "retention"]
_ABOVE = 2**62  # every position


class ChannelId(NamedTuple):
    subscription: str
    partition: int


@dataclass(frozen=True, slots=True)
class Fence:
    """What every write of an owner carries; a write whose fence is not the store's stores nothing.

    `lease` is the epoch of the partition's lease; (`generation`, `epoch`) travel with deliveries.
    """

    channel: ChannelId
    lease: int
    generation: int
    epoch: int
    target: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Every position at or below `low_water`, or in `done`, is settled, filtered out or covered by a hold.

    `done` holds closed ranges above `low_water`, ascending, not touching; `scan_pos` is how far was read.
    """

    low_water: int = 0
    scan_pos: int = 0
    done: tuple[tuple[int, int], ...] = ()

    def is_done(self, position: int) -> bool:
        """Whether a position is at or below `low_water`, or in `done`."""
        if position <= self.low_water:
            return True
        at = bisect_right(self.done, (position, _ABOVE)) - 1
        return at >= 0 and position <= self.done[at][1]

    @classmethod
    def around(cls, low_water: int, scan_pos: int, open_positions: Iterable[int]) -> Progress:
        """The progress that leaves exactly `open_positions`, ascending and above `low_water`, unsettled."""
        bounds = (low_water, *open_positions, scan_pos + 1)
        if len(bounds) == 2:
            return cls(low_water, scan_pos)  # nothing is open: `low_water` says it all
        gaps = [(one + 1, other - 1) for one, other in pairwise(bounds) if other - one > 1]
        return cls(low_water, scan_pos, tuple(gaps))


@dataclass(frozen=True, slots=True)
class Hold:
    """One held, parked or slow lane: covers the events of `key` from `head_pos` up to `scan_pos`.

    Attributes:
        attempt: failed attempts of the head that count.
        ready_at: Unix seconds at which it may be tried again.
        since: Unix seconds of the head's first failure; `give_up_after` counts from here.
        last: the head's last outcome, None while it is only slow.
        last_at: Unix seconds of that outcome.
    """

    key: str
    head_pos: int
    attempt: int
    ready_at: float
    state: HoldState
    since: float
    last: Outcome | None = None
    last_at: float | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """One event not delivered on purpose. `by` names the operator's principal, or the rule.

    `note`: the operator's own words, if any.
    """

    key: str
    position: int
    source: str
    id: str
    reason: SkipReason
    by: str
    at: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class FilterRevision:
    """From `from_pos` on, events are matched by the subscription's filter of `revision`."""

    from_pos: int
    revision: int


class Attempt(msgspec.Struct, frozen=True):
    """One try to deliver one event, for people to look at. Times in Unix seconds and milliseconds."""

    position: int
    key: str
    attempt: int
    target: int
    started_at: float
    duration_ms: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ChannelState:
    """All that the store knows of one channel: what an owner starts from.

    `skipped` are the keys that have at least one skip in this generation (for `flskipped`).
    """

    fence: Fence
    progress: Progress
    holds: tuple[Hold, ...] = ()
    filters: tuple[FilterRevision, ...] = ()
    skipped: frozenset[str] = frozenset()
    reason: str | None = None
    switched_at: float | None = None


@dataclass(frozen=True, slots=True)
class ChannelFlush:
    """What an owner asks to be stored of one channel, in one transaction, fenced.

    `progress` None leaves it; `holds` are put, `released` keys' rows deleted; `filter` puts another filter in
    force from its position on, whatever began there or above, and raises the channel's epoch; `attempts` are
    stored whatever happens to them later.
    """

    fence: Fence
    progress: Progress | None = None
    holds: tuple[Hold, ...] = ()
    released: tuple[str, ...] = ()
    skips: tuple[Skip, ...] = ()
    filter: FilterRevision | None = None
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplayFrom:
    """Where one channel is to begin again; with a `key`, only that lane goes back (design, section 4)."""

    partition: int
    position: int
    key: str | None = None


@dataclass(frozen=True, slots=True)
class HoldRow:
    """A hold with its place, for lists."""

    channel: ChannelId
    hold: Hold
    scan_pos: int = 0


@dataclass(frozen=True, slots=True)
class SkipRow:
    """A skip with its place, for lists."""

    channel: ChannelId
    generation: int
    skip: Skip
