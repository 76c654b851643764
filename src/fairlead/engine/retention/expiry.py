# SPDX-License-Identifier: Apache-2.0
"""Deleting events that somebody has yet to get, by rule and on record (`retention.max_age`, `max_bytes`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

from fairlead.core.channel import ChannelId, ChannelState, Skip
from fairlead.core.log import Entry
from fairlead.core.subscription import Subscription
from fairlead.engine.retention.retention import Stopped, last_before, tell_standstill
from fairlead.engine.retention.turn import Turn
from fairlead.engine.revisions import Revisions
from fairlead.engine.settings import RetentionRules
from fairlead.errors import NotFound, StoreCorrupt
from fairlead.ports import Clock, Store
from fairlead.telemetry import Telemetry

if TYPE_CHECKING:
    from fairlead.engine.sending.dispatcher import Dispatcher

CHUNK = 128
ROW_BYTES = 512
"""About what a row takes besides its event."""

_log = logging.getLogger(__name__)


class Expiry:
    """The rules `max_age` and `max_bytes`: what a channel had yet to deliver becomes a skip of it."""

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        clock: Clock,
        telemetry: Telemetry,
        rules: RetentionRules,
        *,
        revisions: Revisions,
        turn: Turn,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._telemetry = telemetry
        self._rules = rules
        self._revisions = revisions
        self._turn = turn

    async def expire(self, stopped: Stopped) -> int:
        """Apply both rules, the oldest events first; how many were deleted.

        A damaged row stops its partition alone. Raises as `Retention.prune`.
        """
        return await self._by_age(stopped) + await self._by_size(stopped)

    async def _by_age(self, stopped: Stopped) -> int:
        if self._rules.max_age_seconds is None:
            return 0
        log = self._store.log
        oldest, heads = await log.oldest(), await log.heads()
        cutoff = self._clock.now() - self._rules.max_age_seconds
        deleted = 0
        for partition, first in sorted(oldest.items()):
            try:
                last = await last_before(log, partition, first, heads[partition], cutoff)
                place = first
                while place <= last and not stopped():
                    entries = await self._delete(partition, place, last, "retention.max_age")
                    if not entries:
                        break
                    deleted += len(entries)
                    place = entries[-1].position + 1
            except StoreCorrupt as damage:
                tell_standstill(partition, damage)
        return deleted

    async def _by_size(self, stopped: Stopped) -> int:
        if self._rules.max_bytes is None:
            return 0
        # What deleting frees is reckoned, not measured: the file gives pages back late.
        excess = await self._store.log.size_bytes() - self._rules.max_bytes
        sound = set(range(self._store.log.partitions))
        deleted = 0
        while excess > 0 and not stopped():
            partition = await self._oldest_partition(sound)
            if partition is None:
                break
            try:
                entries = await self._delete(partition, 1, 2**62, "retention.max_bytes")
            except StoreCorrupt as damage:
                tell_standstill(partition, damage)
                sound.discard(partition)
                continue
            deleted += len(entries)
            excess -= sum(size_of(entry) for entry in entries)
        return deleted

    async def _oldest_partition(self, sound: set[int]) -> int | None:
        """Of `sound` the one whose first event was accepted first; those whose first is damaged leave it."""
        firsts = []
        for partition in sorted(sound):
            try:
                entries = await self._store.log.read(partition, 0, 1)
            except StoreCorrupt as damage:
                tell_standstill(partition, damage)
                sound.discard(partition)
            else:
                firsts += [(entry.accepted_at, partition) for entry in entries]
        return min(firsts)[1] if firsts else None

    async def _delete(self, partition: int, first: int, last: int, rule: str) -> list[Entry]:
        """Delete a chunk from `first` on, with its skips, in one transaction; the events that went."""
        async with self._turn.deleting():
            page = await self._store.log.read(partition, first - 1, CHUNK)
            entries = [entry for entry in page if entry.position <= last]
            if not entries:
                return []
            lost: dict[ChannelId, list[Skip]] = {}
            for subscription, state in await self._states(partition):
                held = _held(state, entries)
                unsettled = await self._unsettled(subscription, state, entries, held)
                if unsettled or held:
                    now = self._clock.now()
                    lost[state.fence.channel] = [_skip(entry, rule, now) for entry in unsettled]
            positions = [entry.position for entry in entries]
            await self._store.channels.expire(lost, partition, positions)
            self._dispatcher.forget(partition, positions[-1])
        for channel, some in lost.items():
            self._telemetry.skipped.value += len(some)
            await self._dispatcher.reload(channel.subscription, {partition})
            extra = {"subscription": channel.subscription, "partition": partition}
            if some:
                _log.warning("events expired unsettled", extra={**extra, "events": len(some), "rule": rule})
        await asyncio.sleep(0)  # intake and deliveries come first
        return entries

    async def _states(self, partition: int) -> list[tuple[Subscription, ChannelState]]:
        states = []
        for subscription in await self._store.subscriptions.all():
            state = await self._store.channels.load(ChannelId(subscription.id, partition))
            if state is not None:
                states.append((subscription, state))
        return states

    async def _unsettled(
        self, subscription: Subscription, state: ChannelState, entries: Sequence[Entry], held: Container[int]
    ) -> list[Entry]:
        """What the channel would still deliver of these."""
        is_done = state.progress.is_done
        waiting = [entry for entry in entries if entry.position in held or not is_done(entry.position)]
        if not waiting:
            return []
        try:
            wants = await self._revisions.of(subscription, state)
        except NotFound:
            return []  # deleted meanwhile: nobody waits for these events any more
        return [entry for entry in waiting if wants(entry)]


def _held(state: ChannelState, entries: Sequence[Entry]) -> set[int]:
    """Where the entries are that holds of the channel cover."""
    heads, read = {hold.key: hold.head_pos for hold in state.holds}, state.progress.scan_pos
    return {one.position for one in entries if heads.get(one.key, read + 1) <= one.position <= read}


def size_of(entry: Entry) -> int:
    """About what an entry takes on disk, in bytes."""
    return ROW_BYTES + len(entry.event.head) + len(entry.event.payload or b"")


def _skip(entry: Entry, rule: str, now: float) -> Skip:
    return Skip(entry.key, entry.position, entry.event.source, entry.event.id, "retention", rule, now)
