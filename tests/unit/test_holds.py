# SPDX-License-Identifier: Apache-2.0
"""Held lanes in memory: timers, the lowest head, and what is still to be stored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.channel import Hold
from fairlead.core.holds import FEW, Held, Holds
from fairlead.core.outcome import Outcome

WALL = 1_795_359_000.0
DOWN = Outcome("unavailable", 503)


def held(key: str = "a", head_pos: int = 1, ready_at: float = 10.0) -> Held:
    return Held(key, head_pos, 1, ready_at, "held", 0.0, DOWN, 0.0)


def test_a_row_comes_back_as_it_was_stored() -> None:
    row = Hold("a", 7, 3, WALL + 60.0, "held", WALL - 5.0, DOWN, WALL - 1.0)
    holds = Holds()
    holds.restore([row], now=100.0, wall=WALL)
    assert holds.rows(["a"], now=100.0, wall=WALL) == (row,)
    assert holds.next_timer() == 160.0
    assert not holds.dirty


def test_a_schedule_that_stays_is_stored_again_as_it_was() -> None:
    holds = Holds()
    holds.put(held())
    (row,) = holds.rows(["a"], now=1.0, wall=WALL)
    assert holds.rows(["a"], now=60.000002, wall=WALL + 59.0) == (row,)  # the clocks are read one by one
    (later,) = holds.rows(["a"], now=61.0, wall=WALL + 120.0)
    assert later.ready_at == row.ready_at + 60.0  # it was set


def test_a_slow_lane_comes_back_as_a_held_one_and_a_parked_one_has_no_timer() -> None:
    holds = Holds()
    slow, parked = (Hold(key, 1, 0, WALL, state, WALL) for key, state in (("a", "slow"), ("b", "parked")))  # type: ignore[arg-type]
    holds.restore([slow, parked], now=0.0, wall=WALL)
    due = holds.due(0.0)
    assert due is not None
    assert (due.key, due.state) == ("a", "held")
    assert holds.due(1e9) is None


def test_a_wall_clock_that_was_set_back_makes_nobody_wait_for_ever_and_none_negative() -> None:
    holds = Holds()
    holds.restore([Hold("a", 1, 1, WALL - 3600.0, "held", WALL + 50.0, DOWN)], now=5.0, wall=WALL)
    assert holds.next_timer() == 5.0
    found = holds.get("a")
    assert found is not None
    assert found.since == 5.0


def test_a_wall_clock_that_was_set_back_lets_a_lane_wait_for_its_back_off_and_no_longer() -> None:
    holds = Holds()
    failed_at = WALL + 3600.0
    holds.restore([Hold("a", 1, 1, failed_at + 30.0, "held", failed_at, DOWN, failed_at)], now=5.0, wall=WALL)
    assert holds.next_timer() == 35.0


def test_they_are_due_in_the_order_of_their_times() -> None:
    holds = Holds()
    for key, at in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
        holds.put(held(key, ready_at=at))
    assert holds.due(0.5) is None
    order = [due.key for _ in range(3) if (due := holds.due(9.0)) is not None]
    assert order == ["b", "c", "a"]


def test_an_outdated_timer_wakes_nobody() -> None:
    holds = Holds()
    one = held(ready_at=1.0)
    holds.put(one)
    one.ready_at = 8.0
    holds.put(one)
    assert holds.due(5.0) is None
    assert holds.due(8.0) is one


def test_a_hold_made_again_before_the_flush_is_not_released() -> None:
    holds = Holds()
    holds.put(held())
    holds.dirty.clear()
    holds.release("a")
    assert holds.released == {"a"}
    holds.put(held(head_pos=9))
    assert not holds.released
    assert holds.dirty == {"a"}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50), st.booleans()), max_size=60))
def test_the_lowest_head_is_the_lowest_of_those_there_are(steps: list[tuple[str, int, bool]]) -> None:
    holds = Holds()
    for key, head_pos, release in steps:
        found = holds.get(key)
        if found is None:
            holds.put(held(key, head_pos))
        elif release:
            holds.release(key)
        else:
            holds.advance(found, head_pos)
        heads = [one.head_pos for one in holds]
        assert holds.lowest_head() == (min(heads) if heads else None)


def test_one_parked_lane_does_not_keep_every_head_and_timer_that_ever_was() -> None:
    holds = Holds()
    parked, busy = held("parked", 1), held("busy", 2)
    parked.state = "parked"
    holds.put(parked)
    holds.put(busy)
    for number in range(20_000):
        holds.advance(busy, number)
        busy.ready_at = 1e6 + number
        holds.put(busy)
    assert len(holds._heads) <= 2 * FEW + 4
    assert len(holds._timers) <= 2 * FEW + 4
    assert holds.lowest_head() == 1
    assert holds.due(1e6 + 19_998) is None
    assert holds.due(1e6 + 19_999) is busy
