# SPDX-License-Identifier: Apache-2.0
"""Watching what arrives: is each resource's run in order, with nothing missing?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Standing = Literal["new", "again", "broken"]


@dataclass
class OrderCheck:
    """The checker of design section 12, for one receiver.

    Per subscription, generation and key the positions that are seen for the first time must increase, and
    each must follow the one that the relay names as its predecessor. What was seen may come again.
    """

    faults: list[str] = field(default_factory=list)
    _seen: dict[tuple[str, int, str], set[int]] = field(default_factory=dict)

    def take(self, *, subscription: str, generation: int, key: str, position: int, previous: int) -> Standing:
        """Note one event; `faults` grows by a line where it is out of order."""
        seen = self._seen.setdefault((subscription, generation, key), set())
        if position in seen:
            return "again"
        fault = None
        if seen and position < max(seen):
            fault = f"{key}: position {position} came for the first time after {max(seen)}"
        elif seen and previous > max(seen):
            fault = f"{key}: position {position} follows {previous}, which has not come"
        seen.add(position)
        if fault is None:
            return "new"
        self.faults.append(fault)
        return "broken"
