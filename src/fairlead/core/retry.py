# SPDX-License-Identifier: Apache-2.0
"""When to try again, and when to give up (design, section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The schedule of one lane's retries. All durations in seconds.

    Raises:
        ValueError: for a duration or factor that is not positive, or `max` below `first`.
    """

    first_seconds: float = 1.0
    factor: float = 2.0
    max_seconds: float = 300.0
    give_up_after_seconds: float | None = 259_200.0
    max_attempts: int | None = None
    jitter: Literal["full", "none"] = "full"
    max_retry_after_seconds: float = 86_400.0

    def __post_init__(self) -> None:
        if not (self.first_seconds > 0 and self.factor >= 1 and self.max_seconds >= self.first_seconds):
            raise ValueError("a retry policy needs first > 0, factor >= 1 and max >= first")

    def delay_seconds(self, attempt: int, roll: float) -> float:
        """How long to wait after failed attempt number `attempt` (1, 2, …).

        Args:
            roll: a random number in [0, 1); full jitter spreads the delay evenly over (0, the step].
        """
        exponent = min(attempt - 1, 64)  # 2**64 is past any cap and still a float
        step = min(self.max_seconds, self.first_seconds * self.factor**exponent)
        return step if self.jitter == "none" else step * (1.0 - roll)

    def exhausted(self, attempt: int, elapsed_seconds: float) -> bool:
        """Whether `attempt` failures, `elapsed_seconds` after the head's first one, are enough."""
        if self.max_attempts is not None and attempt >= self.max_attempts:
            return True
        return self.give_up_after_seconds is not None and elapsed_seconds >= self.give_up_after_seconds

    def throttled_seconds(self, asked_seconds: float) -> float:
        """How long to wait when the target asked for `asked_seconds`: in full, up to the limit."""
        return min(max(asked_seconds, 0.0), self.max_retry_after_seconds)
