# SPDX-License-Identifier: Apache-2.0
"""What became of one event, for each subscription (interface, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fairlead.core.channel import ChannelId, ChannelState
from fairlead.core.log import Entry
from fairlead.core.policy import Principal
from fairlead.core.subscription import Subscription
from fairlead.engine.revisions import Revisions
from fairlead.errors import NotFound
from fairlead.ports import Store

if TYPE_CHECKING:
    from fairlead.engine.sending.dispatcher import Dispatcher

Fate = Literal["pending", "in_flight", "delivered", "held", "parked", "skipped", "filtered"]

_SEARCHED = 1000


class Fates:
    """Tells what became of events. `delivered` is said of what is on disk as settled only."""

    def __init__(self, store: Store, dispatcher: Dispatcher, revisions: Revisions) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._revisions = revisions

    async def of(self, principal: Principal, entry: Entry) -> list[tuple[str, Fate]]:
        """(subscription, fate) for every subscription whose share of it the principal may read, by id."""
        fates = []
        event = entry.event
        for subscription in await self._store.subscriptions.all():
            if not principal.may("read", source=event.source, type=event.type, subscription=subscription.id):
                continue
            state = await self._store.channels.load(ChannelId(subscription.id, entry.partition))
            if state is None:
                continue  # deleted meanwhile
            try:
                fates.append((subscription.id, await self._fate(subscription, state, entry)))
            except NotFound:
                continue  # deleted meanwhile
        return fates

    async def _fate(self, subscription: Subscription, state: ChannelState, entry: Entry) -> Fate:
        fence, position = state.fence, entry.position
        if not (await self._revisions.of(subscription, state))(entry):
            return "filtered"
        skips = await self._store.channels.skipped_before(
            fence.channel, fence.generation, entry.key, position + 1, 1
        )
        if skips == [position]:
            return "skipped"
        hold = next((one for one in state.holds if one.key == entry.key), None)
        if hold is not None and hold.head_pos <= position <= state.progress.scan_pos:
            return await self._in_lane(fence.channel, entry) if hold.state == "slow" else hold.state
        if not state.progress.is_done(position):
            return await self._in_lane(fence.channel, entry)
        return "delivered" if await self._was_asked_for(subscription, entry) else "filtered"

    async def _was_asked_for(self, subscription: Subscription, entry: Entry) -> bool:
        """Whether it came after the subscription's start, or a replay has delivered it since."""
        start = subscription.start
        begins = subscription.created_at if start.at == "now" else start.time or 0.0
        if entry.accepted_at >= begins:
            return True
        delivered = await self._store.attempts.attempts(
            subscription.id,
            outcome="delivered",
            partition=entry.partition,
            position=entry.position,
            limit=1,
        )
        return bool(delivered)

    async def _in_lane(self, channel: ChannelId, entry: Entry) -> Fate:
        """In flight, if its key is and nothing of that key is open before it."""
        for view in self._dispatcher.views(channel.subscription):
            if view.channel == channel and entry.key in view.in_flight_keys:
                earlier = [position for position in view.open_positions if position < entry.position]
                if not earlier:
                    return "in_flight"
                lane = await self._store.log.read_lane(
                    channel.partition, entry.key, min(earlier), entry.position - 1, _SEARCHED
                )
                return "pending" if {one.position for one in lane} & set(earlier) else "in_flight"
        return "pending"
