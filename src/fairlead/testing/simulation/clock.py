# SPDX-License-Identifier: Apache-2.0
"""The clocks of a simulated relay."""

from __future__ import annotations

from fairlead.testing.simulation.loop import SimulatedLoop

BEGIN = 1_795_000_000.0
"""Unix seconds at the loop's 0."""


class SimulatedClock:
    """The loop's time; the wall clock may be set.

    Attributes:
        set_by: how far the wall clock was set, in seconds.
    """

    def __init__(self, loop: SimulatedLoop) -> None:
        self.set_by = 0.0
        self._loop = loop

    def now(self) -> float:
        return BEGIN + self._loop.time() + self.set_by

    def monotonic(self) -> float:
        return self._loop.time()
