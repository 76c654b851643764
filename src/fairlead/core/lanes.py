# SPDX-License-Identifier: Apache-2.0
"""Lanes: what one channel may send next (design, section 5). Pure; time is an argument, monotonic seconds.

The channel's owner reads the log forward and gives every entry to `read`; `next` says which run of which lane
may be sent; `resolve` takes what came of it; `snapshot` says what is to be stored and `stored` that it was.

    read ──► a lane's queue ──► next ──► in flight ──► resolve ──► settled ──► snapshot ──► stored
                  ▲                                       │ failed
                  └── page ◄── pages ◄── hold (one row) ◄─┘

The model's rules live here by these names: `one_flight` (`pages`, `Queues.enlist`), `scan_keep` (`read`),
`page_scan` (`pages`, `page`), `floor_holds` (`floor`), `skip_first` (`stored`), `probe_turn` (`next`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fairlead.core.answer import AnswerDocument
from fairlead.core.breaker import Breaker
from fairlead.core.channel import ChannelState, Progress
from fairlead.core.holds import Held, Holds
from fairlead.core.log import Entry
from fairlead.core.outcome import Outcome
from fairlead.core.paging import LanePage, Paging
from fairlead.core.publishing import Answered, Publishing
from fairlead.core.queues import Queues, Run
from fairlead.core.settling import Settling, Verdict
from fairlead.core.snapshot import Snapshot
from fairlead.core.subscription import DeliveryOptions
from fairlead.core.window import Sent, Window

UNBOUNDED = 2**62
READ_AHEAD_BYTES = 8 * 1024 * 1024


class Lanes:
    """The scheduler of one channel, from one load of its state to the next.

    Args:
        state: what the store knows; nothing is sent before (`low_water`, `scan_pos`] was read again.
        options: the subscription's.
        breaker: a closed one.
        read_ahead: at most so many unsettled events stand in the queues of lanes without a hold, but for
            batches (`DeliveryOptions.read_ahead`).
        window: what is under way on a bus in the present epoch.
        now, wall: the monotonic time and the wall clock's Unix time of one moment.
        settled: per key, up to where it is settled though the store does not know it yet.

    Attributes:
        changed: there is something to store.
        storable: False after a flush was refused: nothing is sent until one was stored.
        bus: what is under way on a bus, and how that ends.
    """

    def __init__(
        self,
        state: ChannelState,
        options: DeliveryOptions,
        breaker: Breaker,
        *,
        read_ahead: int,
        window: Window | None = None,
        now: float,
        wall: float,
        settled: Mapping[str, int] | None = None,
    ) -> None:
        self.breaker = breaker
        self.holds = Holds()
        self.holds.restore(state.holds, now=now, wall=wall)
        self.queues = Queues()
        self.scan_pos = state.progress.scan_pos
        self.cursor = state.progress.low_water
        self.changed = bool(settled)
        self.storable = True
        self._settling = Settling(options, self.queues, self.holds, breaker)
        window = Window(1) if window is None else window
        self.bus = Publishing(window, self.queues, self.holds, self._settling)
        self.paging = Paging(self.queues, self.holds, self._settling, breaker)
        self._settled = {} if settled is None else settled
        self._stored = state.progress
        self._read_ahead, self._most = read_ahead, options.read_ahead(read_ahead)
        self._settling.take_over(self._settled, now)

    # -- reading -------------------------------------------------------------------------------------------

    @property
    def caught_up(self) -> bool:
        """Whether everything up to `scan_pos` that is not settled is in memory or covered by a hold."""
        return self.cursor >= self.scan_pos

    @property
    def wants_more(self) -> bool:
        """Whether the log is to be read on: read-ahead is bounded, and an open breaker stops it.

        But not before there are two lanes to probe: one that fails for ever must not hide the others.
        """
        if self.cursor < self.scan_pos:
            return True
        return self._has_room and not (self.breaker.is_open and self._settling.has_several)

    @property
    def room(self) -> int:
        """How many wanted entries there is room for; a whole read-ahead while catching up."""
        return self._most - len(self.queues.open) if self.caught_up else self._most

    @property
    def wants_page(self) -> bool:
        """Whether a page is worth its reading: a quarter of the read-ahead is free."""
        return self.wants_more and 4 * self.room >= self._most

    def read(self, entry: Entry, wanted: bool) -> None:
        """The next entry of the log was read; positions between it and the one before are gone."""
        position, key = entry.position, entry.key
        self.cursor = position
        again = position <= self.scan_pos
        if not again:
            self.scan_pos = position
        self.changed = True
        if not wanted or self.holds.get(key) is not None:
            return
        if position <= self._settled.get(key, 0):
            self._settling.wait(key)
            return
        if again and self._stored.is_done(position):
            return
        if self.queues.push(entry).waiting:
            self._settling.hurry = True

    def passed(self, position: int) -> None:
        """Nothing from the last entry read up to `position` is wanted."""
        if position > self.cursor:
            self.cursor = position
            self.scan_pos = max(self.scan_pos, position)
            self.changed = True

    @property
    def _has_room(self) -> bool:
        return len(self.queues.open) < self._most and self.queues.open_bytes < READ_AHEAD_BYTES

    # -- held lanes ----------------------------------------------------------------------------------------

    def pages(self, now: float, limit: int) -> list[LanePage]:
        """At most `limit` pages to read now; each is to be answered by `page` or `page_failed`."""
        if not self.caught_up or not self.storable:
            return []
        return self.paging.wanted(now, limit, self.scan_pos)

    def page(self, page: LanePage, entries: Sequence[Entry], complete_to: int) -> None:
        """A page was read: all wanted entries of the key from `page.first` up to `complete_to`, in order."""
        settled = self._settled.get(page.key, 0)
        self.paging.read(page, [one for one in entries if one.position > settled], complete_to, self.scan_pos)
        self.changed = True

    def demote(self, now: float, slow_after_seconds: float) -> None:
        """Give a hold to lanes in flight for too long, or with half of a full read-ahead: others go on."""
        most = UNBOUNDED if self._has_room else (len(self.queues.open) + 1) // 2
        self.changed = self.bus.demote(now, slow_after_seconds) or self.changed
        for run in self.queues.flights:
            late = run.started + slow_after_seconds <= now
            if not run.slow and (late or len(self.queues.lane(run.key).queue) >= most):
                run.slow = True
                self.changed = self._settling.demote(run.key, now) or self.changed

    # -- sending -------------------------------------------------------------------------------------------

    def next(
        self, now: float, *, max_events: int = 1, max_bytes: int = UNBOUNDED, at_least_one: bool = True
    ) -> Run | None:
        """The next run that may be sent, in flight from now on; None if there is none at the moment.

        Unless `at_least_one`, a head greater than `max_bytes` keeps its place and is not sent.
        """
        if not self.caught_up or not self.storable:
            return None
        if self.breaker.is_open:
            max_events = 1
            if self.queues.flights or not self.breaker.may_probe(now):
                return None
        while (key := self.queues.next_ready()) is not None:
            held = self.holds.get(key)
            if held is None or (held.loaded and held.skip is None):
                if not at_least_one and self.queues.lane(key).queue[0].event.size > max_bytes:
                    self.queues.put_back(key)
                    return None
                return self._depart(key, held, now, max_events, max_bytes)
        return None

    def _depart(self, key: str, held: Held | None, now: float, max_events: int, max_bytes: int) -> Run:
        if held is not None and held.last is not None:
            max_events = 1  # after a failure one by one until one passes
        return self.queues.depart(key, now, held.attempt + 1 if held else 1, max_events, max_bytes)

    def resolve(
        self, run: Run, outcomes: Sequence[Outcome], *, now: float, wall: float, roll: float
    ) -> Verdict:
        """Take what came of a run: one outcome per event, in order. See `Settling.resolve`."""
        self.changed = True
        verdict = self._settling.resolve(run, outcomes, most=self.scan_pos, now=now, wall=wall, roll=roll)
        self._turn_over(run.key)
        return verdict

    def _turn_over(self, key: str) -> None:
        """The last event of a held lane's page was settled: it goes on with the next, or is held no more."""
        held = self.holds.get(key)
        if held is not None and held.loaded and ((lane := self.queues.get(key)) is None or not lane.queue):
            if held.complete_to >= self.scan_pos:
                self.holds.release(key)  # its last event up to `scan_pos` is settled
            held.complete_to = -1

    def next_due(self, now: float) -> float | None:
        """When there may be something to do that only time brings; None if nothing waits for a time."""
        if not self.caught_up or not self.storable:
            return None
        timer = self.holds.next_timer()
        if not self.breaker.is_open:
            return timer
        if self.queues.flights:
            return None
        if self.queues.has_ready:
            return self.breaker.probe_at
        return None if timer is None else max(timer, self.breaker.probe_at)

    def reconfigure(self, options: DeliveryOptions) -> None:
        """Go by other options from now on, and give the target a fresh chance."""
        self._settling.options, self._most = options, options.read_ahead(self._read_ahead)
        self.breaker.reset()

    # -- on a bus ------------------------------------------------------------------------------------------

    def next_to_publish(self, now: float) -> Sent | None:
        """The next event for the bus, under way from now on; None if there is none, or the window is full."""
        return self.bus.next(now) if self.caught_up and self.storable else None

    def answered(
        self, answer: AnswerDocument, *, in_epoch: bool, now: float, wall: float, roll: float
    ) -> Answered:
        """Take an answer of this generation. See `Publishing.answered`."""
        self.changed = True
        answered = self.bus.answered(
            answer, in_epoch=in_epoch, most=self.scan_pos, now=now, wall=wall, roll=roll
        )
        self._turn_over(answer.key or "")
        return answered

    # -- storing -------------------------------------------------------------------------------------------

    @property
    def low_water(self) -> int:
        """Every position at or below it is settled, not wanted, or covered by a hold."""
        open_positions = self.queues.open
        return next(iter(open_positions)) - 1 if open_positions else self.cursor

    def floor(self) -> int:
        """`flfloor`: every position at or below it is settled or not wanted (design, section 6)."""
        low_water, head = self.low_water, self.holds.lowest_head()
        return low_water if head is None else min(low_water, head - 1)

    @property
    def urgent(self) -> bool:
        """Whether something that could go on waits for a flush."""
        return self._settling.hurry

    def snapshot(self, *, now: float, wall: float) -> Snapshot:
        """What is to be stored now, once `caught_up`; `stored` or `refused` follows before the next one."""
        dirty, released = self.holds.dirty, self.holds.released
        self.holds.dirty, self.holds.released = set(), set()
        waiting, self._settling.waiting = self._settling.waiting, []
        self._settling.hurry = False
        skips = tuple(held.skip for key in dirty if (held := self.holds.get(key)) and held.skip)
        rows = self.holds.rows(dirty, now=now, wall=wall)
        self.changed = False
        progress = Progress.around(self.low_water, self.scan_pos, self.queues.open)
        return Snapshot(progress, rows, tuple(released), skips, tuple(waiting))

    def stored(self, snapshot: Snapshot, now: float) -> None:
        """A snapshot is on disk: the lanes that waited go on, and its skips count."""
        self.storable = True
        for row in snapshot.holds:
            self.holds.taken_over.pop(row.key, None)
        for key in snapshot.waiting:
            lane = self.queues.get(key)
            if lane is not None:
                lane.waiting = False
                self.queues.enlist(key)
                self.queues.tidy(key)
        for skip in snapshot.skips:
            held = self.holds.get(skip.key)
            if held is not None and held.skip is skip:
                self._settling.skipped(held, now)

    def refused(self, snapshot: Snapshot) -> None:
        """Nothing of a snapshot was stored: it is wanted again, and until then nothing is sent."""
        self.storable = False
        self.changed = True
        self.holds.dirty.update(row.key for row in snapshot.holds if row.key in self.holds)
        self.holds.released.update(key for key in snapshot.released if key not in self.holds)
        self._settling.waiting[:0] = snapshot.waiting
        self._settling.hurry = True
