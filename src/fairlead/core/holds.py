# SPDX-License-Identifier: Apache-2.0
"""The held lanes of one channel in memory, and what of them is still to be stored (design, sections 4 and 5).

A hold covers the events of its key from `head_pos` up to `scan_pos`; its events are not in memory until its
time has come and a page of them was read.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from fairlead.core.channel import Hold, HoldState, Skip
from fairlead.core.outcome import Outcome

FEW = 256
CLOCK_SET_SECONDS = 0.05  # two clocks, read one after the other, differ from time to time by less


@dataclass(slots=True)
class Held:
    """One held, parked or slow lane. Times are monotonic seconds.

    Attributes:
        complete_to: every event of the key up to here was read into the lane's queue; -1 for none.
        paging: a page of it was asked for and has not come yet.
        poked: an operator wants the head tried now; if that fails, state and schedule stay.
        hurried: how often the target asked it to wait for less than its schedule; a restart forgets it.
        skip: this event is to be skipped as soon as that is on record; the lane waits for it.
    """

    key: str
    head_pos: int
    attempt: int
    ready_at: float
    state: HoldState
    since: float
    last: Outcome | None = None
    last_at: float | None = None
    complete_to: int = -1
    paging: bool = False
    poked: bool = False
    hurried: int = 0
    skip: Skip | None = None

    @property
    def loaded(self) -> bool:
        return self.complete_to >= 0


class Holds:
    """Every hold of one channel, by key; timers, the lowest head, what has changed since a flush.

    `parked` are the keys of those that nobody tries: parked, and not poked since. `taken_over` says of those
    that are not stored yet where they began, and with how many events of their lanes' queues.
    """

    def __init__(self) -> None:
        self.taken_over: dict[str, tuple[int, int]] = {}
        self.parked: set[str] = set()
        self.dirty: set[str] = set()
        self.released: set[str] = set()
        self._by_key: dict[str, Held] = {}
        self.get: Callable[[str], Held | None] = self._by_key.get  # asked for several times at each event
        self._timers: list[tuple[float, str]] = []
        self._heads: list[tuple[int, str]] = []
        self._most_timers = self._most_heads = FEW
        self._offset_seconds = 0.0  # of the wall clock from the monotonic one

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def __iter__(self) -> Iterator[Held]:
        return iter(self._by_key.values())

    def __len__(self) -> int:
        return len(self._by_key)

    def restore(self, holds: Iterable[Hold], *, now: float, wall: float) -> None:
        """Take the stored holds over; `wall` is the wall clock's Unix time of the monotonic `now`.

        A lane never waits longer than it was meant to from its last failure, even if that lies in the future
        of a wall clock that was set back meanwhile.
        """
        self._offset_seconds = wall - now
        for hold in holds:
            meant_seconds = hold.ready_at - (hold.since if hold.last_at is None else hold.last_at)
            wait_seconds = max(0.0, min(hold.ready_at - wall, meant_seconds))
            since = now - max(0.0, wall - hold.since)
            state: HoldState = "held" if hold.state == "slow" else hold.state
            held = Held(hold.key, hold.head_pos, hold.attempt, now + wait_seconds, state, since, hold.last)
            held.last_at = None if hold.last_at is None else now - (wall - hold.last_at)
            self._by_key[hold.key] = held
            self._heads.append((hold.head_pos, hold.key))
            self._note_state(held)
            if state == "held":
                self._timers.append((held.ready_at, hold.key))
        heapq.heapify(self._heads)
        heapq.heapify(self._timers)

    def put(self, held: Held) -> None:
        """Add a hold, or note that it has changed; a `held` one gets a timer."""
        self._by_key[held.key] = held
        self.dirty.add(held.key)
        self.released.discard(held.key)
        self._note_state(held)
        self._note_head(held)
        if held.state == "held" and not held.loaded:
            self._set_timer(held, held.ready_at)

    def advance(self, held: Held, head_pos: int) -> None:
        """The lane's head has moved on; its failures are forgotten."""
        held.head_pos = max(held.head_pos, head_pos)
        held.attempt, held.hurried, held.last, held.last_at, held.poked = 0, 0, None, None, False
        held.state = "held"
        self._note_state(held)
        self.dirty.add(held.key)
        self._note_head(held)

    def wake(self, held: Held, at: float) -> None:
        """Let a hold's page be asked for at `at`, whatever its schedule."""
        self._note_state(held)
        self._set_timer(held, at)
        held.ready_at = min(held.ready_at, at) if held.state == "held" and not held.poked else held.ready_at

    def release(self, key: str) -> None:
        """The hold's events are all settled: its row goes with the next flush."""
        del self._by_key[key]
        self.parked.discard(key)
        self.dirty.discard(key)
        self.released.add(key)
        self.taken_over.pop(key, None)

    def _note_state(self, held: Held) -> None:
        if held.state == "parked" and not held.poked:
            self.parked.add(held.key)
        else:
            self.parked.discard(held.key)

    def _note_head(self, held: Held) -> None:
        heapq.heappush(self._heads, (held.head_pos, held.key))
        if len(self._heads) > self._most_heads:  # outdated ones stay as long as one lane's head is lower
            self._heads = [(one.head_pos, one.key) for one in self]
            heapq.heapify(self._heads)
            self._most_heads = 2 * len(self._heads) + FEW

    def _set_timer(self, held: Held, at: float) -> None:
        heapq.heappush(self._timers, (at, held.key))
        if len(self._timers) > self._most_timers:
            self._timers = [timer for timer in set(self._timers) if self._may_matter(timer)]
            heapq.heapify(self._timers)
            self._most_timers = 2 * len(self._timers) + FEW

    def _may_matter(self, timer: tuple[float, str]) -> bool:
        held = self._by_key.get(timer[1])
        return held is not None and (held.poked or held.ready_at <= timer[0])

    def lowest_head(self) -> int | None:
        """The lowest `head_pos` of all holds; None without holds."""
        while self._heads:
            head_pos, key = self._heads[0]
            held = self._by_key.get(key)
            if held is not None and held.head_pos == head_pos:
                return head_pos
            heapq.heappop(self._heads)
        return None

    def next_timer(self) -> float | None:
        """When the next hold is due; None if none waits for a time."""
        while self._timers:
            at, key = self._timers[0]
            held = self._by_key.get(key)
            if held is not None and not held.loaded and not held.paging and held.skip is None:
                return at
            heapq.heappop(self._timers)
        return None

    def due(self, now: float) -> Held | None:
        """The next hold whose time has come, taken off the timers; None if there is none."""
        while (at := self.next_timer()) is not None and at <= now:
            held = self._by_key[heapq.heappop(self._timers)[1]]
            if held.poked or (held.state == "held" and held.ready_at <= now):
                return held
        return None

    def rows(self, keys: Iterable[str], *, now: float, wall: float) -> tuple[Hold, ...]:
        """The durable values of some holds; one with a skip to be stored as it will be after it."""
        if abs(wall - now - self._offset_seconds) > CLOCK_SET_SECONDS:
            self._offset_seconds = wall - now  # else a schedule that stays would be stored as another one
        offset = self._offset_seconds
        return tuple(self._row(held, offset) for key in keys if (held := self._by_key.get(key)) is not None)

    def _row(self, held: Held, offset: float) -> Hold:
        last_at = None if held.last_at is None else held.last_at + offset
        row = Hold(
            held.key,
            held.head_pos,
            held.attempt,
            held.ready_at + offset,
            held.state,
            held.since + offset,
            held.last,
            last_at,
        )
        if held.skip is None:
            return row
        return Hold(held.key, held.skip.position + 1, 0, row.ready_at, "held", row.since)
