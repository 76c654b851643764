# SPDX-License-Identifier: Apache-2.0
"""When to try again, and when to give up (design, section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The schedule of one lane's retries. All durations in seconds.

    Attributes:
        first_seconds: the wait after the first failure; each is `factor` times the one before, up to
            `max_seconds`.
        give_up_after_seconds: from the head's first failure on; None: never for that reason.
        max_attempts: failures that are enough; None: any number.
        max_retry_after_seconds: the longest wait that a target may ask for.

    Raises:
        ValueError: for a number that is no such wait or count, or `max` below `first`.
    """

    first_seconds: float = 1.0
    factor: float = 2.0
    max_seconds: float = 300.0
    give_up_after_seconds: float | None = 259_200.0
    max_attempts: int | None = None
    jitter: Literal["full", "none"] = "full"
    max_retry_after_seconds: float = 86_400.0

    def __post_init__(self) -> None:
        if not (0 < self.first_seconds <= self.max_seconds < inf and 1 <= self.factor < inf):
            raise ValueError("a retry policy needs first > 0, factor >= 1 and max >= first")
        if not 0 <= self.max_retry_after_seconds < inf:
            raise ValueError("max_retry_after must not be negative")
        if self.give_up_after_seconds is not None and not self.give_up_after_seconds > 0:
            raise ValueError("give_up_after must be positive")
        if self.max_attempts is not None and self.max_attempts < 1:
            raise ValueError("max_attempts must be 1 or more")

    def step_seconds(self, attempt: int) -> float:
        """The longest wait after failed attempt number `attempt` (1, 2, …)."""
        try:
            return min(self.max_seconds, self.first_seconds * self.factor ** (attempt - 1))
        except OverflowError:
            return self.max_seconds

    def delay_seconds(self, attempt: int, roll: float) -> float:
        """How long to wait after failed attempt number `attempt` (1, 2, …).

        Args:
            roll: a random number in [0, 1); full jitter spreads the delay evenly over (0, the step].
        """
        step = self.step_seconds(attempt)
        return step if self.jitter == "none" else step * (1.0 - roll)

    def exhausted(self, attempt: int, elapsed_seconds: float) -> bool:
        """Whether `attempt` failures, `elapsed_seconds` after the head's first one, are enough."""
        if self.max_attempts is not None and attempt >= self.max_attempts:
            return True
        return self.give_up_after_seconds is not None and elapsed_seconds >= self.give_up_after_seconds

    def obeyed_seconds(self, asked_seconds: float) -> float:
        """How much of a wait that the target asked for is obeyed: all of it, up to the limit."""
        return min(max(asked_seconds, 0.0), self.max_retry_after_seconds)

    def throttled_seconds(self, asked_seconds: float, hurried: int, roll: float) -> float:
        """How long a lane waits when the target is throttling and asked for `asked_seconds`.

        That in full, up to the limit, and half of the schedule's step at least, whatever the jitter: a target
        may ask for nothing, again and again, and is not to be hammered for it.

        Args:
            hurried: how often in a row it asked for less than the step; each makes it the next one.
            roll: as in `delay_seconds`.
        """
        step = self.step_seconds(hurried + 1)
        return max(self.obeyed_seconds(asked_seconds), (step + self.delay_seconds(hurried + 1, roll)) / 2)

    def hurries(self, asked_seconds: float, hurried: int) -> bool:
        """Whether a throttling target asks for less than the schedule's step; `hurried` as above."""
        return self.obeyed_seconds(asked_seconds) < self.step_seconds(hurried + 1)
