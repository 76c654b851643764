# SPDX-License-Identifier: Apache-2.0
"""Whatever happens, lanes keep order, lose nothing and come to an end (design, section 5)."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fairlead.core.outcome import Outcome
from fairlead.core.retry import RetryPolicy
from fairlead.core.subscription import DeliveryOptions
from tests.effort import examples
from tests.unit.lanes_world import World

KEYS = st.sampled_from("abcd")
WANTED = st.sampled_from([True, True, True, False])
NUMBERS = st.integers(0, 7)
ROLLS = st.sampled_from([0.0, 0.5, 0.99])
FAILURES = st.sampled_from(
    [
        Outcome("unavailable", 503),
        Outcome("unavailable", None, "timeout"),
        Outcome("forbidden"),
        Outcome("rejected", 422),
        Outcome("throttled", 429, retry_after_seconds=3.0),
        Outcome("throttled", 503, retry_after_seconds=30.0),
        Outcome("unavailable", 503, failed=True),
        Outcome("chain", 425),
        Outcome("stale", 409, epoch=7),
        Outcome("gone", 410),
    ]
)
OPTIONS = st.builds(
    DeliveryOptions,
    retry=st.builds(
        RetryPolicy,
        max_attempts=st.sampled_from([None, 1, 2, 3]),
        give_up_after_seconds=st.sampled_from([None, 20.0]),
        max_seconds=st.just(8.0),
    ),
    on_exhausted=st.sampled_from(["park", "skip", "stop"]),
    ack_persist=st.sampled_from(["before_next", "lazy"]),
)


class LanesMachine(RuleBasedStateMachine):
    @initialize(options=OPTIONS, read_ahead=st.integers(2, 6), failures=st.sampled_from([2, 4, 10_000]))
    def begin(self, options: DeliveryOptions, read_ahead: int, failures: int) -> None:
        self.world = World(options, read_ahead=read_ahead, failures=failures)
        self.append("aabac", True, 3)

    @rule(keys=st.text("abcd", min_size=1, max_size=4), wanted=WANTED, count=st.integers(0, 8))
    def append(self, keys: str, wanted: bool, count: int) -> None:
        for key in keys:
            self.world.append(key, wanted=wanted)
        self.world.read(count)
        self.world.send()

    @rule(count=st.integers(1, 8))
    def read(self, count: int) -> None:
        self.world.read(count)

    @rule(count=st.integers(1, 3), max_events=st.integers(1, 3), max_bytes=st.sampled_from([1, 25, 2**40]))
    def send(self, count: int, max_events: int, max_bytes: int) -> None:
        for _ in range(count):
            self.world.send(max_events=max_events, max_bytes=max_bytes)

    @precondition(lambda self: self.world.lanes.caught_up and self.world.flushing is None)
    @rule(count=st.integers(1, 4))
    def go_on(self, count: int) -> None:
        """All is well for a moment."""
        for _ in range(count):
            self.world.turn_pages()
            run = self.world.send()
            if run is not None:
                self.world.answer(run)
            self.world.flush()

    @precondition(lambda self: self.world.flights)
    @rule(which=NUMBERS, count=st.integers(1, 4))
    def deliver(self, which: int, count: int) -> None:
        for _ in range(count):
            flights = self.world.flights
            if flights:
                self.world.answer(flights[which % len(flights)])

    @precondition(lambda self: self.world.flights)
    @rule(which=NUMBERS, good=NUMBERS, outcome=FAILURES, roll=ROLLS)
    def fail(self, which: int, good: int, outcome: Outcome, roll: float) -> None:
        run = self.world.flights[which % len(self.world.flights)]
        self.world.answer(run, outcome, good % len(run.entries), roll=roll)
        self.world.send()

    @precondition(lambda self: self.world.flights)
    @rule(which=NUMBERS, good=NUMBERS, roll=ROLLS, told=st.booleans())
    def lose_the_answer(self, which: int, good: int, roll: float, told: bool) -> None:
        """The receiver took some of a run; the library says so in its next answer, a plain one never."""
        world = self.world
        run = world.flights[which % len(world.flights)]
        last = run.entries[good % len(run.entries)].position
        world.applied[run.key] = max(world.applied.get(run.key, 0), last)
        applied = last if told else None
        world.answer(run, Outcome("unavailable", 503, failed=told, applied=applied), roll=roll)

    @rule(limit=st.integers(0, 3))
    def ask_for_pages(self, limit: int) -> None:
        world = self.world
        world.pages += world.lanes.pages(world.now, limit)
        assert len(world.pages) == len({page.key for page in world.pages}), "a page that is asked for twice"

    @precondition(lambda self: self.world.pages)
    @rule(which=NUMBERS, fails=st.sampled_from([False, False, False, True]))
    def give_page(self, which: int, fails: bool) -> None:
        world = self.world
        index = which % len(world.pages)
        if fails:
            world.lanes.paging.failed(world.pages.pop(index), world.now)
        else:
            world.give_page(index)

    @precondition(lambda self: self.world.flushing is None and self.world.lanes.caught_up)
    @rule()
    def begin_flush(self) -> None:
        self.world.snapshot()

    @precondition(lambda self: self.world.flushing is not None)
    @rule(refused=st.sampled_from([False, False, True]))
    def end_flush(self, refused: bool) -> None:
        if refused:
            self.world.refuse()
            assert self.world.send() is None, "sends what it could not store"
        else:
            self.world.store()

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0, 10.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.world.now += seconds

    @rule()
    def demote(self) -> None:
        self.world.lanes.demote(self.world.now, 2.0)
        for run in self.world.flights:
            if run.started + 2.0 <= self.world.now:
                assert not set(one.position for one in run.entries) & set(self.world.lanes.queues.open)

    @rule(keys=st.none() | st.lists(KEYS, max_size=2), state=st.sampled_from(["held", "parked"]))
    def poke(self, keys: list[str] | None, state: str) -> None:
        self.world.lanes.paging.poke(keys, state, self.world.now)

    @rule()
    def crash(self) -> None:
        self.world.crash()

    @precondition(lambda self: not self.world.flights and self.world.flushing is None)
    @rule()
    def reload(self) -> None:
        self.world.reload()

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.drain()


TestLanes = LanesMachine.TestCase
TestLanes.settings = settings(
    max_examples=examples(150), stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
