# SPDX-License-Identifier: Apache-2.0
"""The retry policy: bounds and monotony, by properties."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.retry import RetryPolicy

ROLLS = st.floats(0, 1, exclude_max=True)
ATTEMPTS = st.integers(1, 10**9)
POLICIES = st.builds(
    lambda first, longer, factor, jitter: RetryPolicy(
        first_seconds=first, max_seconds=first + longer, factor=factor, jitter=jitter
    ),
    st.floats(0.001, 1e6),
    st.floats(0, 1e6),
    st.floats(1, 1e12),
    st.sampled_from(["full", "none"]),
)


@given(POLICIES, ATTEMPTS, ROLLS)
def test_a_delay_is_positive_and_never_above_the_cap(policy: RetryPolicy, attempt: int, roll: float) -> None:
    assert 0 < policy.delay_seconds(attempt, roll) <= policy.max_seconds


@given(POLICIES, st.integers(1, 100))
def test_without_jitter_delays_never_shrink(policy: RetryPolicy, attempt: int) -> None:
    steady = replace(policy, jitter="none")
    assert steady.delay_seconds(1, 0.5) == policy.first_seconds
    assert steady.delay_seconds(attempt, 0.1) <= steady.delay_seconds(attempt + 1, 0.9)


@given(POLICIES, ATTEMPTS, ROLLS, ROLLS)
def test_jitter_spreads_a_delay_over_the_whole_step(
    policy: RetryPolicy, attempt: int, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert policy.delay_seconds(attempt, high) <= policy.delay_seconds(attempt, low)
    assert policy.delay_seconds(attempt, 0.0) == replace(policy, jitter="none").delay_seconds(attempt, 0.0)


def test_the_default_schedule_doubles_from_one_second_to_five_minutes() -> None:
    policy = RetryPolicy(jitter="none")
    delays = [policy.delay_seconds(attempt, 0) for attempt in range(1, 11)]
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]


@given(st.integers(1, 100), st.integers(1, 100), st.floats(0, 1e9))
def test_attempts_are_exhausted_at_their_number(limit: int, attempt: int, elapsed: float) -> None:
    policy = RetryPolicy(max_attempts=limit, give_up_after_seconds=None)
    assert policy.exhausted(attempt, elapsed) is (attempt >= limit)


@given(st.floats(0.001, 1e9), st.floats(0, 1e9), ATTEMPTS)
def test_time_is_exhausted_at_its_end(limit: float, elapsed: float, attempt: int) -> None:
    policy = RetryPolicy(give_up_after_seconds=limit)
    assert policy.exhausted(attempt, elapsed) is (elapsed >= limit)


@given(ATTEMPTS, st.floats(0, 1e12))
def test_without_limits_nothing_is_ever_exhausted(attempt: int, elapsed: float) -> None:
    assert not RetryPolicy(give_up_after_seconds=None).exhausted(attempt, elapsed)


@given(st.floats(-1e9, 1e9))
def test_what_a_target_asks_for_is_obeyed_in_full_up_to_the_limit(asked: float) -> None:
    waited = RetryPolicy().obeyed_seconds(asked)
    assert waited == (asked if 0 <= asked <= 86_400 else 0 if asked < 0 else 86_400)


@given(POLICIES, st.floats(-1e9, 1e9), st.integers(0, 10**9), ROLLS)
def test_a_throttled_lane_waits_for_what_was_asked_and_for_half_its_step_at_least(
    policy: RetryPolicy, asked: float, hurried: int, roll: float
) -> None:
    waited = policy.throttled_seconds(asked, hurried, roll)
    step = policy.step_seconds(hurried + 1)
    assert waited >= max(policy.obeyed_seconds(asked), step / 2, policy.delay_seconds(hurried + 1, roll))
    if policy.hurries(asked, hurried):
        assert waited <= step
    else:
        assert waited == policy.obeyed_seconds(asked)


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_seconds": 0},
        {"first_seconds": -1},
        {"factor": 0.5},
        {"factor": float("nan")},
        {"factor": float("inf")},
        {"max_seconds": 0.5},
        {"max_seconds": float("inf")},
        {"max_retry_after_seconds": -1},
        {"give_up_after_seconds": 0},
        {"max_attempts": 0},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"first > 0|max_retry_after|give_up_after|max_attempts"):
        RetryPolicy(**wrong)  # type: ignore[arg-type]  # the point
