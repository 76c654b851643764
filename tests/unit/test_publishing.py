# SPDX-License-Identifier: Apache-2.0
"""A channel's events on a bus (design, section 6): `core/publishing`, `core/window` and the chain."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fairlead.core.answer import AnswerDocument, AnswerResult
from fairlead.core.chain import Memory, conclude, decide
from fairlead.core.channel import ChannelId, ChannelState, Fence, Hold, Progress
from fairlead.core.lanes import Lanes
from fairlead.core.log import Entry
from fairlead.core.retry import RetryPolicy
from fairlead.core.stamps import Stamps
from fairlead.core.subscription import DeliveryOptions
from fairlead.core.window import Sent, Window
from tests.unit.lanes_world import DOWN, WALL, breaker, entry

CHANNEL = ChannelId("s", 0)
OPTIONS = DeliveryOptions(receiver="library", settles="applied", retry=RetryPolicy(jitter="none"))
Fault = Literal["none", "failed", "rejected"]
FAULTS: tuple[Fault, ...] = ("none", "none", "none", "failed", "rejected")


@dataclass
class Receiver:
    """Rules 1 to 6 over a dictionary; what it applied, per key, in that order."""

    applied: dict[str, list[int]] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)

    def take(self, stamps: Stamps, key: str, fault: Fault) -> AnswerDocument | None:
        mine = self.applied.setdefault(key, [])
        held = Memory(
            self.memory.generation,
            self.memory.epoch,
            self.memory.seq,
            self.memory.floor,
            mine[-1] if mine else 0,
        )
        decision = decide(held, stamps)
        if decision.ruling == "stale":
            return None
        result: AnswerResult = "duplicate" if decision.ruling == "duplicate" else "chain"
        if decision.ruling == "apply":
            result = "applied" if fault == "none" else fault
            if result == "applied":
                mine.append(stamps.pos)
        self.memory = conclude(decision.memory, stamps, applied=result == "applied")
        return AnswerDocument(
            subscription="s",
            partition=0,
            generation=stamps.generation,
            epoch=stamps.epoch,
            seq=stamps.seq,
            key=key,
            result=result,
            applied=self.memory.settled,
        )


class Bus:
    """One channel on a bus without a broker's reliability: what is published lies in `queue`."""

    def __init__(self, window: int = 4) -> None:
        self.now = 0.0
        self.epoch = 1
        self.log: list[Entry] = []
        self.queue: list[tuple[Stamps, str]] = []
        self.answers: list[AnswerDocument] = []
        self.receiver = Receiver()
        self.most_under_way = 0
        self.rows: dict[str, Hold] = {}
        state = ChannelState(Fence(CHANNEL, 1, 1, 1), Progress())
        self.lanes = Lanes(state, OPTIONS, breaker(), read_ahead=8, window=Window(window), now=0.0, wall=WALL)
        self.lanes.bus.begin(0.0, chained=True)

    def append(self, key: str) -> None:
        self.log.append(entry(len(self.log) + 1, key))

    def read(self) -> None:
        while self.lanes.wants_more and self.lanes.cursor < len(self.log):
            self.lanes.read(copy(self.log[self.lanes.cursor]), True)  # each reading makes its own

    def publish(self, most: int = 1000) -> list[Sent]:
        made: list[Sent] = []
        while len(made) < most and (sent := self.lanes.next_to_publish(self.now)) is not None:
            made.append(sent)
            place = sent.entry.position
            stamps = Stamps(CHANNEL, 1, self.epoch, self.lanes.floor(), place, sent.prev, sent.seq)
            self.queue.append((stamps, sent.entry.key))
        self.most_under_way = max(self.most_under_way, len(self.lanes.bus.window))
        return made

    def deliver(self, index: int = 0, fault: Fault = "none", *, keep: bool = False) -> None:
        stamps, key = self.queue[index] if keep else self.queue.pop(index)
        answer = self.receiver.take(stamps, key, fault)
        if answer is not None:
            self.answers.append(answer)

    def hear(self, index: int = 0, *, keep: bool = False) -> None:
        answer = self.answers[index] if keep else self.answers.pop(index)
        in_epoch = answer.epoch == self.epoch
        self.lanes.answered(answer, in_epoch=in_epoch, now=self.now, wall=WALL + self.now, roll=0.0)

    def turn_pages(self) -> None:
        for page in self.lanes.pages(self.now, 16):
            within = range(page.first, page.last + 1)
            rows = [one for one in self.log if one.key == page.key and one.position in within]
            complete_to = page.last if len(rows) <= 2 else rows[1].position
            self.lanes.page(page, [copy(row) for row in rows[:2]], complete_to)

    def flush(self) -> Progress:
        snapshot = self.lanes.snapshot(now=self.now, wall=WALL + self.now)
        self.lanes.stored(snapshot, self.now)
        self.rows |= {row.key: row for row in snapshot.holds}
        for key in snapshot.released:
            self.rows.pop(key, None)
        return snapshot.progress

    def load(self) -> None:
        """Forget the channel but for what is under way, and read it anew, as an owner does."""
        self.read()
        state = ChannelState(Fence(CHANNEL, 1, 1, self.epoch), self.flush(), tuple(self.rows.values()))
        window = self.lanes.bus.window
        wall = WALL + self.now
        self.lanes = Lanes(state, OPTIONS, breaker(), read_ahead=8, window=window, now=self.now, wall=wall)
        self.lanes.bus.chain(chained=True)

    def begin_epoch(self) -> None:
        self.epoch += 1
        self.lanes.bus.begin(self.now, chained=True)

    def settled(self) -> list[int]:
        """The positions that the relay counts as settled; the truth is what the receiver applied."""
        held = {one.key: one.head_pos for one in self.lanes.holds}
        open_positions = set(self.lanes.queues.open)
        return [
            one.position
            for one in self.log[: self.lanes.cursor]
            if one.position not in open_positions and not (one.key in held and one.position >= held[one.key])
        ]


def test_a_window_counts_from_one_in_each_epoch_and_forgets_what_is_answered() -> None:
    window = Window(2)
    first, second = window.admit(entry(1), 0, 1, 0.0), window.admit(entry(2), 1, 1, 1.0)
    assert (first.seq, second.seq, window.has_room) == (1, 2, False)
    assert window.take(1, "another") is None, "an answer for another key leaves it where it is"
    assert window.take(1, "a") is first
    assert window.take(1, "a") is None
    window.confirm(second)
    assert window.oldest_unconfirmed is None
    assert window.oldest == 1.0
    window.begin()
    assert window.admit(entry(2), 0, 1, 2.0).seq == 1
    assert not window.is_present(second)


def test_a_confirm_of_an_earlier_epoch_confirms_nothing() -> None:
    window = Window(2)
    old = window.admit(entry(1), 0, 1, 0.0)
    window.begin()
    window.admit(entry(1), 0, 1, 1.0)
    window.confirm(old)
    assert window.oldest_unconfirmed == 1.0


def test_an_answer_settles_what_it_lists_however_late_and_nothing_above_what_was_sent() -> None:
    bus = Bus()
    for key in "aab":
        bus.append(key)
    bus.read()
    bus.publish()
    bus.deliver()
    bus.deliver()
    bus.answers = [msgspec.structs.replace(bus.answers[-1], applied=10**17)]
    bus.hear()
    bus.append("a")
    bus.read()
    assert [sent.entry.position for sent in bus.publish()] == [4], "a lie about the future settles none of it"


def test_a_lane_whose_answer_is_overtaken_and_late_gets_a_hold_and_is_not_published_twice() -> None:
    bus = Bus()
    bus.append("a")
    bus.append("b")
    bus.read()
    bus.publish()
    bus.now = 1.0
    bus.deliver(1)
    bus.hear()
    bus.now = 2.5
    bus.lanes.demote(bus.now, 2.0)
    (held,) = bus.lanes.holds
    assert (held.key, held.state) == ("a", "slow")
    assert bus.lanes.low_water == 2
    bus.turn_pages()
    assert bus.publish() == []
    bus.deliver(0)
    bus.hear()
    bus.turn_pages()
    assert bus.settled() == [1, 2]


def test_what_nobody_answers_for_is_sent_again_and_counts_as_no_attempt() -> None:
    bus = Bus()
    bus.append("a")
    bus.read()
    bus.publish()
    bus.now = 15.0
    bus.lanes.bus.give_up(bus.now, 15.0)
    (again,) = bus.publish()
    assert (again.entry.position, again.attempt, again.seq) == (1, 1, 2)


def test_what_fails_after_its_channel_was_read_anew_is_tried_again() -> None:
    bus = Bus()
    bus.append("a")
    bus.append("a")
    bus.read()
    bus.publish()
    bus.load()
    bus.read()
    assert bus.publish() == [], "both are still under way"
    bus.deliver(0, "failed")
    bus.hear()
    bus.now = 400.0
    bus.turn_pages()
    assert [sent.entry.position for sent in bus.publish()] == [1]


def test_what_still_fails_over_rest_opens_no_breaker_on_the_bus() -> None:
    state = ChannelState(Fence(CHANNEL, 1, 1, 1), Progress())
    lanes = Lanes(state, OPTIONS, breaker(2), read_ahead=8, window=Window(4), now=0.0, wall=WALL)
    for position in range(1, 5):
        lanes.read(entry(position, f"k{position}"), True)
    runs = [run for _ in range(4) if (run := lanes.next(0.0)) is not None]
    for run in runs[:2]:
        lanes.resolve(run, [DOWN], now=1.0, wall=WALL, roll=0.0)
    assert lanes.breaker.is_open, "so the channel leaves for the bus"
    lanes.bus.begin(1.0, chained=True)
    lanes.breaker.reset()
    for run in runs[2:]:
        lanes.resolve(run, [DOWN], now=2.0, wall=WALL, roll=0.0)
    assert not lanes.breaker.is_open
    assert lanes.wants_more


class Anything(RuleBasedStateMachine):
    """Loss, duplicates, disorder, failures, epochs: order holds; nothing is settled that was not applied."""

    def __init__(self) -> None:
        super().__init__()
        self.bus = Bus()

    @rule(key=st.sampled_from("abc"))
    def append(self, key: str) -> None:
        if len(self.bus.log) < 24:
            self.bus.append(key)

    @rule()
    def read(self) -> None:
        self.bus.read()

    @rule(most=st.integers(1, 3))
    def publish(self, most: int) -> None:
        self.bus.publish(most)

    @precondition(lambda self: self.bus.queue)
    @rule(data=st.data(), fault=st.sampled_from(FAULTS), keep=st.booleans())
    def deliver(self, data: st.DataObject, fault: Fault, keep: bool) -> None:
        self.bus.deliver(data.draw(st.integers(0, len(self.bus.queue) - 1)), fault, keep=keep)

    @precondition(lambda self: self.bus.queue)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        self.bus.queue.pop(data.draw(st.integers(0, len(self.bus.queue) - 1)))

    @precondition(lambda self: self.bus.answers)
    @rule(data=st.data(), keep=st.booleans())
    def hear(self, data: st.DataObject, keep: bool) -> None:
        self.bus.hear(data.draw(st.integers(0, len(self.bus.answers) - 1)), keep=keep)

    @precondition(lambda self: self.bus.answers)
    @rule()
    def lose_answer(self) -> None:
        self.bus.answers.pop()

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.bus.now += seconds
        self.bus.lanes.demote(self.bus.now, 2.0)
        self.bus.lanes.bus.give_up(self.bus.now, 15.0)

    @rule()
    def pages(self) -> None:
        self.bus.turn_pages()

    @rule()
    def flush(self) -> None:
        self.bus.flush()

    @rule()
    def load(self) -> None:
        self.bus.load()

    @rule()
    def new_epoch(self) -> None:
        self.bus.begin_epoch()

    @rule(key=st.sampled_from("abc"))
    def release(self, key: str) -> None:
        self.bus.lanes.paging.poke([key], None, self.bus.now)

    @invariant()
    def the_window_is_bounded(self) -> None:
        assert self.bus.most_under_way <= self.bus.lanes.bus.window.capacity

    @invariant()
    def applied_in_order_once_and_without_a_gap(self) -> None:
        for key, applied in self.bus.receiver.applied.items():
            mine = [one.position for one in self.bus.log if one.key == key]
            assert applied == mine[: len(applied)]

    @invariant()
    def nothing_is_settled_that_was_not_applied(self) -> None:
        for position in self.bus.settled():
            key = self.bus.log[position - 1].key
            assert position in self.bus.receiver.applied.get(key, ())

    def teardown(self) -> None:
        """All is well from now on: everything is applied, and settled."""
        bus = self.bus
        for _ in range(200):
            bus.now += 400.0
            bus.lanes.bus.give_up(bus.now, 15.0)
            bus.lanes.paging.poke(None, "parked", bus.now)
            steps: tuple[Callable[[], object], ...] = (bus.read, bus.turn_pages, bus.publish)
            for step in steps:
                step()
            while bus.queue:
                bus.deliver()
            while bus.answers:
                bus.hear()
            bus.flush()
            if len(bus.settled()) == len(bus.log):
                return
        raise AssertionError(f"never settled: {sorted(set(range(1, len(bus.log) + 1)) - set(bus.settled()))}")


TestAnything = Anything.TestCase
