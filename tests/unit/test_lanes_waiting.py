# SPDX-License-Identifier: Apache-2.0
"""Held lanes that change while a page of theirs is read: none stands still, and none goes too early."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import pytest

from fairlead.core.answer import AnswerDocument
from fairlead.core.channel import ChannelState, Fence, Progress
from fairlead.core.holds import Held, Holds
from fairlead.core.lanes import Lanes
from fairlead.core.paging import LanePage
from fairlead.core.retry import RetryPolicy
from fairlead.core.subscription import DeliveryOptions
from fairlead.core.window import Window
from tests.unit.lanes_world import DOWN, WALL, World, breaker, entry
from tests.unit.test_publishing import CHANNEL, OPTIONS


class Slow:
    """A channel on a bus, its events `keys` published; `b` is answered, so `a` is slow and has a hold."""

    def __init__(self, options: DeliveryOptions, keys: str) -> None:
        state = ChannelState(Fence(CHANNEL, 1, 1, 1), Progress())
        self.keys = keys
        self.lanes = Lanes(state, options, breaker(), read_ahead=8, window=Window(8), now=0.0, wall=WALL)
        self.lanes.bus.chain(chained=True)
        for position, key in enumerate(keys, 1):
            self.lanes.read(entry(position, key), True)
        self.sent = {}
        while (sent := self.lanes.next_to_publish(0.0)) is not None:
            self.sent[sent.entry.position] = sent.seq
        self.hear(keys.index("b") + 1, "applied", keys.index("b") + 1, 3.0)
        self.lanes.demote(3.0, 2.0)
        held = self.lanes.holds.get("a")
        assert held is not None
        assert held.state == "slow"

    def hear(
        self, position: int, result: Literal["applied", "failed", "rejected"], applied: int, now: float
    ) -> None:
        answer = AnswerDocument(
            subscription="s", partition=0, generation=1, epoch=1, seq=self.sent[position],
            key=self.keys[position - 1], result=result, applied=applied,
        )  # fmt: skip
        self.lanes.answered(answer, in_epoch=True, now=now, wall=WALL + now, roll=0.0)

    def turn(self, page: LanePage) -> None:
        rows = [entry(position, key) for position, key in enumerate(self.keys, 1) if key == page.key]
        self.lanes.page(page, [row for row in rows if row.position >= page.first], page.last)

    def flush(self, now: float) -> None:
        self.lanes.stored(self.lanes.snapshot(now=now, wall=WALL + now), now)

    @property
    def state(self) -> str:
        held = self.lanes.holds.get("a")
        return "" if held is None else held.state


@pytest.mark.parametrize("result", ["failed", "rejected"])
def test_a_page_that_was_asked_for_before_its_lane_failed_sends_nothing(
    result: Literal["failed", "rejected"],
) -> None:
    slow = Slow(OPTIONS, "aaba")
    slow.hear(1, "applied", 1, 3.1)
    (page,) = slow.lanes.pages(3.1, 16)
    slow.hear(2, result, 1, 3.1)
    slow.turn(page)
    assert slow.lanes.next_to_publish(3.2) is None
    assert slow.state == ("held" if result == "failed" else "parked")


def test_a_lane_that_failed_after_it_had_asked_for_a_page_waits_for_its_time() -> None:
    slow = Slow(OPTIONS, "aaba")
    slow.hear(1, "applied", 1, 3.1)
    slow.hear(2, "rejected", 1, 3.1)
    assert slow.lanes.pages(3.2, 16) == []


def test_a_page_that_comes_before_a_skip_is_stored_neither_sends_it_nor_keeps_its_lane() -> None:
    slow = Slow(replace(OPTIONS, on_exhausted="skip"), "aaba")
    slow.hear(1, "applied", 1, 3.1)
    (page,) = slow.lanes.pages(3.1, 16)
    slow.hear(2, "rejected", 1, 3.1)
    slow.turn(page)
    assert slow.lanes.next_to_publish(3.2) is None
    slow.flush(3.3)
    for page in slow.lanes.pages(3.4, 16):
        slow.turn(page)
    sent = slow.lanes.next_to_publish(3.4)
    assert sent is not None
    assert sent.entry.position == 4


def test_what_fails_at_the_head_of_a_slow_lane_counts_though_its_hold_begins_before_it() -> None:
    slow = Slow(OPTIONS, "aba")
    slow.hear(1, "applied", 1, 3.1)
    slow.hear(3, "rejected", 1, 3.1)
    assert slow.state == "parked"


def parked_behind_an_open_breaker(keys: str) -> World:
    """Every lane so far failed until it was parked, which opened the breaker."""
    options = DeliveryOptions(retry=RetryPolicy(jitter="none", max_attempts=3))
    world = World(options, failures=2)
    for key in keys:
        world.append(key)
    world.read()
    while (due := world.lanes.next_due(world.now)) is not None or world.lanes.queues.has_ready:
        world.now = max(world.now, due or 0.0)
        world.turn_pages()
        while (run := world.send()) is not None:
            world.answer(run, DOWN)
        world.flush()
    assert {held.state for held in world.lanes.holds} == {"parked"}
    assert world.lanes.breaker.is_open
    return world


def test_an_open_breaker_with_every_lane_parked_reads_on_for_one_to_probe() -> None:
    world = parked_behind_an_open_breaker("ab")
    world.append("c")
    world.now += 400.0
    world.read()
    run = world.send()
    assert run is not None
    assert run.key == "c"


def test_an_open_breaker_reads_on_until_there_are_two_lanes_to_probe() -> None:
    world = parked_behind_an_open_breaker("abc")
    lanes = world.lanes
    assert lanes.wants_more, "nobody tries a parked lane"
    world.append("d")
    world.read()
    world.now += 400.0
    run = world.send()
    assert run is not None
    world.answer(run, DOWN)
    assert lanes.wants_more, "a held lane is one"
    world.flush()
    world.now += 400.0
    world.turn_pages()
    assert lanes.queues.has_ready
    assert lanes.wants_more, "a held lane whose events are in memory is still one"
    lanes.paging.poke(["b"], None, world.now)
    lanes.breaker.is_open = True  # what a poke closes is opened by the next failures
    assert not lanes.wants_more, "a parked lane that an operator wants tried is the second"


def test_no_number_of_parked_lanes_is_walked_at_each_question_for_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = parked_behind_an_open_breaker("abcdef")

    def walked(holds: Holds) -> Iterator[Held]:
        raise AssertionError(f"all {len(holds)} holds are walked")

    monkeypatch.setattr(Holds, "__iter__", walked)
    assert world.lanes.wants_more
