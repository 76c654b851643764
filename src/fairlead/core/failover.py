# SPDX-License-Identifier: Apache-2.0
"""Which of its targets a channel uses: fail-over and fail-back (design, section 6, "Relay"). Pure.

    BUS ──trouble──► SUSPECT ──well again within a while──► fence ──► BUS
                        │ not                                              ┌──── healthy for a while
                        ├── another target works ──► fence ──► REST ───────┴──► DRAIN ──► fence ──► BUS
                        └── none does ──► WAITING ──one works──► fence

Time is an argument, monotonic seconds. `decide` says where to go; whoever asked commits the fence first, and
only then calls `arrived`. A switch away from the preferred target makes the next return wait longer, so that
a flapping broker costs few switches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, NamedTuple

from fairlead.core.target_health import RouteHealth, TargetHealth, Transport

FailoverState = Literal["bus", "rest", "suspect", "drain", "waiting"]
Policy = Literal["wait", "switch", "off"]

LOGIN_REFUSED = "does not accept the login"
"""In the reason of a channel that left a bus, or waits for it, for that: it does not get well by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverRules:
    """The clocks of a channel's fail-over.

    Attributes:
        confirm_late_seconds: an unconfirmed publish of that age makes the bus suspect.
        suspect_seconds: so long a suspect target may take to be well again before another one is used.
        return_after_seconds: so long a preferred target must be well before the channel returns to it; it
            doubles with each switch away, up to `return_max_seconds`, and begins anew after as long a calm.
        most_recoveries: a bus that was suspect so often within `return_after_seconds` is left all the same.
        probe_every_seconds: how often a bus that nobody answers on is asked for an answer; it doubles, up to
            `return_max_seconds`. A suspect one is asked ten times as often at first.
    """

    confirm_late_seconds: float = 5.0
    suspect_seconds: float = 5.0
    return_after_seconds: float = 30.0
    return_max_seconds: float = 600.0
    most_recoveries: int = 3
    probe_every_seconds: float = 5.0


class Switch(NamedTuple):
    """Go on with `target` under a new epoch; the same target begins its window anew."""

    target: int
    reason: str


class Failover:
    """One channel's.

    Args:
        transports: of the targets, in order of preference.
        target: the one in use, by the store.
        proves: an AMQP target counts as healthy only once a receiver has answered over it (`settles` is
            `applied`); else its link's word is enough.
        policy: `failover` of the subscription; `switch` where order does not depend on it.

    Attributes:
        state, reason, since: for people; `reason` is why the channel is where it is.
        switches: how often the target has changed.
        health: what is known of its targets.
    """

    def __init__(
        self,
        transports: Sequence[Transport],
        target: int,
        rules: FailoverRules,
        *,
        proves: bool,
        policy: Policy,
        now: float,
    ) -> None:
        self.health = RouteHealth(
            transports,
            proves=proves,
            probe_every_seconds=rules.probe_every_seconds,
            probe_max_seconds=rules.return_max_seconds,
            now=now,
        )
        self._rules = rules
        self._policy = policy
        self.target = target
        self.state: FailoverState = "rest"
        self.reason = ""
        self.since = now
        self.switches = 0
        self._healed_after = -inf  # a suspect target is well again by what shows it after this
        self._needs_answer = False  # a link that is up is not enough: it was up when the trouble came
        self._queue_empty = False
        self._is_new = True  # it has not been anywhere yet
        self._recoveries: list[float] = []
        self._return_seconds = rules.return_after_seconds
        self._home_at = -inf  # when it returned to a preferred target
        if self._active.transport == "amqp":
            self._enter("suspect", "not connected yet", now)

    @property
    def _active(self) -> TargetHealth:
        return self.health[self.target]

    @property
    def on_bus(self) -> bool:
        """Whether the target in use is a bus."""
        return self._active.transport == "amqp"

    @property
    def may_send(self) -> bool:
        """Whether events may go to the target in use at this moment."""
        return self.state in ("bus", "rest") or (self.state == "waiting" and not self.on_bus)

    def recall(self, reason: str, since: float) -> None:
        """Be what a channel became then, for that reason, before its owner was made anew."""
        self.reason, self.since = reason, since

    # -- what happens --------------------------------------------------------------------------------------

    def link(self, target: int, up: bool, detail: str, now: float) -> None:
        """A link has come up or gone down."""
        self.health.link(target, up, detail, now)
        if target == self.target and not up:
            self._trouble(detail, now, needs_answer=False)

    def trouble(self, reason: str, now: float) -> None:
        """The bus in use misbehaves though its link is up: a late confirm, a nack, silence, no queue."""
        self._trouble(reason, now, needs_answer=True)

    def answered(self, now: float) -> None:
        """A receiver has answered an event that was published on the bus in use: it is reached that way."""
        self.health.answered(self.target, now)

    def replied(self, now: float) -> None:
        """A receiver has answered the last question: it is reached by the target that was asked."""
        self.health.replied(now)

    def queue_is_empty(self) -> None:
        """Nothing waits at the broker of the target in use (policy `wait`)."""
        self._queue_empty = True

    def breaker(self, is_open: bool, reason: str, now: float) -> None:
        """The breaker of the HTTP target in use is open, or is not."""
        if self.on_bus:
            return
        if is_open and self.state != "waiting":
            self._enter("waiting", reason, now)
        elif is_open:
            self.reason = reason
        elif not is_open and self.state == "waiting":
            self._enter("rest", "answers again", now)

    # -- what to do ----------------------------------------------------------------------------------------

    def decide(self, now: float, *, drained: bool) -> Switch | None:
        """Where to go now, if anywhere; states that only time or a drain ends are entered and left here.

        Args:
            drained: nothing of the channel is in flight.
        """
        match self.state:
            case "suspect":
                return self._out_of_suspicion(now)
            case "waiting":
                return self._out_of_waiting(now)
            case "drain":
                return self._out_of_drain(now, drained)
            case _:
                return self._homewards(now, drained)

    def arrived(self, switch: Switch, now: float) -> None:
        """The switch's fence is on disk."""
        left, self.target = self.target, switch.target
        self._queue_empty = self._is_new = False
        if left != switch.target:
            self.switches += 1
            self._count_return(left, switch.target, now)
        elif self.state == "suspect":
            since = now - self._rules.return_after_seconds
            self._recoveries = [*(one for one in self._recoveries if one > since), now]
        self._enter("bus" if self.on_bus else "rest", switch.reason, now)

    def probe_due(self, now: float) -> int | None:
        """The AMQP target to ask for an answer now, if any, by publishing a fence; it counts as asked."""
        suspect = self.state == "suspect" and self._needs_answer
        return self.health.probe_due(now, self.target, suspect=suspect)

    @property
    def wants_depth(self) -> bool:
        """Whether it matters if anything waits at the broker of the target in use (policy `wait`).

        Not while its link is down or blocked: what was published last may lie unread in the connection, and
        would come into a queue that had been seen empty.
        """
        return self._policy == "wait" and self.state == "suspect" and self.on_bus and self._active.up

    # -- inside --------------------------------------------------------------------------------------------

    def _enter(self, state: FailoverState, reason: str, now: float) -> None:
        self.state, self.reason, self.since = state, reason, now
        if state == "suspect":
            self._queue_empty = False  # what was seen before says nothing of what was published since

    def _trouble(self, reason: str, now: float, *, needs_answer: bool) -> None:
        if self.state in ("bus", "drain") and self.on_bus:
            self._enter("suspect", reason, now)
            self._healed_after, self._needs_answer = now, needs_answer
            if needs_answer:
                self._active.prove(None)
            self._active.probe_from(now, self._rules.probe_every_seconds / 10)
        elif self.state in ("suspect", "waiting") and self.on_bus:
            self.reason = reason
            self._needs_answer = self._needs_answer and needs_answer

    def _out_of_suspicion(self, now: float) -> Switch | None:
        if self._is_well_again():
            if not self._flaps(now):
                first = self._is_new and self.target == 0
                return Switch(self.target, "first choice" if first else "well again")
        elif now < self.since + self._rules.suspect_seconds:
            return None
        other = self.health.best_but(self.target, now)
        if other is not None and self._may_leave():
            return Switch(other, self.reason)
        if not self._active.up:
            self._enter("waiting", self.reason, now)
        elif not self.health.proves:
            return Switch(self.target, "tried again")
        return None  # nobody answers, and there is nowhere else to go: asked again and again

    def _out_of_waiting(self, now: float) -> Switch | None:
        if self.on_bus and self._active.up:
            return Switch(self.target, "connected again")
        other = self.health.best_but(self.target, now)
        if other is not None and (not self.on_bus or self._may_leave()):
            return Switch(other, self.reason)
        return None

    def _out_of_drain(self, now: float, drained: bool) -> Switch | None:
        home = self._home(now)
        if home is None:
            self._enter("bus" if self.on_bus else "rest", "the preferred target is down again", now)
            return None
        return Switch(home, "the preferred target is well again") if drained else None

    def _homewards(self, now: float, drained: bool) -> Switch | None:
        home = self._home(now)
        if home is None:
            return None
        self._enter("drain", "the preferred target is well again", now)
        return self._out_of_drain(now, drained)

    def _home(self, now: float) -> int | None:
        """The preferred target that has been well for long enough to return to it."""
        return self.health.best_before(self.target, now, self._return_seconds)

    def _is_well_again(self) -> bool:
        """A link that was lost is there again; where it was not, a receiver has answered."""
        health = self._active
        if not health.up:
            return False
        if self._needs_answer and self.health.proves:
            return health.proven_at is not None and health.proven_at > self._healed_after
        return health.since > self._healed_after or not self._needs_answer

    def _flaps(self, now: float) -> bool:
        """It was suspect too often of late; only where there is another target to go to."""
        since = now - self._rules.return_after_seconds
        recent = sum(1 for one in self._recoveries if one > since)
        elsewhere = self._may_leave() and self.health.best_but(self.target, now) is not None
        return elsewhere and recent >= self._rules.most_recoveries

    def _may_leave(self) -> bool:
        return self._policy == "switch" or (self._policy == "wait" and self._queue_empty)

    def _count_return(self, left: int, target: int, now: float) -> None:
        """How long the next return waits."""
        if target < left:
            self._home_at = now
        elif now - self._home_at > self._rules.return_max_seconds:
            self._return_seconds = self._rules.return_after_seconds
        else:
            self._return_seconds = min(2 * self._return_seconds, self._rules.return_max_seconds)
        if self.state != "drain":  # it was left because it failed, not for a better one
            self.health.left(left, now, self._return_seconds)
        self._recoveries.clear()
