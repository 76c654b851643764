# SPDX-License-Identifier: Apache-2.0
"""Reading the log: lists, following it, and what became of an event (interface, section 3)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from fairlead.core.codec import encode_structured
from fairlead.core.durations import format_time
from fairlead.core.log import PAGE_BYTES, Entry, EventQuery
from fairlead.core.policy import Principal
from fairlead.engine.arrivals import Arrivals
from fairlead.engine.pages import Number, Page, from_cursor, to_cursor
from fairlead.engine.permissions import ANY
from fairlead.engine.queries.fates import Fates
from fairlead.errors import Forbidden, StoreCorrupt
from fairlead.ports import Clock, Store

FOLLOW_SECONDS = 30.0

Places = Mapping[int, int]


class EventQueries:
    """What `GET /events` answers."""

    def __init__(self, store: Store, fates: Fates, arrivals: Arrivals, clock: Clock) -> None:
        self._store = store
        self._fates = fates
        self._arrivals = arrivals
        self._clock = clock

    async def events(
        self,
        principal: Principal,
        query: EventQuery,
        *,
        after: str | None = None,
        follow: bool = False,
        wait_seconds: float = FOLLOW_SECONDS,
    ) -> Page[dict[str, Any]]:
        """The events that a query finds and the principal may read, by partition and position.

        Following, it waits until there is one or `wait_seconds` are over, and `next` is never None: pass it
        to go on without a gap. Without `after` following begins now, a list at the oldest event.
        With `source` and `id` each item says what became of it (`deliveries`), for the subscriptions that
        the principal may read.

        A damaged row ends a page before it, and is told by the page that would begin with it.

        Raises:
            Forbidden: no grant to read events. InvalidQuery: `after` is not a cursor of this list.
            StoreCorrupt: the first event is damaged.
        """
        if not principal.may("read", subscription=ANY):
            raise Forbidden(
                f"{principal.name!r} may not read events; it needs a grant to `read` "
                "that is not limited to subscriptions"
            )
        seen = from_cursor(after, list[tuple[Number, Number]])
        if seen is not None:
            query = replace(query, after=tuple(seen))
        if follow:
            return await self._follow(principal, query, wait_seconds)
        heads = await self._store.log.heads()
        entries, full = await self._search(query)
        places = _places(query, heads, entries, full)
        return Page(await self._items(principal, query, entries), _cursor(places) if full else None)

    async def _follow(
        self, principal: Principal, query: EventQuery, wait_seconds: float
    ) -> Page[dict[str, Any]]:
        deadline = self._clock.monotonic() + wait_seconds
        if not query.after:
            query = replace(query, after=tuple((await self._store.log.heads()).items()))
        while True:
            ring = self._arrivals.expect()
            try:
                heads = await self._store.log.heads()
                entries, full = await self._search(query)
                places = _places(query, heads, entries, full)
                items = await self._items(principal, query, entries)
                left = deadline - self._clock.monotonic()
                if items or left <= 0 or self._arrivals.closed:
                    return Page(items, _cursor(places))
                query = replace(query, after=tuple(places.items()))
                if not full:
                    await asyncio.wait({ring}, timeout=left)
            finally:
                self._arrivals.forget(ring)

    async def _search(self, query: EventQuery) -> tuple[list[Entry], bool]:
        """What a query finds before the first damaged row, and whether the search may have ended early."""
        while True:
            try:
                entries = await self._store.log.search(query)
            except StoreCorrupt:
                if query.limit == 1:
                    raise
                query = replace(query, limit=query.limit // 2)
            else:
                return entries, _is_full(query, entries)

    async def _items(
        self, principal: Principal, query: EventQuery, entries: Sequence[Entry]
    ) -> list[dict[str, Any]]:
        with_fates = query.source is not None and query.id is not None
        items = []
        for entry in entries:
            event = entry.event
            if not principal.may("read", source=event.source, type=event.type, subscription=ANY):
                continue
            item = item_of(entry)
            if with_fates:
                fates = await self._fates.of(principal, entry)
                item["deliveries"] = [{"subscription": id, "state": state} for id, state in fates]
            items.append(item)
        return items


def item_of(entry: Entry) -> dict[str, Any]:
    """One accepted event as lists show it; `event` is JSON already."""
    return {
        "event": msgspec.Raw(encode_structured(entry.event)),
        "partition": entry.partition,
        "position": entry.position,
        "key": entry.key,
        "accepted_at": format_time(entry.accepted_at),
    }


def _places(query: EventQuery, heads: Places, entries: Sequence[Entry], full: bool) -> dict[int, int]:
    """How far each partition was looked through; one that was not reached stays where it was.

    Args:
        heads: read before the search, so that what was appended meanwhile is not passed over.
        full: the search may have ended at its limit, within the partition of the last entry.
    """
    places = dict(query.after)
    last = entries[-1].partition if full and entries else None
    for partition, head in heads.items():
        if last is None or partition < last:
            places[partition] = max(head, places.get(partition, 0))
    for entry in entries:
        if entry.partition == last:
            places[entry.partition] = entry.position
        else:
            places[entry.partition] = max(entry.position, places[entry.partition])
    return places


def _is_full(query: EventQuery, entries: Sequence[Entry]) -> bool:
    """Whether the search may have ended before the log did."""
    return len(entries) >= query.limit or sum(entry.event.size for entry in entries) >= PAGE_BYTES


def _cursor(places: Places) -> str:
    return to_cursor(sorted(places.items()))
