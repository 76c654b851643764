# SPDX-License-Identifier: Apache-2.0
"""Is the target itself down? (design, section 5)"""

from __future__ import annotations

import pytest

from fairlead.core.breaker import Breaker
from fairlead.core.outcome import Outcome

DOWN = Outcome("unavailable", 503)
DEAD = [DOWN, Outcome("unavailable", None, "timeout"), Outcome("unavailable", 302), Outcome("forbidden")]
ALIVE = [
    Outcome("delivered", 200),
    Outcome("rejected", 422),
    Outcome("throttled", 429, retry_after_seconds=1.0),
    Outcome("chain", 425),
    Outcome("unavailable", 503, failed=True),
]


def breaker() -> Breaker:
    return Breaker(3, probe_every_seconds=5.0, probe_max_seconds=12.0)


def opened() -> Breaker:
    made = breaker()
    for key in "aba":
        made.record(key, DOWN, only_lane=False, now=0.0)
    assert made.is_open
    return made


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (DOWN, "the target answers 503"),
        (Outcome("unavailable", 401, "answered 401 Unauthorized"), "the target answers 401"),
        (Outcome("unavailable", None, "timeout"), "the target does not answer"),
        (Outcome("forbidden"), "the relay may not call the target"),
    ],
)
def test_it_says_why_by_the_last_failure(outcome: Outcome, reason: str) -> None:
    made = opened()
    made.record("a", outcome, only_lane=False, now=10.0)
    assert made.reason == reason


@pytest.mark.parametrize("outcome", DEAD, ids=lambda outcome: outcome.detail or outcome.kind)
def test_failures_in_a_row_of_two_lanes_open_it(outcome: Outcome) -> None:
    made = breaker()
    for key in "aab":
        assert not made.is_open
        made.record(key, outcome, only_lane=False, now=0.0)
    assert made.is_open


def test_failures_of_one_lane_among_several_do_not() -> None:
    made = breaker()
    for _ in range(100):
        made.record("a", DOWN, only_lane=False, now=0.0)
    assert not made.is_open
    made.record("b", DOWN, only_lane=False, now=0.0)
    assert made.is_open


def test_failures_of_the_only_lane_do() -> None:
    made = breaker()
    for _ in range(3):
        made.record("a", DOWN, only_lane=True, now=0.0)
    assert made.is_open


@pytest.mark.parametrize("outcome", ALIVE, ids=lambda outcome: outcome.kind)
def test_an_answer_of_a_live_target_between_them_begins_the_count_anew(outcome: Outcome) -> None:
    made = breaker()
    for key in "ab":
        made.record(key, DOWN, only_lane=False, now=0.0)
    made.record("c", outcome, only_lane=False, now=0.0)
    for key in "ab":
        made.record(key, DOWN, only_lane=False, now=0.0)
    assert not made.is_open


@pytest.mark.parametrize("outcome", ALIVE, ids=lambda outcome: outcome.kind)
def test_an_answer_of_a_live_target_closes_it_and_names_the_lanes_that_failed(outcome: Outcome) -> None:
    made = opened()
    assert made.record("c", outcome, only_lane=False, now=5.0)
    assert not made.is_open
    assert made.tripped == {"a", "b"}


def test_probes_are_rarer_each_time_up_to_the_longest_wait() -> None:
    made = opened()
    now, waits = 0.0, []
    for _ in range(4):
        assert not made.may_probe(made.probe_at - 0.01)
        waits.append(made.probe_at - now)
        now = made.probe_at
        assert made.may_probe(now)
        made.record("c", DOWN, only_lane=False, now=now)
    assert waits == [5.0, 10.0, 12.0, 12.0]


def test_what_was_under_way_when_it_opened_is_no_probe() -> None:
    made = opened()
    for number in range(60):
        made.record(f"k{number}", DOWN, only_lane=False, now=0.1)
    assert made.probe_at == 5.0
    assert "k59" in made.tripped


def test_a_reset_closes_it_and_forgets_the_count() -> None:
    made = opened()
    made.reset()
    assert not made.is_open
    made.record("a", DOWN, only_lane=False, now=0.0)
    assert not made.is_open
