# SPDX-License-Identifier: Apache-2.0
"""Deleting events that somebody has yet to get, by rule and on record (`retention.max_age`, `max_bytes`)."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fairlead.core.channel import ChannelId, ChannelState, Skip
from fairlead.core.log import Entry
from fairlead.core.subscription import Subscription
from fairlead.engine.queries.fates import is_done
from fairlead.engine.retention.retention import Stopped, last_before
from fairlead.engine.retention.turn import Turn
from fairlead.engine.revisions import Revisions
from fairlead.engine.settings import Retention as Rules
from fairlead.errors import NotFound
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
        rules: Rules,
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
        """Apply both rules, the oldest events first; how many were deleted. Raises as `Retention.prune`."""
        return await self._by_age(stopped) + await self._by_size(stopped)

    async def _by_age(self, stopped: Stopped) -> int:
        if self._rules.max_age_seconds is None:
            return 0
        log = self._store.log
        oldest, heads = await log.oldest(), await log.heads()
        deleted = 0
        for partition, first in sorted(oldest.items()):
            cutoff = self._clock.now() - self._rules.max_age_seconds
            last = await last_before(log, partition, first, heads[partition], cutoff)
            place = first
            while place <= last and not stopped():
                entries = await self._delete(partition, place, last, "retention.max_age")
                if not entries:
                    break
                deleted += len(entries)
                place = entries[-1].position + 1
        return deleted

    async def _by_size(self, stopped: Stopped) -> int:
        if self._rules.max_bytes is None:
            return 0
        # What deleting frees is reckoned, not measured: the file gives pages back late.
        excess = await self._store.log.size_bytes() - self._rules.max_bytes
        deleted = 0
        while excess > 0 and not stopped():
            partition = await self._oldest_partition()
            if partition is None:
                break
            entries = await self._delete(partition, 1, 2**62, "retention.max_bytes")
            deleted += len(entries)
            excess -= sum(size_of(entry) for entry in entries)
        return deleted

    async def _oldest_partition(self) -> int | None:
        """The partition whose first event was accepted first; None where nothing is kept."""
        log = self._store.log
        firsts = []
        for partition in range(log.partitions):
            entries = await log.read(partition, 0, 1)
            firsts += [(entry.accepted_at, partition) for entry in entries]
        return min(firsts)[1] if firsts else None

    async def _delete(self, partition: int, first: int, last: int, rule: str) -> list[Entry]:
        """Delete a chunk from `first` on, with its skips, in one transaction; the events that went."""
        async with self._turn.deleting():
            page = await self._store.log.read(partition, first - 1, CHUNK)
            entries = [entry for entry in page if entry.position <= last]
            if not entries:
                return []
            skips: dict[ChannelId, list[Skip]] = defaultdict(list)
            states = await self._states(partition)
            for subscription, state in states:
                unsettled = await self._unsettled(subscription, state, entries)
                now = self._clock.now()
                skips[state.fence.channel] += [_skip(entry, rule, now) for entry in unsettled]
            lost = {channel: some for channel, some in skips.items() if some}
            positions = [entry.position for entry in entries]
            await self._store.channels.expire(lost, partition, positions)
            self._dispatcher.forget(partition, positions[-1])
        for channel, some in lost.items():
            self._telemetry.skipped.value += len(some)
            await self._dispatcher.reload(channel.subscription, {partition})
            extra = {"subscription": channel.subscription, "partition": partition}
            _log.warning("events expired unsettled", extra={**extra, "events": len(some), "rule": rule})
        await self._let_go(states, entries)
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
        self, subscription: Subscription, state: ChannelState, entries: Sequence[Entry]
    ) -> list[Entry]:
        """What the channel would still deliver of these."""
        progress = state.progress
        heads = {hold.key: hold.head_pos for hold in state.holds}
        waiting = [
            entry
            for entry in entries
            if heads.get(entry.key, entry.position + 1) <= entry.position <= progress.scan_pos
            or not is_done(state, entry.position)
        ]
        if not waiting:
            return []
        try:
            wants = await self._revisions.of(subscription, state)
        except NotFound:
            return []  # deleted meanwhile: nobody waits for these events any more
        return [entry for entry in waiting if wants(entry)]

    async def _let_go(
        self, states: Sequence[tuple[Subscription, ChannelState]], entries: Sequence[Entry]
    ) -> None:
        """Release parked lanes of which nothing is left: no operator need come for them."""
        keys = {entry.key for entry in entries}
        for subscription, state in states:
            channel = state.fence.channel
            empty = [
                hold.key
                for hold in state.holds
                if hold.state == "parked"
                and hold.key in keys
                and not await self._store.log.read_lane(
                    channel.partition, hold.key, hold.head_pos, state.progress.scan_pos, 1
                )
            ]
            if empty:
                await self._store.channels.release(channel, empty, None, self._clock.now())
                await self._dispatcher.reload(subscription.id, {channel.partition})


def size_of(entry: Entry) -> int:
    """About what an entry takes on disk, in bytes."""
    return ROW_BYTES + len(entry.event.head) + len(entry.event.payload or b"")


def _skip(entry: Entry, rule: str, now: float) -> Skip:
    return Skip(entry.key, entry.position, entry.event.source, entry.event.id, "retention", rule, now)
