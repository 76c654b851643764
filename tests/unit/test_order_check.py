# SPDX-License-Identifier: Apache-2.0
"""What `fairlead listen` takes for order, and for a broken one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairlead.cli.order import OrderCheck


def take(check: OrderCheck, position: int, previous: int = 0, *, key: str = "k", generation: int = 1) -> str:
    return check.take(subscription="s", generation=generation, key=key, position=position, previous=previous)


def test_a_run_may_be_repeated_but_not_go_back() -> None:
    check = OrderCheck()
    assert [take(check, 1), take(check, 4, 1), take(check, 1), take(check, 4), take(check, 9, 4)] == [
        "new", "new", "again", "again", "new",
    ]  # fmt: skip
    assert take(check, 6) == "broken"
    assert len(check.faults) == 1


def test_a_predecessor_that_has_not_come_breaks_the_order() -> None:
    check = OrderCheck()
    take(check, 1)
    assert take(check, 5, 3) == "broken"


def test_what_came_before_the_listener_is_not_missed() -> None:
    assert take(OrderCheck(), 7, 3) == "new"


def test_keys_and_generations_are_apart() -> None:
    check = OrderCheck()
    assert take(check, 9) == "new"
    assert take(check, 3, key="other") == "new"
    assert take(check, 2, generation=2) == "new"


@given(st.lists(st.integers(1, 30), min_size=1))
def test_first_sightings_in_order_are_never_a_fault_and_others_always(positions: list[int]) -> None:
    check = OrderCheck()
    firsts = list(dict.fromkeys(positions))
    for position in positions:
        take(check, position)
    assert (firsts == sorted(firsts)) == (not check.faults)
