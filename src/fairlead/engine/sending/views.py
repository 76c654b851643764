# SPDX-License-Identifier: Apache-2.0
"""What the dispatcher shows of a channel, for people and for the queries."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead.core.channel import ChannelId, Fence
from fairlead.core.failover import FailoverState


@dataclass(frozen=True, slots=True)
class RouteView:
    """How a channel goes about its targets.

    Attributes:
        since: Unix seconds at which it entered `state`; `reason` says why.
        obstacle: what keeps it at this moment from a target that it prefers, if that is not the reason.
        switches: how often the target has changed since this node owns the channel.
        unanswered: events that are under way on a bus.
    """

    state: FailoverState
    reason: str
    obstacle: str
    since: float
    switches: int
    unanswered: int


@dataclass(frozen=True, slots=True)
class ChannelView:
    """One channel as its owner sees it at this moment; newer than what the store holds.

    Attributes:
        cursor: read so far; below what the store says while a channel is being read anew.
        open_positions: read and not settled, of lanes without a hold, ascending.
        holds: how many lanes are held, parked or slow; the store may not know of each yet.
        taken_over: of those lanes whose holds the store does not know yet, the first position and how many
            events.
        in_flight_keys: the keys of which an event is under way.
        breaker_open: the target counts as down.
        pending_filter: a changed filter is not in force here yet.
        route: None with one HTTP target.
    """

    channel: ChannelId
    fence: Fence
    cursor: int
    open_positions: tuple[int, ...]
    holds: int
    taken_over: tuple[tuple[int, int], ...]
    in_flight_keys: frozenset[str]
    breaker_open: bool
    pending_filter: bool
    route: RouteView | None = None
