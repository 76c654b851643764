# SPDX-License-Identifier: Apache-2.0
"""What the database holds of one subscription, as the checker reads it: past all of the store's own code."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from fairlead.drivers.sqlite.file import Connection

Place = tuple[int, int]
"""Partition and position."""


@dataclass(slots=True)
class Logged:
    """One event of the log; `must` and `may` are of the subscription as it was made last. `gone`: deleted."""

    key: str
    kind: int
    id: str
    must: bool = True
    may: bool = True
    gone: bool = False


@dataclass(slots=True)
class Run:
    """One generation of one channel: what it does not owe, what was applied, in which order per key."""

    generation: int
    made_at: float
    exempt: set[int] = field(default_factory=set)
    applied: set[int] = field(default_factory=set)
    history: dict[str, list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class Channel:
    """The durable state of one channel as the last commit left it."""

    made_at: float = -1.0
    generation: int = 0
    epoch: int = 0
    target: int = 0
    low_water: int = 0
    scan_pos: int = 0
    done: list[tuple[int, int]] = field(default_factory=list)
    holds: dict[str, int] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    skips: set[tuple[int, int]] = field(default_factory=set)

    def settles(self, position: int, key: str) -> bool:
        """Whether an owner that starts from here takes the position for settled.

        A hold begins its lane, whatever else is open; without one what was passed is settled.
        """
        if key in self.holds:
            return position < self.holds[key]
        return position <= self.low_water or any(first <= position <= last for first, last in self.done)


def read_log(connection: Connection) -> list[tuple[Any, ...]]:
    """Partition, position, key, type and id of every event there is, ascending."""
    return connection.execute(_LOG).fetchall()


def owner_of(connection: Connection) -> str:
    """Who owns the partitions: always one node all of them."""
    return str(connection.execute(_OWNER).fetchone()[0])


def read_channels(connection: Connection, name: str) -> dict[int, Channel]:
    """The channels of a subscription by partition; none if there is no such subscription."""
    holds = connection.execute(_HOLDS, (name,)).fetchall()
    skips = connection.execute(_SKIPS, (name,)).fetchall()
    channels = {}
    for partition, made_at, generation, epoch, target, low_water, scan_pos, done in connection.execute(
        _STATE, (name,)
    ):
        mine = [row for row in holds if row[0] == partition]
        channels[partition] = Channel(
            made_at,
            generation,
            epoch,
            target,
            low_water,
            scan_pos,
            json.loads(done),
            {key: head for _, key, head, _ in mine},
            {key: state for _, key, _, state in mine},
            {(past, position) for place, past, position in skips if place == partition},
        )
    return channels


_LOG = "SELECT partition, pos, key, type, id FROM log ORDER BY partition, pos"
_STATE = """
SELECT partition, created_at, generation, epoch, channel.target, low_water, scan_pos, done_ranges
FROM channel JOIN progress USING (subscription, partition) JOIN subscription ON id = subscription
WHERE subscription = ? ORDER BY partition
"""
_HOLDS = "SELECT partition, key, head_pos, state FROM hold WHERE subscription = ?"
_SKIPS = "SELECT partition, generation, pos FROM skip WHERE subscription = ?"
_OWNER = "SELECT max(owner) FROM lease"
