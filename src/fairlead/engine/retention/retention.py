# SPDX-License-Identifier: Apache-2.0
"""Deleting events that everybody has (design, section 4, "Retention"); `expiry.py` deletes the others.

An entry may go when it is old enough and every channel of its partition has it at or below `low_water` and
in no hold. What was found out about channels holds until one is placed anew (`Turn`): settling only goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fairlead.core.channel import ChannelId
from fairlead.engine.retention.turn import Turn
from fairlead.errors import StoreCorrupt
from fairlead.ports import Clock, Log, Store

CHUNK = 256
PAGE = 64

Stopped = Callable[[], bool]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settled:
    """What every channel of one partition has settled.

    Attributes:
        moves: the count of `Turn` at which this was found out.
        low_water: the lowest of all.
        floors: by key the lowest `head_pos` of any hold; the key's events are needed from there on.
    """

    moves: int
    low_water: int
    floors: Mapping[str, int]


class Retention:
    """The rule `keep`.

    Args:
        deleted: told of each partition up to which position something was deleted.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        keep_seconds: float,
        turn: Turn,
        deleted: Callable[[int, int], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._keep_seconds = keep_seconds
        self._turn = turn
        self._deleted = deleted
        self._examined: dict[int, tuple[Mapping[str, int], int]] = {}

    async def prune(self, stopped: Stopped) -> int:
        """Delete what is old enough and settled, chunk by chunk; how many events.

        A damaged row stops its partition alone: the others must not fill the disk meanwhile.

        Raises:
            StoreBusy, StoreFull: go on at the next sweep.
        """
        log = self._store.log
        oldest, heads = await log.oldest(), await log.heads()
        deleted = 0
        for partition, first in sorted(oldest.items()):
            cutoff = self._clock.now() - self._keep_seconds
            try:
                last = await last_before(log, partition, first, heads[partition], cutoff)
                if last >= first:
                    deleted += await self._prune(partition, first, last, stopped)
            except StoreCorrupt as damage:
                tell_standstill(partition, damage)
        return deleted

    async def _prune(self, partition: int, first: int, last: int, stopped: Stopped) -> int:
        settled: Settled | None = None
        deleted = 0
        while not stopped():
            async with self._turn.deleting() as moves:
                if settled is None or settled.moves != moves:
                    settled = await self._settled(partition, moves)
                    first = max(first, self._examined_to(partition, settled) + 1)
                end = min(last, settled.low_water, first + CHUNK - 1)
                if first > end:
                    break
                positions = await self._unneeded(partition, first, end, settled.floors)
                deleted += await self._store.log.prune(partition, positions)
                self._deleted(partition, end)
            self._examined[partition] = (settled.floors, end)
            first = end + 1
            await asyncio.sleep(0)  # intake and deliveries come first
        return deleted

    def _examined_to(self, partition: int, settled: Settled) -> int:
        """How far this partition was gone through with the very same holds: what is left there is needed."""
        floors, examined = self._examined.get(partition, ({}, 0))
        return examined if floors == settled.floors else 0

    async def _settled(self, partition: int, moves: int) -> Settled:
        low_water = (await self._store.log.heads())[partition]
        floors: dict[str, int] = {}
        for subscription in await self._store.subscriptions.all():
            state = await self._store.channels.load(ChannelId(subscription.id, partition))
            if state is None:
                continue  # deleted meanwhile
            low_water = min(low_water, state.progress.low_water)
            for hold in state.holds:
                floors[hold.key] = min(hold.head_pos, floors.get(hold.key, hold.head_pos))
        return Settled(moves, low_water, floors)

    async def _unneeded(
        self, partition: int, first: int, last: int, floors: Mapping[str, int]
    ) -> Sequence[int]:
        """The positions that no hold covers; without holds so low nothing need be read."""
        if not floors or min(floors.values()) > last:
            return range(first, last + 1)
        positions = []
        while first <= last:
            entries = await self._store.log.read(partition, first - 1, PAGE)
            positions += [
                entry.position
                for entry in entries
                if entry.position <= last and entry.position < floors.get(entry.key, entry.position + 1)
            ]
            if len(entries) < PAGE:
                break
            first = entries[-1].position + 1
        return positions


def tell_standstill(partition: int, damage: StoreCorrupt) -> None:
    """Log that a damaged row ends the deleting in its partition until the next sweep."""
    extra = {"partition": partition, "detail": str(damage)}
    _log.error("retention stands still in one partition", extra=extra)


async def last_before(log: Log, partition: int, first: int, last: int, cutoff: float) -> int:
    """The last position from `first` to `last` accepted before `cutoff`; below `first` where there is none.

    By bisection: positions are in the order of acceptance, whatever the wall clock did meanwhile.
    """
    old, young = first - 1, last + 1
    probe = first  # mostly nothing is due, and one look tells
    while young - old > 1:
        entries = await log.read(partition, probe - 1, 1)
        if entries and entries[0].position < young and entries[0].accepted_at < cutoff:
            old = entries[0].position
        else:
            young = probe
        probe = (old + young) // 2
    return old
