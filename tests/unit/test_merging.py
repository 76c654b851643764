# SPDX-License-Identifier: Apache-2.0
"""Several queues as one order: by time across them, as it came within each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.merging import Merge

WINDOW = 0.0625


def merge(inlets: int = 2) -> Merge[str]:
    return Merge(inlets, WINDOW)


def drained(one: Merge[str], now: float) -> list[str]:
    found = []
    while (item := one.take(now)) is not None:
        found.append(item)
    return found


def test_a_single_queue_waits_for_nothing() -> None:
    one = merge(1)
    one.put(0, "late", 9.0, now=0.0)
    one.put(0, "early", 1.0, now=0.0)
    assert one.wait_seconds(0.0) == 0.0
    assert drained(one, 0.0) == ["late", "early"]
    assert one.wait_seconds(0.0) is None


def test_the_earliest_head_goes_first_at_once_where_every_queue_has_one() -> None:
    one = merge()
    one.put(1, "error", 2.0, now=0.0)
    one.put(0, "start", 1.0, now=0.0)
    one.put(0, "end", 3.0, now=0.0)
    assert one.take(0.0) == "start"
    assert one.take(0.0) == "error"
    assert one.take(0.0) is None  # the other queue is empty: `end` waits a moment
    assert one.take(WINDOW) == "end"


def test_a_head_waits_for_what_may_be_on_its_way_from_an_empty_queue() -> None:
    one = merge()
    one.put(1, "error", 2.0, now=10.0)
    assert one.take(10.0) is None
    assert one.wait_seconds(10.0) == WINDOW
    one.put(0, "start", 1.0, now=10.0 + WINDOW / 2)
    assert one.take(10.0 + WINDOW / 2) == "start"
    assert one.take(10.0 + WINDOW / 2) is None
    assert one.take(10.0 + WINDOW) == "error"


def test_what_has_no_time_waits_only_for_its_own_queue() -> None:
    one = merge()
    one.put(0, "event", 1.0, now=0.0)
    one.put(0, "poison", None, now=0.0)
    assert one.take(0.0) is None
    assert drained(one, WINDOW) == ["event", "poison"]
    one.put(1, "poison", None, now=0.0)
    assert one.take(0.0) == "poison"


def test_what_comes_again_is_forgotten() -> None:
    one = merge()
    one.put(0, "a", 1.0, now=0.0)
    one.put(1, "b", 2.0, now=0.0)
    one.drop(0)
    assert drained(one, 1.0) == ["b"]


items = st.lists(st.tuples(st.integers(0, 2), st.none() | st.integers(0, 9)), max_size=30)


@given(items, st.floats(0, 1))
def test_each_queue_keeps_its_order_and_nothing_is_lost(
    arrivals: list[tuple[int, int | None]], now: float
) -> None:
    one: Merge[tuple[int, int]] = Merge(3, WINDOW)
    for at, (inlet, time) in enumerate(arrivals):
        one.put(inlet, (inlet, at), None if time is None else float(time), now)
    found = []
    while one.wait_seconds(now + 1) is not None:
        assert one.peek(now + 1) is not None
        item = one.take(now + 1)
        assert item is not None
        found.append(item)
    assert sorted(at for _, at in found) == list(range(len(arrivals)))
    for inlet in range(3):
        own = [at for where, at in found if where == inlet]
        assert own == sorted(own)


@given(items)
def test_of_sorted_queues_the_whole_is_sorted(arrivals: list[tuple[int, int | None]]) -> None:
    one: Merge[int] = Merge(3, WINDOW)
    for inlet in range(3):
        for time in sorted(time for where, time in arrivals if where == inlet and time is not None):
            one.put(inlet, time, float(time), 0.0)
    found = []
    while (item := one.take(1.0)) is not None:
        found.append(item)
    assert found == sorted(found)
