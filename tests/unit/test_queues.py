# SPDX-License-Identifier: Apache-2.0
"""A channel's events in memory: queues, what is open, which keys are ready."""

from __future__ import annotations

from fairlead.core.queues import Queues, Run
from tests.unit.lanes_world import entry


def queues(keys: str) -> Queues:
    made = Queues()
    for position, key in enumerate(keys, 1):
        made.push(entry(position, key, size=position))
        made.enlist(key)
    return made


def fly(made: Queues, key: str) -> Run:
    return made.depart(key, 0.0, 1, max_events=1, max_bytes=1)


def test_ready_keys_come_in_the_order_of_their_first_event_and_once_each() -> None:
    made = queues("abacb")
    assert [made.next_ready() for _ in range(4)] == ["a", "b", "c", None]


def test_a_key_in_flight_or_waiting_is_not_ready() -> None:
    made = queues("ab")
    run = fly(made, "a")
    made.lane("b").waiting = True
    assert made.next_ready() is None
    made.land(run)
    made.enlist("a")
    made.enlist("b")
    assert made.next_ready() == "a"
    assert made.next_ready() is None


def test_a_key_that_is_put_back_is_the_first_again() -> None:
    made = queues("ab")
    assert made.next_ready() == "a"
    made.put_back("a")
    assert [made.next_ready() for _ in range(3)] == ["a", "b", None]


def test_settling_closes_positions_and_their_bytes_and_leaves_nothing_behind() -> None:
    made = queues("aab")
    assert made.open_bytes == sum(one.event.size for lane in "ab" for one in made.lane(lane).queue)
    made.settle("a", 1)
    assert list(made.open) == [2, 3]
    made.settle("a", 99)
    made.drop("b")
    assert not made.open
    assert made.open_bytes == 0
    while made.next_ready() is not None:
        made.tidy("a")
    assert len(made) == 0


def test_the_page_of_a_held_lane_is_not_open_its_hold_covers_it() -> None:
    made = queues("")
    made.fill("a", [entry(4, "a"), entry(6, "a")])
    assert not made.open
    made.settle("a", 4)
    assert [one.position for one in made.lane("a").queue] == [6]
    assert made.open_bytes == 0
