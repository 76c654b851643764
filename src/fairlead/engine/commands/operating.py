# SPDX-License-Identifier: Apache-2.0
"""Putting lanes right: retry, release, skip (interface, section 5). Replays are in `replaying.py`."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from fairlead.core.channel import ChannelId, ChannelState, Hold, Skip
from fairlead.core.event import partition_of
from fairlead.core.log import Entry
from fairlead.core.policy import Principal
from fairlead.core.subscription import Subscription
from fairlead.engine.commands.replaying import Replayed, Replaying, ReplayRequest
from fairlead.engine.finding import find_channel, find_subscription
from fairlead.engine.lane_reading import Span, first_wanted
from fairlead.engine.permissions import require
from fairlead.engine.retention.turn import Turn
from fairlead.engine.revisions import Revisions
from fairlead.errors import Fault, Forbidden, InvalidRequest, NotFound, WrongState
from fairlead.ports import Clock, Store
from fairlead.telemetry import Telemetry

if TYPE_CHECKING:
    from fairlead.engine.sending.dispatcher import Dispatcher

LaneState = Literal["held", "parked"]

_log = logging.getLogger(__name__)


class Operating:
    """What operators do. Every call needs a grant to `operate` and raises Forbidden without one.

    Lanes are named by `key` or `keys` (then each must be held or parked), or all in a `state`.
    """

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        clock: Clock,
        telemetry: Telemetry,
        *,
        revisions: Revisions,
        turn: Turn,
        keep_seconds: float,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._telemetry = telemetry
        self._revisions = revisions
        self._replaying = Replaying(
            store, dispatcher, clock, revisions=revisions, turn=turn, keep_seconds=keep_seconds
        )

    async def replay(self, principal: Principal, id: str, request: ReplayRequest) -> Replayed:
        """Begin again at an earlier place; see `Replaying.replay` for what it does and raises."""
        require(principal, "operate", subscription=id)
        subscription = await find_subscription(self._store, id)
        replayed = await self._replaying.replay(subscription, request)
        extra = {"subscription": id, "generation": replayed.generation, "events": replayed.events}
        _log.info("subscription replayed", extra={**extra, "by": principal.name})
        return replayed

    async def retry(
        self,
        principal: Principal,
        id: str,
        *,
        key: str | None = None,
        keys: Sequence[str] | None = None,
        state: LaneState | None = None,
    ) -> int:
        """Try the heads of lanes now; their state and schedule stay if that fails. How many lanes.

        Raises:
            NotFound: no such subscription, or a named key has no held or parked lane.
            WrongState: the subscription is not active.
            InvalidRequest: not exactly one of `key`, `keys` and `state`.
        """
        require(principal, "operate", subscription=id)
        subscription = await find_subscription(self._store, id)
        await self._lanes(id, key, keys, state)
        if subscription.state != "active":
            raise WrongState(
                f"subscription {id!r} is {subscription.state} and tries nothing; resume it first"
            )
        named = [key] if key is not None else keys and list(dict.fromkeys(keys))
        affected = self._dispatcher.retry(id, named, state)
        self._note("lanes retried", id, principal, affected)
        return affected

    async def release(
        self,
        principal: Principal,
        id: str,
        *,
        key: str | None = None,
        keys: Sequence[str] | None = None,
        state: LaneState | None = None,
    ) -> int:
        """Give lanes a new schedule from attempt 0, now. How many lanes. Raises as `retry` but WrongState."""
        require(principal, "operate", subscription=id)
        await find_subscription(self._store, id)
        lanes = await self._lanes(id, key, keys, state)
        now = self._clock.now()
        affected = 0
        for channel, named in lanes.items():
            affected += await self._store.channels.release(channel, named, None if named else state, now)
        if lanes:
            await self._dispatcher.reload(id, {channel.partition for channel in lanes})
        self._note("lanes released", id, principal, affected)
        return affected

    async def skip(self, principal: Principal, id: str, *, key: str, position: int, reason: str = "") -> int:
        """Drop the head of a lane on record, then release the lane.

        Args:
            reason: the operator's own words, kept on record.

        Returns:
            1: how many lanes it was.

        Raises:
            WrongState: `position` is not the head of the lane (`head` in the members is), or the lane moved
            on meanwhile. NotFound: no such subscription, or no such lane. Forbidden: also when the grant
            does not cover the event.
        """
        require(principal, "operate", subscription=id)
        subscription = await find_subscription(self._store, id)
        state = await find_channel(self._store, id, partition_of(key, self._store.log.partitions))
        channel = state.fence.channel
        hold = _held(state).get(key)
        if hold is None:
            raise _no_lane(id, [key], "/key")
        head = await self._head(subscription, state, hold)
        if head is None or head.position != position:
            raise _not_head(key, position, head)
        event = head.event
        if not principal.may("operate", source=event.source, type=event.type, subscription=id):
            raise Forbidden(
                f"{principal.name!r} may not skip type {event.type!r} from source {event.source!r} of {id!r}"
            )
        now = self._clock.now()
        skip = Skip(key, position, event.source, event.id, "operator", principal.name, now, reason)
        if not await self._store.channels.skip(channel, skip, hold.head_pos, now):
            raise WrongState(f"the lane of {key!r} has moved on meanwhile; look at it again")
        self._telemetry.skipped.value += 1
        await self._dispatcher.reload(id, {channel.partition})
        extra = {"subscription": id, "partition": channel.partition, "position": position}
        _log.warning("event skipped", extra={**extra, "by": principal.name, "reason": reason[:200]})
        return 1

    # -- how -------------------------------------------------------------------------------------------

    async def _lanes(
        self, id: str, key: str | None, keys: Sequence[str] | None, state: LaneState | None
    ) -> dict[ChannelId, list[str] | None]:
        """The channels to touch, with the keys in each, or None for all in `state`."""
        if [key, keys, state].count(None) != 2:
            raise InvalidRequest(
                "name the lanes by exactly one of `key`, `keys` and `state`",
                faults=[
                    Fault(detail="names lanes by none of key, keys and state, or by several", pointer="")
                ],
            )
        pointer = "/keys"
        if key is not None:
            keys, pointer = [key], "/key"
        if keys is None:
            return {ChannelId(id, partition): None for partition in range(self._store.log.partitions)}
        by_channel: dict[ChannelId, list[str] | None] = {}
        for partition, named in self._by_partition(keys).items():
            held = _held(await find_channel(self._store, id, partition))
            missing = [key for key in named if key not in held]
            if missing:
                raise _no_lane(id, missing, pointer)
            by_channel[ChannelId(id, partition)] = named
        return by_channel

    def _by_partition(self, keys: Sequence[str]) -> dict[int, list[str]]:
        by_partition: dict[int, list[str]] = defaultdict(list)
        for key in dict.fromkeys(keys):
            by_partition[partition_of(key, self._store.log.partitions)].append(key)
        return by_partition

    async def _head(self, subscription: Subscription, state: ChannelState, hold: Hold) -> Entry | None:
        span = Span(state.fence.channel.partition, hold.key, hold.head_pos, state.progress.scan_pos)
        return await first_wanted(self._store.log, span, await self._revisions.of(subscription, state))

    def _note(self, message: str, id: str, principal: Principal, affected: int) -> None:
        _log.info(message, extra={"subscription": id, "by": principal.name, "lanes": affected})


def _held(state: ChannelState) -> dict[str, Hold]:
    """The lanes that are held or parked, by key; one that is only slow is not."""
    return {hold.key: hold for hold in state.holds if hold.state != "slow"}


def _no_lane(id: str, keys: Sequence[str], pointer: str) -> NotFound:
    faults = [Fault(detail=f"{key!r} has no held or parked lane", pointer=pointer) for key in keys]
    return NotFound(f"{keys[0]!r} has no held or parked lane in subscription {id!r}", faults=faults)


def _not_head(key: str, position: int, head: Entry | None) -> WrongState:
    if head is None:
        return WrongState(f"nothing is left in the lane of {key!r}; release it")
    hint = f"the head is {head.position}"
    return WrongState(
        f"position {position} is not the head of the lane of {key!r}, {head.position} is",
        faults=[Fault(detail="is not the head of the lane", pointer="/position", hint=hint)],
        members={"head": head.position},
    )
