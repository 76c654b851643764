# SPDX-License-Identifier: Apache-2.0
"""Held lanes come back: which pages of their events are to be read, and what a page does. Pure.

A hold's events are not in memory. When its time has come a page of them is read, by key, from `head_pos` up
to `scan_pos` (rule `page_scan`); the hold goes when nothing is left there (design, section 5).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fairlead.core.breaker import Breaker
from fairlead.core.holds import Held, Holds
from fairlead.core.log import Entry
from fairlead.core.queues import Queues
from fairlead.core.settling import Settling


@dataclass(frozen=True, slots=True)
class LanePage:
    """A wish to read a held lane's events from `first` up to and with `last`."""

    key: str
    first: int
    last: int


class Paging:
    """Works on the same queues, holds and breaker as `fairlead.core.lanes`, which owns it."""

    def __init__(self, queues: Queues, holds: Holds, settling: Settling, breaker: Breaker) -> None:
        self._queues = queues
        self._holds = holds
        self._settling = settling
        self._breaker = breaker

    def wanted(self, now: float, limit: int, scan_pos: int) -> list[LanePage]:
        """At most `limit` pages: of lanes that go on, then of those whose time has come.

        While the breaker is open only one, and only if nothing else could be the next probe.
        """
        wanted: list[Held] = []
        paging = self._settling.paging
        while paging and len(wanted) < limit:
            held = paging.popleft()
            still_there = self._holds.get(held.key) is held
            may_go_on = held.poked or (held.state == "held" and (held.last is None or held.ready_at <= now))
            if still_there and may_go_on and not held.paging and not held.loaded and held.skip is None:
                held.paging = True
                wanted.append(held)  # else it has failed since it asked: its timer brings it, or a person
        if self._breaker.is_open:
            quiet = not wanted and not self._queues.has_ready and not self._queues.flights
            limit = 1 if quiet and self._breaker.may_probe(now) else 0
        while len(wanted) < limit and (due := self._holds.due(now)) is not None:
            lane = self._queues.get(due.key)
            if lane is None or lane.flight is None:  # else its late answer brings it back (one_flight)
                due.paging = True
                wanted.append(due)
        return [LanePage(held.key, held.head_pos, scan_pos) for held in wanted]

    def read(self, page: LanePage, entries: Sequence[Entry], complete_to: int, scan_pos: int) -> None:
        """A page was read: the unsettled wanted entries from `page.first` up to `complete_to`, in order."""
        held = self._holds.get(page.key)
        if held is None or not held.paging:
            return  # the lane has failed since it was asked for
        held.paging = False
        fresh = [entry for entry in entries if entry.position >= held.head_pos]
        if not fresh and complete_to >= scan_pos:
            self._holds.release(page.key)
            self._queues.tidy(page.key)
            return
        if fresh:
            held.head_pos = fresh[0].position
            held.complete_to = complete_to
            self._queues.fill(page.key, fresh)
            self._queues.enlist(page.key)
        else:
            held.head_pos = max(held.head_pos, complete_to + 1)
            self._settling.paging.append(held)
        self._holds.put(held)

    def failed(self, page: LanePage, now: float) -> None:
        """The page could not be read; it is wanted again a second later."""
        held = self._holds.get(page.key)
        if held is not None and held.paging:
            held.paging = False
            self._holds.wake(held, now + 1.0)

    @property
    def poked(self) -> list[str]:
        """The lanes that were poked and not tried since."""
        return [held.key for held in self._holds if held.poked]

    def poke(self, keys: Collection[str] | None, state: str | None, now: float) -> int:
        """Try heads now, whatever their schedule; returns how many lanes were meant."""
        if keys is None:
            chosen = [held for held in self._holds if held.state == state]
        else:
            named = (self._holds.get(key) for key in keys)
            chosen = [held for held in named if held is not None and held.state != "slow"]
        for held in chosen:
            if not held.loaded and held.skip is None:
                held.poked = True
                self._holds.wake(held, now)
        if chosen:
            self._breaker.reset()
        return len(chosen)
