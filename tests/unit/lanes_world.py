# SPDX-License-Identifier: Apache-2.0
"""A log, a store, a receiver and `Lanes` between them, with a naive model that knows the truth.

The model keeps every position's key, what the receiver has got and what is skipped on record; whatever the
lanes do is held against it. Nothing here is clever: it is small lists that are searched again each time.
"""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.core.breaker import Breaker
from fairlead.core.channel import ChannelFlush, ChannelId, ChannelState, Fence, Hold, Progress
from fairlead.core.event import Event
from fairlead.core.lanes import UNBOUNDED, Lanes
from fairlead.core.log import Entry
from fairlead.core.outcome import DELIVERED, Outcome
from fairlead.core.paging import LanePage
from fairlead.core.queues import Run
from fairlead.core.settling import Verdict
from fairlead.core.subscription import DeliveryOptions
from fairlead.engine.sending.ledger import Ledger
from fairlead.ports import Answer

WALL = 1_795_359_000.0
PAGE_ENTRIES = 2
DOWN = Outcome("unavailable", 503)
REJECTED = Outcome("rejected", 422)


def entry(position: int, key: str = "a", size: int = 10) -> Entry:
    attributes = {"specversion": "1.0", "id": str(position), "source": "/s", "type": "t", "subject": key}
    return Entry(0, position, key, Event.of(attributes, b"x" * size, "text"), WALL)


def breaker(failures: int = 10_000) -> Breaker:
    return Breaker(failures, probe_every_seconds=5.0, probe_max_seconds=40.0)


class World:
    """One channel's. `now` is the monotonic time; `WALL` is the wall clock's at its 0."""

    def __init__(
        self, options: DeliveryOptions | None = None, *, read_ahead: int = 6, failures: int = 10_000
    ) -> None:
        self.options = options or DeliveryOptions()
        self.read_ahead = read_ahead
        self.failures = failures
        self.now = 0.0
        self.log: list[Entry] = []
        self.wanted: set[int] = set()
        self.applied: dict[str, int] = {}  # per key, how far the receiver has got
        self.skipped: set[int] = set()  # on record
        self.fence = Fence(ChannelId("s", 0), 1, 1, 1)
        self.progress = Progress()
        self.held: dict[str, Hold] = {}
        self.ledger = Ledger()
        self.told: set[int] = set()  # what this process was told is delivered: never sent again by it
        self.flights: list[Run] = []
        self.pages: list[LanePage] = []
        self.flushing: ChannelFlush | None = None
        self.lanes = self.load()

    # -- what happens --------------------------------------------------------------------------------------

    def append(self, key: str = "a", *, wanted: bool = True) -> int:
        position = len(self.log) + 1
        self.log.append(entry(position, key))
        if wanted:
            self.wanted.add(position)
        return position

    def load(self) -> Lanes:
        """As the owner does it: from what is stored, and what was settled since in this process."""
        state = ChannelState(self.fence, self.progress, tuple(self.held.values()))
        lanes = Lanes(
            state,
            self.options,
            breaker(self.failures),
            read_ahead=self.read_ahead,
            now=self.now,
            wall=WALL + self.now,
            settled=self.ledger.settled,
        )
        self.flights, self.pages, self.flushing = [], [], None
        return lanes

    def crash(self) -> None:
        """The process dies: requests in flight, what was read, what was not stored."""
        self.ledger = Ledger()
        self.told = set()
        self.lanes = self.load()

    def reload(self) -> None:
        """The channel is read again within the process; nothing is in flight, nothing is being stored."""
        assert not self.flights
        assert self.flushing is None
        self.lanes = self.load()

    def read(self, count: int = UNBOUNDED) -> None:
        """Read on as far as the lanes want, at most `count` entries."""
        while count and self.lanes.wants_more and self.lanes.cursor < len(self.log):
            one = self.log[self.lanes.cursor]
            if one.position in self.wanted or one.position % 2:
                self.lanes.read(one, one.position in self.wanted)
            else:
                self.lanes.passed(one.position)
            count -= 1

    def turn_pages(self, limit: int = 16) -> None:
        """Ask for pages and read them."""
        self.pages += self.lanes.pages(self.now, limit)
        while self.pages:
            self.give_page(0)

    def give_page(self, index: int) -> None:
        page = self.pages.pop(index)
        rows = [one for one in self.log if one.key == page.key and page.first <= one.position <= page.last]
        rows = rows[:PAGE_ENTRIES]
        complete_to = page.last if len(rows) < PAGE_ENTRIES else rows[-1].position
        self.lanes.page(page, [one for one in rows if one.position in self.wanted], complete_to)

    def send(self, *, max_events: int = 1, max_bytes: int = UNBOUNDED) -> Run | None:
        """The next run; checks that it may be sent."""
        down, busy = self.lanes.breaker.is_open, bool(self.flights)
        run = self.lanes.next(self.now, max_events=max_events, max_bytes=max_bytes)
        if run is not None:
            assert not down or (not busy and self.now >= self.lanes.breaker.probe_at), "not a probe"
            assert run.key not in [other.key for other in self.flights], "two requests of one lane"
            self.check_run(run)
            self.flights.append(run)
        return run

    def answer(self, run: Run, outcome: Outcome = DELIVERED, good: int = 0, *, roll: float = 0.0) -> Verdict:
        """The receiver takes the first `good` events of a run, and `outcome` is what came of the next."""
        self.flights.remove(run)
        good = len(run.entries) if outcome is DELIVERED else good
        for one in run.entries[:good]:
            self.applied[run.key] = max(self.applied.get(run.key, 0), one.position)
        rest = len(run.entries) - good
        outcomes = [DELIVERED] * good + [outcome] * rest
        verdict = self.lanes.resolve(run, outcomes, now=self.now, wall=WALL + self.now, roll=roll)
        self.told |= {one.position for one in run.entries[: verdict.delivered]}
        self.ledger.record(run, verdict, Answer(tuple(outcomes), 1, WALL), self.fence)
        return verdict

    def snapshot(self) -> ChannelFlush:
        self.flushing = self.ledger.write(
            self.lanes, self.fence, None, everything=True, now=self.now, wall=WALL + self.now
        )
        return self.flushing

    def store(self) -> None:
        """The flush is on disk."""
        flush = self.flushing
        assert flush is not None
        assert flush.progress is not None
        self.progress = flush.progress
        for key in flush.released:
            self.held.pop(key, None)
        self.held.update((hold.key, hold) for hold in flush.holds)
        self.skipped |= {skip.position for skip in flush.skips}
        self.check_stored()
        self.flushing = None
        self.ledger.written(self.lanes, self.now)

    def refuse(self) -> None:
        self.flushing = None
        self.ledger.refused(self.lanes)

    def flush(self) -> None:
        self.snapshot()
        self.store()

    # -- the truth -----------------------------------------------------------------------------------------

    def lane(self, key: str) -> list[int]:
        return [one.position for one in self.log if one.key == key and one.position in self.wanted]

    def is_settled(self, position: int) -> bool:
        key = self.log[position - 1].key
        return position <= self.applied.get(key, 0) or position in self.skipped

    def owed(self) -> list[int]:
        return [position for position in sorted(self.wanted) if not self.is_settled(position)]

    def is_stored(self, key: str, position: int) -> bool:
        """Whether after a crash a position would not be sent again."""
        progress, hold = self.progress, self.held.get(key)
        done = any(first <= position <= last for first, last in progress.done)
        if not done and position > progress.low_water:
            return False
        return hold is None or not hold.head_pos <= position <= progress.scan_pos

    # -- what must hold ------------------------------------------------------------------------------------

    def check_run(self, run: Run) -> None:
        positions = [one.position for one in run.entries]
        earlier = [position for position in self.lane(run.key) if position < positions[0]]
        assert all(self.is_settled(position) for position in earlier), "overtakes an unsettled event"
        between = [position for position in self.lane(run.key) if positions[0] <= position <= positions[-1]]
        assert positions == between, "a run with a hole"
        assert not self.told.intersection(positions), "sends again what it knows to be delivered"
        if self.options.ack_persist == "before_next":
            assert all(self.is_stored(run.key, position) for position in earlier), (
                "did not wait for the flush"
            )

    def check_stored(self) -> None:
        """What is stored covers nothing that is unsettled, but by a hold."""
        progress = self.progress
        assert progress.low_water <= progress.scan_pos
        for position in self.owed():
            if position <= progress.scan_pos:
                assert not self.is_stored(self.log[position - 1].key, position), f"{position} would be lost"

    def check(self) -> None:
        """Each unsettled position that was read is in exactly one place; the floor is below all of them."""
        lanes, owed = self.lanes, self.owed()
        in_memory = {one.position for lane in lanes.queues._lanes.values() for one in lane.queue}
        for position in owed:
            held = lanes.holds.get(self.log[position - 1].key)
            covered = held is not None and held.head_pos <= position <= lanes.scan_pos
            is_open = position in lanes.queues.open
            if position <= lanes.cursor:
                assert covered != is_open, f"{position}: open {is_open}, covered by a hold {covered}"
                assert not is_open or position in in_memory
        if owed and lanes.caught_up:
            assert lanes.floor() < owed[0], f"flfloor {lanes.floor()} covers {owed[0]}"
        self.check_bounds()

    def check_bounds(self) -> None:
        queues, holds = self.lanes.queues, self.lanes.holds
        assert len(queues.open) <= self.read_ahead
        assert list(queues.open) == sorted(queues.open)
        assert queues.open_bytes == sum(self.log[position - 1].event.size for position in queues.open)
        assert len(queues) <= len(queues.open) + len(holds) + len(self.waiting()) + queues.ready_count
        assert set(queues.flights) == set(self.flights)
        assert holds.parked == {held.key for held in holds if held.state == "parked" and not held.poked}

    def waiting(self) -> Sequence[str]:
        return [key for key, lane in self.lanes.queues._lanes.items() if lane.waiting]

    # -- the end -------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """The receiver is well and the store takes everything: what is owed is delivered in finite steps."""
        if self.flushing is not None:
            self.store()
        for late in list(self.flights):
            self.answer(late)
        while self.pages:
            self.give_page(0)
        self.lanes.paging.poke(None, "parked", self.now)
        for _ in range(20 * len(self.log) + 40):
            self.read()
            self.turn_pages()
            while (run := self.send()) is not None:
                self.answer(run)
            self.check()
            self.flush()
            if self.lanes.cursor == len(self.log) and not (
                self.owed() or self.lanes.holds or self.lanes.changed
            ):
                break
            if (due := self.lanes.next_due(self.now)) is not None:
                self.now = max(self.now, due)
        assert not self.owed(), f"never delivered: {self.owed()}"
        assert not self.lanes.holds, "a hold that covers nothing stays for ever"
        assert self.progress == Progress(len(self.log), len(self.log))
