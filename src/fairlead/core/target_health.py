# SPDX-License-Identifier: Apache-2.0
"""Which targets of a route work, as far as one channel knows (design, section 6). Pure.

A broker that confirms is not a receiver that answers: where answers settle, an AMQP target counts as well
only once a receiver has answered over it since its link came up and since the channel left it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

Transport = Literal["amqp", "http"]

SILENCE = "no receiver has answered"
"""Begins why a bus is left, or not returned to, for that."""

UNCONFIRMED = "the broker does not confirm what it was given"
"""Why a bus is left, or not returned to, for that."""

REFUSED = "did not take it (basic.nack)"
"""Ends why a bus is left, or not returned to, for that."""

REPLY_SECONDS = 2.0
"""So long a reply to a question is taken for one to it and to no other."""


@dataclass(slots=True)
class TargetHealth:
    """What is known of one target. Times are monotonic seconds.

    Attributes:
        up: an AMQP link can publish; always True of HTTP.
        since: when `up` became what it is; of an HTTP target also when it failed last.
        detail: why an AMQP link is down.
        proven_at: when a receiver answered over it; None: not yet.
        unconfirmed_since: when the oldest question was put of which its broker has said nothing.
        refusal: what its broker said of the last question instead of taking it.
        taken_at: when its broker took the first question that no receiver has answered.
        shut_until: an HTTP target that failed counts as down until then.
        probe_at, probe_gap_seconds: when it is to be asked for an answer next, and how long after that again.
    """

    transport: Transport
    up: bool
    since: float
    detail: str = ""
    proven_at: float | None = None
    unconfirmed_since: float | None = None
    refusal: str = ""
    taken_at: float | None = None
    shut_until: float = -inf
    probe_at: float = -inf
    probe_gap_seconds: float = 0.0

    def probe_from(self, now: float, gap_seconds: float) -> None:
        """Ask for an answer now, then after `gap_seconds`, then at ever greater distances."""
        self.probe_at, self.probe_gap_seconds = now, gap_seconds

    def prove(self, at: float | None) -> None:
        """A receiver has answered over it at that moment; None: it has to show anew that it works."""
        self.proven_at, self.taken_at = at, None


class RouteHealth:
    """The targets of a route, by their place.

    Args:
        proves: AMQP targets are well only once a receiver has answered (`settles` is `applied`).
        probe_every_seconds, probe_max_seconds: the gaps between two questions, from the first to the longest.
    """

    def __init__(
        self,
        transports: Sequence[Transport],
        *,
        proves: bool,
        probe_every_seconds: float,
        probe_max_seconds: float,
        now: float,
    ) -> None:
        self.proves = proves
        self._every, self._max = probe_every_seconds, probe_max_seconds
        self._targets = [TargetHealth(transport, transport == "http", now) for transport in transports]
        self._asked: int | None = None
        self._asked_at = -inf

    def __getitem__(self, target: int) -> TargetHealth:
        return self._targets[target]

    def link(self, target: int, up: bool, detail: str, now: float) -> None:
        """A link has come up or gone down."""
        health = self._targets[target]
        health.detail = detail
        if up != health.up:
            health.up, health.since = up, now
            health.prove(None)
            health.unconfirmed_since, health.refusal = None, ""
            health.probe_from(now, self._every)

    def answered(self, target: int, now: float) -> None:
        """A receiver has answered an event that was published on this target."""
        if self[target].transport == "amqp":
            self[target].prove(now)

    def asked(self, target: int, now: float) -> None:
        """This target is being asked for an answer."""
        self._asked, self._asked_at = target, now
        if self[target].unconfirmed_since is None:
            self[target].unconfirmed_since = now

    def told(self, target: int, refusal: str, now: float) -> None:
        """The broker has said of a question that it has it, "", or why it does not take it."""
        health = self[target]
        health.unconfirmed_since, health.refusal = None, refusal
        if refusal:
            health.taken_at = None
        elif health.taken_at is None:
            health.taken_at = now

    def obstacle(self, target: int, now: float, late_seconds: float) -> str:
        """What keeps a target from being well, as far as it can be known; "" where nothing is known to.

        Args:
            late_seconds: so long a broker may take to confirm, and a receiver to answer.
        """
        health = self._targets[target]
        if health.transport == "http" or not health.up:
            return health.detail
        if health.unconfirmed_since is not None and now >= health.unconfirmed_since + late_seconds:
            return UNCONFIRMED
        if health.refusal:
            return health.refusal
        unanswered_since = health.taken_at if health.proven_at is None else None
        late = unanswered_since is not None and now >= unanswered_since + late_seconds
        return SILENCE if late else ""

    def replied(self, now: float) -> None:
        """The question that was put last is answered: a reply does not say which way it was asked."""
        if self._asked is not None and self[self._asked].up:
            self[self._asked].prove(now)

    def left(self, target: int, now: float, shut_seconds: float) -> None:
        """The channel gave a target up: it has to show anew that it works."""
        health = self._targets[target]
        health.prove(None)
        health.probe_from(now + self._every, self._every)
        if health.transport == "http":
            health.since, health.shut_until = now, now + shut_seconds

    def well_since(self, target: int, now: float) -> float | None:
        """Since when a target has worked; None: it does not, as far as is known."""
        health = self._targets[target]
        if health.transport == "http":
            return health.since if now >= health.shut_until else None
        if not health.up:
            return None
        return health.proven_at if self.proves else health.since

    def best_but(self, target: int, now: float) -> int | None:
        """The most preferred other target that works."""
        others = (other for other in range(len(self._targets)) if other != target)
        return next((other for other in others if self.well_since(other, now) is not None), None)

    def best_before(self, target: int, now: float, well_for_seconds: float) -> int | None:
        """The most preferred target before this one that has worked for so long."""
        for other in range(target):
            since = self.well_since(other, now)
            if since is not None and now >= since + well_for_seconds:
                return other
        return None

    def probe_due(self, now: float, target_in_use: int, *, suspect: bool) -> int | None:
        """The AMQP target to ask for an answer now, if any; it counts as asked.

        One at a time, and another one only after a while, or the reply would be taken for the other's.

        Args:
            suspect: the one in use is to be asked too.
        """
        due: list[tuple[float, int]] = []
        for target, health in enumerate(self._targets):
            wanted = suspect if target == target_in_use else health.proven_at is None
            if target != self._asked and now < self._asked_at + REPLY_SECONDS:
                wanted = False
            if self.proves and health.transport == "amqp" and health.up and wanted and now >= health.probe_at:
                due.append((health.probe_at, target))
        if not due:
            return None
        target = min(due)[1]
        gap_seconds = self[target].probe_gap_seconds
        self[target].probe_from(now + gap_seconds, min(2 * gap_seconds, self._max))
        self.asked(target, now)
        return target
