# SPDX-License-Identifier: Apache-2.0
"""What an outcome does to its lane: settle, hold, park, skip (design, section 5). Pure.

`Settling` works on the same queues, holds and breaker as `fairlead.core.lanes`, which owns it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from fairlead.core.breaker import Breaker
from fairlead.core.channel import Skip
from fairlead.core.holds import Held, Holds
from fairlead.core.log import Entry
from fairlead.core.outcome import Outcome
from fairlead.core.queues import Queues, Run
from fairlead.core.subscription import DeliveryOptions

_LEAST_SLOW_DOWN_SECONDS = 1.0
"""`Retry-After` counts in whole seconds: a 429 with 0, or a date just past, still says too many."""


class Verdict(msgspec.Struct):
    """What a run's outcomes ask of the engine, beyond the lane itself.

    Attributes:
        outcomes: what to put on record: of the run's first events, up to its first failure.
        delivered: how many of them were delivered, from the first on.
        stop: retries are used up and `on_exhausted` is `stop`. gone: 410. stale: our 409.
        slow_down_until: 429 slows the whole subscription until then, which is not yet; monotonic seconds.
    """

    outcomes: Sequence[Outcome] = ()
    delivered: int = 0
    stop: Outcome | None = None
    gone: Outcome | None = None
    stale: Outcome | None = None
    slow_down_until: float | None = None


class Settling:
    """Applies outcomes to lanes.

    `waiting` are the keys that wait for the next flush, `hurry` says that one of them has something to send;
    `paging` are the holds that want their next page now. While `chained`, on a bus, no lane waits for a
    flush: the receiver's chain does that work.
    """

    def __init__(self, options: DeliveryOptions, queues: Queues, holds: Holds, breaker: Breaker) -> None:
        self.waiting: list[str] = []
        self.hurry = False
        self.chained = False
        self.paging: deque[Held] = deque()
        self.options = options
        self._queues = queues
        self._holds = holds
        self._breaker = breaker

    def resolve(
        self, run: Run, outcomes: Sequence[Outcome], *, most: int, now: float, wall: float, roll: float
    ) -> Verdict:
        """Take what came of a run: one outcome per event, in order; what follows a failure is not looked at.

        Args:
            most: nothing above it was ever sent, whatever an answer claims to have applied.
            now, wall: the monotonic time and the wall clock's Unix time.
            roll: a random number in [0, 1) for the jitter.
        """
        self._queues.land(run)
        key, delivered, applied = run.key, 0, 0
        for outcome in outcomes:
            if outcome.applied is not None:
                applied = max(applied, min(outcome.applied, most))
            if outcome.kind != "delivered":
                break
            delivered += 1
        verdict = Verdict(outcomes[: delivered + 1], delivered)
        if delivered:
            self.settle(key, max(applied, run.entries[delivered - 1].position))
            self._note(key, outcomes[0], now)
        else:
            self.settle(key, applied)
        if delivered < len(outcomes):
            outcome = outcomes[delivered]
            self._note(key, outcome, now)
            self._failed(run, delivered, outcome, verdict, now=now, wall=wall, roll=roll)
        self.resume(key, now)
        return verdict

    def settle(self, key: str, up_to: int) -> None:
        """Every position of the key up to `up_to` is settled; the lane goes on once that is stored."""
        lane, held = self._queues.get(key), self._holds.get(key)
        queue = () if lane is None else lane.queue
        head = queue[0].position if queue else held.head_pos if held else None
        if head is None or head > up_to:
            return
        self._queues.settle(key, up_to)
        if held is not None:
            self._holds.advance(held, queue[0].position if queue else up_to + 1)
        self.wait(key)

    def wait(self, key: str) -> None:
        """Something of the key is settled and not stored: with `before_next` the lane waits for the flush."""
        if self.chained or self.options.ack_persist != "before_next":
            return
        lane = self._queues.lane(key)
        if not lane.waiting:
            lane.waiting = True
            self.waiting.append(key)
            self.hurry = self.hurry or bool(lane.queue) or key in self._holds

    def take_over(self, settled: Mapping[str, int], now: float) -> None:
        """Holds whose head is settled already, though the store does not know it yet, begin behind it."""
        for key, position in settled.items():
            held = self._holds.get(key)
            if held is not None and held.head_pos <= position:
                self._holds.advance(held, position + 1)
                held.ready_at = held.since = now
                self.paging.append(held)
                self.wait(key)

    def hold(self, key: str, entry: Entry, now: float) -> Held:
        """The lane's hold from `entry` on, made if it has none; its queue is dropped."""
        held = self._holds.get(key)
        if held is None:
            held = Held(key, entry.position, 0, now, "held", now)
            lane = self._queues.get(key)
            self._holds.taken_over[key] = entry.position, 0 if lane is None else len(lane.queue)
        held.complete_to = -1
        held.paging = False  # a page that is under way is of the lane as it was
        self._queues.drop(key)
        return held

    def demote(self, key: str, now: float) -> bool:
        """The answer takes long: a hold covers the lane until it comes. False if one did already."""
        lane = self._queues.get(key)
        if key in self._holds or lane is None or not lane.queue:
            return False
        held = self.hold(key, lane.queue[0], now)
        held.state = "slow"
        self._holds.put(held)
        return True

    def skipped(self, held: Held, now: float) -> None:
        """The skip of a lane's head is on record: only now it counts as settled."""
        if held.skip is not None:
            position, held.skip = held.skip.position, None
            self._holds.advance(held, position + 1)
            held.ready_at = held.since = now
            self.paging.append(held)

    def _note(self, key: str, outcome: Outcome, now: float) -> None:
        if self.chained:
            return  # a request that began before the bus was returned to says nothing of the bus
        only_lane = not outcome.shows_target_alive and self._is_only_lane(key)
        if self._breaker.record(key, outcome, only_lane=only_lane, now=now):
            self._wake_tripped(now)

    def turn_to_another_target(self, now: float) -> None:
        """What failed over the one before need not wait out its schedule; the breaker begins anew."""
        self._wake_tripped(now)
        self._breaker.reset()

    def _wake_tripped(self, now: float) -> None:
        for tripped in self._breaker.tripped:
            held = self._holds.get(tripped)
            if held is not None and held.state == "held" and not held.loaded and held.skip is None:
                self._holds.wake(held, now)
        self._breaker.tripped.clear()

    @property
    def has_several(self) -> bool:
        """Whether there is more than one lane to probe: a parked one is tried by nobody."""
        queues, parked = self._queues, self._holds.parked
        held = len(self._holds) - len(parked)
        if len(queues) == held == 1:
            (key,) = queues
            return key not in self._holds or key in parked
        return len(queues) > 1 or held > 1

    def _is_only_lane(self, key: str) -> bool:
        others = len(self._queues) - (key in self._queues) + len(self._holds) - (key in self._holds)
        return not others

    def _failed(
        self,
        run: Run,
        index: int,
        outcome: Outcome,
        verdict: Verdict,
        *,
        now: float,
        wall: float,
        roll: float,
    ) -> None:
        if outcome.kind == "stale":
            verdict.stale = outcome
            return
        if outcome.kind == "gone":
            verdict.gone = outcome
            return
        if outcome.kind == "chain" and (index > 0 or not self._is_head(run.key, run.entries[index])):
            return  # it goes back to its first unsettled event at once
        entry, old = run.entries[index], self._holds.get(run.key)
        if old is None and not self._is_head(run.key, entry):
            return  # settled meanwhile by a later answer
        poked = old is not None and old.poked
        held = self.hold(run.key, entry, now)
        if held.head_pos > entry.position:
            return  # settled meanwhile by a later answer
        if held.last is None:
            held.since = now
        held.last, held.last_at = outcome, now
        if outcome.kind == "throttled" and outcome.status == 429:
            asked_seconds = self.options.retry.obeyed_seconds(outcome.retry_after_seconds or 0.0)
            verdict.slow_down_until = now + max(asked_seconds, _LEAST_SLOW_DOWN_SECONDS)
        if poked and (held.state == "parked" or held.ready_at > now):
            held.poked = False
            self._holds.put(held)
            return
        held.poked = False
        self._schedule(held, entry, outcome, verdict, now=now, wall=wall, roll=roll)
        self._holds.put(held)

    def _schedule(
        self,
        held: Held,
        entry: Entry,
        outcome: Outcome,
        verdict: Verdict,
        *,
        now: float,
        wall: float,
        roll: float,
    ) -> None:
        retry = self.options.retry
        held.state = "held"
        if outcome.kind == "throttled":
            asked_seconds = outcome.retry_after_seconds or 0.0
            held.ready_at = now + retry.throttled_seconds(asked_seconds, held.hurried, roll)
            held.hurried += retry.hurries(asked_seconds, held.hurried)
            if retry.exhausted(0, now - held.since):
                self._exhaust(held, entry, outcome, verdict, now=now, wall=wall)
            return
        if outcome.kind == "chain":
            held.ready_at = now + retry.delay_seconds(1, roll)
            return
        held.attempt += 1
        held.ready_at = now + retry.delay_seconds(held.attempt, roll)
        if outcome.failed and outcome.retry_after_seconds is not None:
            held.ready_at = max(held.ready_at, now + retry.obeyed_seconds(outcome.retry_after_seconds))
        if outcome.kind == "rejected" or retry.exhausted(held.attempt, now - held.since):
            self._exhaust(held, entry, outcome, verdict, now=now, wall=wall)

    def _exhaust(
        self, held: Held, entry: Entry, outcome: Outcome, verdict: Verdict, *, now: float, wall: float
    ) -> None:
        if self.options.on_exhausted == "park":
            held.state = "parked"
        elif self.options.on_exhausted == "stop":
            verdict.stop = outcome
            held.attempt, held.hurried, held.ready_at, held.since, held.last = 0, 0, now, now, None
        else:
            event = entry.event
            self.hurry = True
            held.skip = Skip(
                held.key, entry.position, event.source, event.id, "exhausted", "on_exhausted", wall
            )

    def _is_head(self, key: str, entry: Entry) -> bool:
        """By position: a channel that was read anew has other objects for what is under way."""
        lane = self._queues.get(key)
        return lane is not None and bool(lane.queue) and lane.queue[0].position == entry.position

    def resume(self, key: str, now: float) -> None:
        """Let the lane go on as it now stands: its next event, or its hold's next page."""
        held = self._holds.get(key)
        if held is not None and held.state == "slow":
            held.state, held.ready_at = "held", now
            self._holds.put(held)
        if held is not None and held.state == "held" and held.last is None and held.skip is None:
            lane = self._queues.get(key)
            if lane is None or not lane.queue:
                self.paging.append(held)
        self._queues.enlist(key)
        self._queues.tidy(key)
