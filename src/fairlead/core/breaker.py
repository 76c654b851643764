# SPDX-License-Identifier: Apache-2.0
"""Is the target itself down? A streak of failures of several lanes says so (design, section 5)."""

from __future__ import annotations

from dataclasses import dataclass, field

from fairlead.core.outcome import Outcome


@dataclass(slots=True)
class Breaker:
    """Opens after `failures` attempts in a row, of two lanes or of the only one, that show no live target.

    While it is open the channel stops scanning, once it has two lanes, and sends one probe at a time, the
    lanes in turn, every `probe_every_seconds`, doubling up to `probe_max_seconds`. Times are monotonic
    seconds.

    Attributes:
        tripped: the lanes that failed while it opened.
        last: the last outcome that showed no live target.
    """

    failures: int
    probe_every_seconds: float
    probe_max_seconds: float
    is_open: bool = False
    probe_at: float = 0.0
    tripped: set[str] = field(default_factory=set)
    last: Outcome | None = None
    _streak: int = 0
    _wait_seconds: float = 0.0

    def record(self, key: str, outcome: Outcome, *, only_lane: bool, now: float) -> bool:
        """Take note of one ended attempt; True if it closed an open breaker.

        `tripped` then still names the lanes that failed while it opened; the caller clears it.
        """
        if outcome.shows_target_alive:
            closed, self.is_open = self.is_open, False
            self._streak = 0
            if not closed:
                self.tripped.clear()
            return closed
        self._streak += 1
        self.last = outcome
        self.tripped.add(key)
        if self.is_open and now < self.probe_at:
            return False  # it was under way when the breaker opened: no probe
        if self.is_open:
            self._wait_seconds = min(self._wait_seconds * 2, self.probe_max_seconds)
            self.probe_at = now + self._wait_seconds
        elif self._streak >= self.failures and (only_lane or len(self.tripped) > 1):
            self.is_open = True
            self._wait_seconds = self.probe_every_seconds
            self.probe_at = now + self._wait_seconds
        return False

    def may_probe(self, now: float) -> bool:
        """Whether an open breaker may send its next probe."""
        return now >= self.probe_at

    @property
    def reason(self) -> str:
        """Why the target counts as down, in a few words that all its channels share."""
        if self.last is not None and self.last.status is not None:
            return f"the target answers {self.last.status}"
        if self.last is not None and self.last.kind == "forbidden":
            return "the relay may not call the target"
        return "the target does not answer"

    def reset(self) -> None:
        """Close it and begin anew: an operator wants the target tried."""
        self.is_open = False
        self._streak = 0
        self.tripped.clear()
