# SPDX-License-Identifier: Apache-2.0
"""One subscription from close by: lanes, skips, attempts, channels (interface, sections 5 and 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fairlead.core.channel import Attempt, ChannelId, ChannelState, Hold, HoldRow, SkipRow
from fairlead.core.durations import format_time
from fairlead.core.event import Event
from fairlead.core.log import Entry
from fairlead.core.outcome import OutcomeKind
from fairlead.core.policy import Principal
from fairlead.core.subscription import Subscription
from fairlead.engine.finding import find_channel, find_subscription
from fairlead.engine.lane_reading import Span, head_and_count
from fairlead.engine.pages import Number, Page, from_cursor, to_cursor
from fairlead.engine.permissions import ANY, reads_all, require
from fairlead.engine.queries.routes import transport_of
from fairlead.engine.revisions import Revisions, Wants
from fairlead.engine.sending.views import ChannelView
from fairlead.ports import Store

if TYPE_CHECKING:
    from fairlead.engine.sending.dispatcher import Dispatcher

MOST_WAITING = 1000
"""Events of one lane are counted up to this."""

Item = dict[str, Any]


class LaneQueries:
    """Lists of one subscription. Each needs a grant to `read` or `operate` it; NotFound where it is not."""

    def __init__(self, store: Store, dispatcher: Dispatcher, revisions: Revisions) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._revisions = revisions

    async def lanes(
        self,
        principal: Principal,
        id: str,
        *,
        state: Literal["held", "parked"] | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[Item]:
        """Held and parked lanes by partition and key, with the `counts` of both states.

        `waiting` counts the lane's events, its head included, up to 1,000. A reader whose grant is limited
        to some sources or types sees the lanes whose head it covers.
        """
        subscription = await self._find(principal, id)
        place = from_cursor(after, tuple[Number, str])
        counts = await self._store.channels.count_holds(id)  # first: who sees one there finds it in the list
        rows = await self._store.channels.holds(id, state, place, limit + 1)
        heads = await self._store.log.heads()
        known: dict[int, tuple[Wants, int]] = {}
        items = []
        for row in rows[:limit]:
            partition = row.channel.partition
            if partition not in known:
                channel = await find_channel(self._store, *row.channel)
                known[partition] = await self._revisions.of(subscription, channel), channel.fence.target
            wants, target = known[partition]
            hold = row.hold
            span = Span(partition, hold.key, hold.head_pos, heads[partition])
            head, waiting = await head_and_count(self._store.log, span, wants, most=MOST_WAITING)
            if _sees(principal, head, id):
                items.append(_lane(row, head, waiting, target))
        following = _place(rows[limit - 1]) if len(rows) > limit else None
        return Page(items, following, {"counts": {one: counts.get(one, 0) for one in ("held", "parked")}})

    async def skips(
        self, principal: Principal, id: str, *, limit: int = 100, after: str | None = None
    ) -> Page[Item]:
        """What was not delivered on purpose, the newest generation first."""
        await self._find(principal, id)
        place = from_cursor(after, tuple[Number, Number, Number])
        rows = await self._store.channels.skips(id, place, limit + 1)
        # The event may be gone, and its type with it: a grant limited to types shows none.
        items = [_skip(row) for row in rows[:limit] if _covers(principal, row.skip.source, ANY, id)]
        if len(rows) <= limit:
            return Page(items)
        last = rows[limit - 1]
        return Page(items, to_cursor((last.generation, last.channel.partition, last.skip.position)))

    async def attempts(
        self,
        principal: Principal,
        id: str,
        *,
        key: str | None = None,
        outcome: OutcomeKind | None = None,
        partition: int | None = None,
        position: int | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[Item]:
        """Attempts, newest first. A limited reader sees those of events that the log still holds."""
        await self._find(principal, id)
        rows = await self._store.attempts.attempts(
            id,
            key=key,
            outcome=outcome,
            partition=partition,
            position=position,
            after=from_cursor(after, Number),
            limit=limit + 1,
        )
        all_shown = reads_all(principal, id)
        # They were stored channel by channel, as each ended.
        page = sorted(rows[:limit], key=lambda row: row[2].started_at, reverse=True)
        items = [
            _attempt(channel, attempt)
            for _, channel, attempt in page
            if all_shown or _sees(principal, await self._entry(channel.partition, attempt.position), id)
        ]
        return Page(items, to_cursor(rows[limit - 1][0]) if len(rows) > limit else None)

    async def channels(
        self, principal: Principal, id: str, *, limit: int = 100, after: str | None = None
    ) -> Page[Item]:
        """Every channel of a subscription, by partition."""
        subscription = await self._find(principal, id)
        last = from_cursor(after, Number)
        partitions = range(0 if last is None else last + 1, self._store.log.partitions)
        views = {view.channel.partition: view for view in self._dispatcher.views(id)}
        items = []
        for partition in partitions[:limit]:
            state = await find_channel(self._store, id, partition)
            at_broker = await self._dispatcher.at_broker(id, partition)
            items.append(_channel(subscription, state, views.get(partition), at_broker))
        more = len(partitions) > limit
        return Page(items, to_cursor(partitions[limit - 1]) if more else None)

    async def _find(self, principal: Principal, id: str) -> Subscription:
        require(principal, "read", "operate", subscription=id)
        return await find_subscription(self._store, id)

    async def _entry(self, partition: int, position: int) -> Entry | None:
        entries = await self._store.log.read(partition, position - 1, 1)
        return entries[0] if entries and entries[0].position == position else None


def _sees(principal: Principal, entry: Entry | None, id: str) -> bool:
    """Whether an event's share of a list may be shown; of one that is gone nothing is known."""
    event: Event | None = None if entry is None else entry.event
    if event is None:
        return _covers(principal, ANY, ANY, id)
    return _covers(principal, event.source, event.type, id)


def _covers(principal: Principal, source: str, type: str, id: str) -> bool:
    return any(
        principal.may(action, source=source, type=type, subscription=id) for action in ("read", "operate")
    )


def _place(row: HoldRow) -> str:
    return to_cursor((row.channel.partition, row.hold.key))


def _lane(row: HoldRow, head: Entry | None, waiting: int, target: int) -> Item:
    hold = row.hold
    return {
        "key": hold.key,
        "partition": row.channel.partition,
        "state": hold.state,
        "head": None
        if head is None
        else {
            "position": head.position,
            "source": head.event.source,
            "id": head.event.id,
            "type": head.event.type,
        },
        "waiting": waiting,
        "attempt": hold.attempt,
        "ready_at": format_time(hold.ready_at),
        "since": format_time(hold.since),
        "last_outcome": _last_outcome(hold, target),
    }


def _last_outcome(hold: Hold, target: int) -> Item | None:
    if hold.last is None or hold.last_at is None:
        return None
    return {
        "outcome": hold.last.kind,
        "status": hold.last.status,
        "detail": hold.last.detail,
        "target": target,
        "at": format_time(hold.last_at),
    }


def _skip(row: SkipRow) -> Item:
    skip = row.skip
    return {
        "key": skip.key,
        "partition": row.channel.partition,
        "position": skip.position,
        "source": skip.source,
        "id": skip.id,
        "reason": skip.reason,
        "by": skip.by,
        "at": format_time(skip.at),
        **({"note": skip.note} if skip.note else {}),
    }


def _attempt(channel: ChannelId, attempt: Attempt) -> Item:
    outcome = attempt.outcome
    return {
        "partition": channel.partition,
        "position": attempt.position,
        "key": attempt.key,
        "attempt": attempt.attempt,
        "target": attempt.target,
        "started_at": format_time(attempt.started_at),
        "duration_ms": attempt.duration_ms,
        "outcome": outcome.kind,
        "status": outcome.status,
        "detail": outcome.detail,
    }


def _channel(
    subscription: Subscription, state: ChannelState, view: ChannelView | None, at_broker: int
) -> Item:
    fence = state.fence if view is None else view.fence  # of the same moment as the route and the breaker
    transport = transport_of(subscription, fence.target)
    route = None if view is None else view.route
    is_open = view is not None and view.breaker_open
    shown = "bus" if transport == "amqp" else "rest"
    if route is not None and route.state != "rest":
        shown = route.state
    elif is_open:
        shown = "open"
    since = state.switched_at if route is None else route.since
    in_flight = 0 if view is None else len(view.in_flight_keys)
    return {
        "partition": fence.channel.partition,
        "generation": fence.generation,
        "epoch": fence.epoch,
        "target": fence.target,
        "transport": transport,
        "state": shown,
        "reason": (route.reason or None) if route is not None else state.reason,
        "obstacle": None if route is None else route.obstacle or None,
        "since": None if since is None else format_time(since),
        "switches": 0 if route is None else route.switches,
        "unanswered": route.unanswered if route is not None and route.unanswered else in_flight,
        "at_broker": at_broker,
    }
