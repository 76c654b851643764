# SPDX-License-Identifier: Apache-2.0
"""The log's values: what one row of it is, and what appending said (design, sections 2 to 4)."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from fairlead.core.event import Event

PAGE_BYTES = 8 * 1024 * 1024
"""A page of entries ends when it holds this much, however many were asked for: memory has a bound."""


class Entry(msgspec.Struct, frozen=True):
    """One accepted event at its place in the log.

    Attributes:
        partition: the partition, from 0.
        position: the event's number in its partition: 1, 2, 3 … without a gap, never reused.
        key: the ordering key.
        event: the event as it came.
        accepted_at: Unix seconds of the commit's request, wall clock.
    """

    partition: int
    position: int
    key: str
    event: Event
    accepted_at: float


class Appended(msgspec.Struct, frozen=True):
    """What `Log.append` did with one event; a `duplicate` was there before, at `entry.position`."""

    entry: Entry
    duplicate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Which events to list, by partition and position (interface, section 3); None means any.

    `after` holds the last position seen in each partition; partitions not named start at their oldest.
    """

    key: str | None = None
    source: str | None = None
    id: str | None = None
    subject: str | None = None
    type: str | None = None
    accepted_after: float | None = None
    after: tuple[tuple[int, int], ...] = ()
    limit: int = 100
