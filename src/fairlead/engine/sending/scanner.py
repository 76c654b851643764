# SPDX-License-Identifier: Apache-2.0
"""Reads the log for one channel: from memory, from the store, or handed over as it is appended.

A channel that has read everything is attached to its partition's feed; when its lanes have no room it lets go
and reads on from where it stopped. Held lanes' pages are read here too.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from fairlead.core.lanes import Lanes
from fairlead.core.log import Entry
from fairlead.core.paging import LanePage
from fairlead.engine.sending.feed import PAGE_ENTRIES, Feed
from fairlead.errors import StoreBusy, StoreError, StoreFull

if TYPE_CHECKING:
    from fairlead.engine.sending.owner import Owner

LANE_ENTRIES = 16
RETRY_SECONDS = 1.0
DAMAGE_SECONDS = 30.0

_log = logging.getLogger(__name__)


class Scanner:
    """One channel's reading."""

    def __init__(self, owner: Owner, feed: Feed) -> None:
        self._owner = owner
        self._feed = feed
        self._attached = False
        self._stops = 1
        self._reading: asyncio.Task[None] | None = None

    def go(self) -> None:
        """Read on if the lanes want more; never blocks."""
        if not self._attached and self._reading is None and self._may_read() and self._owner.lanes.wants_page:
            self._read_memory()
            if not self._attached and self._may_read():
                self._reading = asyncio.create_task(self._read_store(self._owner.lanes))

    def stop(self) -> None:
        """Read nothing until as many calls of `resume`; what is just being read is thrown away."""
        self.settle_up()
        self._stops += 1
        self._let_go()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def close(self) -> None:
        """Read nothing any more."""
        self.stop()
        self._owner.works.damage.pop(self._owner.channel, None)

    def resume(self) -> None:
        """Take one `stop` back; a new scanner wants one before it begins."""
        self._stops -= 1
        self.go()

    def settle_up(self) -> None:
        """While attached, what was not handed over is not wanted: say so to the lanes."""
        if self._attached:
            self._owner.lanes.passed(self._feed.head)

    def take(self, entry: Entry) -> None:
        """An entry just appended (`Reader.take`)."""
        owner, lanes = self._owner, self._owner.lanes
        if entry.position <= lanes.cursor:
            return
        lanes.passed(entry.position - 1)
        if not lanes.wants_more or not self._may_read():
            self._let_go()
            return
        lanes.read(entry, owner.sieve.wants(entry))
        if lanes.urgent:
            owner.works.flusher.want(owner, hurry=True)
        owner.wake()

    def read_on(self) -> None:
        """The feed cannot go on (`Reader.read_on`)."""
        self._let_go()
        self._owner.wake()

    def _may_read(self) -> bool:
        owner = self._owner
        active = owner.subscription.state == "active" or not owner.lanes.caught_up
        return active and not self._stops and not owner.closed and owner.lanes.wants_more

    def _let_go(self) -> None:
        if self._attached:
            self._attached = False
            self._feed.detach(self)

    def _attach(self) -> None:
        self._attached = True
        self._owner.lanes.passed(self._feed.head)
        self._feed.attach(self, self._owner.sieve.possible)

    def _read_memory(self) -> None:
        """Whatever memory still holds of the log's end; attaches at the end of it."""
        lanes = self._owner.lanes
        while self._may_read():
            page = self._feed.recent(lanes.cursor, min(lanes.room, PAGE_ENTRIES))
            if page is None:
                return
            if not page:
                self._attach()
                return
            self._give(lanes, page)

    async def _read_store(self, lanes: Lanes) -> None:
        try:
            while self._may_read() and lanes is self._owner.lanes:
                head = self._feed.head  # before the read: what comes after it was not looked for
                page = await self._feed.read(lanes.cursor, min(lanes.room, PAGE_ENTRIES))
                if self._stops or lanes is not self._owner.lanes:
                    return
                self._owner.works.damage.pop(self._owner.channel, None)
                if not page:
                    lanes.passed(max(lanes.scan_pos, head))
                self._give(lanes, page)
                self._read_memory()
                if self._attached:
                    return
        except (StoreBusy, StoreFull):
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._owner.wake)
        except StoreError as failure:
            self._stand_still(failure)
        finally:
            if self._reading is asyncio.current_task():
                self._reading = None

    def _stand_still(self, failure: StoreError) -> None:
        """Nothing behind a damaged row is sent before it; whoever looks is told, and time may mend a disk."""
        self._stops += 1
        asyncio.get_running_loop().call_later(DAMAGE_SECONDS, self.resume)
        owner, detail = self._owner, str(failure)
        if owner.works.damage.get(owner.channel) != detail:
            extra = {**owner.channel._asdict(), "detail": detail}
            _log.error("the log cannot be read; the channel stands still", extra=extra)
        owner.works.damage[owner.channel] = detail

    def _give(self, lanes: Lanes, page: list[Entry]) -> None:
        wants, read = self._owner.sieve.wants, lanes.read
        for entry in page:
            if not lanes.wants_more:
                break
            if entry.position > lanes.cursor:
                read(entry, wants(entry))
        self._owner.works.flusher.want(self._owner, hurry=lanes.urgent)
        self._owner.wake()

    def turn_pages(self, now: float, limit: int) -> None:
        """Read pages of held lanes whose time has come, at most `limit`; never blocks."""
        lanes = self._owner.lanes
        for page in lanes.pages(now, limit):
            task = asyncio.create_task(self._turn(lanes, page))
            self._owner.keep(task)

    async def _turn(self, lanes: Lanes, page: LanePage) -> None:
        log, owner = self._owner.works.store.log, self._owner
        try:
            rows = await log.read_lane(owner.channel.partition, page.key, page.first, page.last, LANE_ENTRIES)
        except (StoreBusy, StoreFull, StoreError) as failure:
            lanes.paging.failed(page, owner.works.clock.monotonic())
            _log.error(
                "a held lane cannot be read",
                extra={**owner.channel._asdict(), "key": page.key, "detail": str(failure)},
            )
        else:
            complete_to = page.last if len(rows) < LANE_ENTRIES else rows[-1].position
            wanted = [entry for entry in rows if owner.sieve.wants(entry)]
            lanes.page(page, wanted, complete_to)
            owner.works.flusher.want(owner, hurry=False)
        if lanes is owner.lanes:
            owner.wake()
