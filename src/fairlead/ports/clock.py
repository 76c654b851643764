# SPDX-License-Identifier: Apache-2.0
"""The port to time."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Time. Wall time is for people and for what outlives the process; everything else is monotonic."""

    def now(self) -> float:
        """Unix seconds; may jump."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back, runs on while the machine is suspended if it can."""
