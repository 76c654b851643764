# SPDX-License-Identifier: Apache-2.0
"""What came of one try to deliver one event (design, section 5, "Outcomes of a REST delivery")."""

from __future__ import annotations

from typing import Literal

import msgspec

OutcomeKind = Literal[
    "delivered", "unavailable", "rejected", "gone", "throttled", "forbidden", "stale", "chain"
]


class Outcome(msgspec.Struct, frozen=True):
    """One event's outcome.

    Attributes:
        kind: as listed in the interface, section 5.
        status: the HTTP status, None where no answer came.
        detail: one sentence for people; never a secret, never the answer's whole body.
        retry_after_seconds: what the target asked for, already bounded by nothing but syntax.
        failed: the library said that its handler failed: one attempt, but the target is alive.
        applied: what the library's answer says is applied for the key; settles every position up to it.
        generation, epoch: of a `stale` answer, what the receiver's inbox holds.
    """

    kind: OutcomeKind
    status: int | None = None
    detail: str = ""
    retry_after_seconds: float | None = None
    failed: bool = False
    applied: int | None = None
    generation: int | None = None
    epoch: int | None = None

    @property
    def shows_target_alive(self) -> bool:
        """Whether the target itself answered: resets the breaker (design, section 5)."""
        return self.failed or self.kind in ("delivered", "rejected", "throttled", "chain", "gone", "stale")

    @property
    def seen(self) -> tuple[int, int]:
        """Of a `stale` answer the (generation, epoch) that the receiver has seen."""
        return self.generation or 0, self.epoch or 0


DELIVERED = Outcome("delivered")
