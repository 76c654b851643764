# SPDX-License-Identifier: Apache-2.0
"""A channel's events on a bus: what is published next, and what an answer does (design, section 6). Pure.

Several events of a key may be under way: each carries `flprev`, so the receiver takes none before its time.
Only an answer settles. `Publishing` works on the same queues, holds and settling as `fairlead.core.lanes`,
which owns it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import msgspec

from fairlead.core.answer import AnswerDocument
from fairlead.core.holds import Holds
from fairlead.core.outcome import Outcome
from fairlead.core.outcomes_answer import outcome_of_answer
from fairlead.core.queues import Queues, Run
from fairlead.core.settling import Settling, Verdict
from fairlead.core.window import Sent, Window

MOST_DOUBLINGS = 6


class Answered(msgspec.Struct):
    """What an answer did.

    Attributes:
        ended: the publishes that are under way no more, each with its outcome.
        verdict: what else it asks for: `on_exhausted` is `stop`, say.
    """

    ended: Sequence[tuple[Sent, Outcome]] = ()
    verdict: Verdict = msgspec.field(default_factory=Verdict)


class Publishing:
    """What one channel does with its window."""

    def __init__(self, window: Window, queues: Queues, holds: Holds, settling: Settling) -> None:
        self.window = window
        self._queues = queues
        self._holds = holds
        self._settling = settling
        self._heard_at = -inf
        self._given_up: dict[str, int] = {}  # how often in a row, per key

    def next(self, now: float) -> Sent | None:
        """The next event to publish, under way from now on; None if there is none, or the window is full."""
        while self.window.has_room and (key := self._queues.next_ready()) is not None:
            held, lane = self._holds.get(key), self._queues.lane(key)
            if held is not None and (not held.loaded or held.skip is not None):
                continue
            while lane.ready and self.window.covers(key, lane.queue[lane.sent].position):
                lane.sent += 1  # published before its lane got a hold; its answer may still come
            if not lane.ready or (held is not None and held.last is not None and lane.sent):
                continue  # after a failure one by one until one passes
            prev = lane.queue[lane.sent - 1].position if lane.sent else 0
            attempt = held.attempt + 1 if held is not None and not lane.sent else 1
            entry = lane.queue[lane.sent]
            lane.sent += 1
            self._queues.enlist(key)
            return self.window.admit(entry, prev, attempt, now)
        return None

    def answered(
        self,
        answer: AnswerDocument,
        *,
        in_epoch: bool,
        most: int,
        now: float,
        wall: float,
        roll: float,
    ) -> Answered:
        """Take an answer of this generation: every unsettled position of its key up to `applied` settles.

        Args:
            in_epoch: it is of the present epoch; else it settles, and does no more.
            most: `scan_pos`: nothing above it was ever sent, whatever the answer claims.
            now, wall, roll: as `Settling.resolve` has them.
        """
        key, applied = answer.key or "", min(answer.applied or 0, most)
        sent = self.window.take(answer.seq, key) if in_epoch and answer.seq is not None else None
        if in_epoch:
            self._heard_at = now
        self._given_up.pop(key, None)
        ended = [(one, Outcome("delivered", applied=applied)) for one in self.window.settle(key, applied)]
        self._settling.settle(key, applied)
        verdict = Verdict()
        if sent is not None:
            outcome = outcome_of_answer(answer, sent.entry.position, None)
            ended.append((sent, outcome))
            if outcome.kind != "delivered":
                verdict = self._failed(sent, outcome, now=now, wall=wall, roll=roll)
        self._settling.resume(key, now)
        return Answered(ended, verdict)

    def _failed(self, sent: Sent, outcome: Outcome, *, now: float, wall: float, roll: float) -> Verdict:
        """The event was not applied: its published successors cannot be either, and go again after it."""
        key = sent.entry.key
        self.window.forget(key)
        if not self._is_head(sent) or (outcome.kind == "chain" and sent.prev):
            self._send_again(key, now)  # what it was chained to is settled by now, or still to come
            return Verdict()
        run = Run(key, (sent.entry,), sent.started, sent.attempt)
        bare = msgspec.structs.replace(outcome, applied=None)  # it has settled what it could
        return self._settling.resolve(run, (bare,), most=0, now=now, wall=wall, roll=roll)

    def _is_head(self, sent: Sent) -> bool:
        lane, held = self._queues.get(sent.entry.key), self._holds.get(sent.entry.key)
        if lane is not None and lane.queue:
            return lane.queue[0].position == sent.entry.position
        return held is not None and sent.prev < held.head_pos <= sent.entry.position

    def _send_again(self, key: str, now: float) -> None:
        """Nothing of the key is under way: it goes on from its first unsettled event."""
        held = self._holds.get(key)
        if held is not None and held.state == "slow":
            held.state, held.ready_at = "held", now
            self._holds.put(held)
        self._queues.rewind(key)

    def give_up(self, now: float, after_seconds: float) -> None:
        """Publishes without an answer for so long are lost, or as good as: sent again, no attempt counted.

        A lane waits twice as long for its answer each time: a handler that takes minutes is not sent copies
        that would stand in the others' way.
        """
        for sent in self.window.started_before(now - after_seconds):
            key = sent.entry.key
            times = self._given_up.get(key, 0)
            if self.window.is_present(sent) and sent.started <= now - after_seconds * 2**times:
                self._given_up[key] = min(times + 1, MOST_DOUBLINGS)
                self.window.forget(key)
                self._send_again(key, now)

    def take_back(self, sent: Sent, now: float) -> None:
        """It was not published after all: its lane goes on from its first unsettled event."""
        if self.window.is_present(sent):
            self.window.forget(sent.entry.key)
            self._send_again(sent.entry.key, now)

    def demote(self, now: float, slow_after_seconds: float) -> bool:
        """Give a hold to lanes whose answer others have overtaken and that takes long; whether there are any.

        While nobody is answered the bus is at fault and not a lane: none gets a row for that.
        """
        found = False
        for sent in self.window.started_before(min(now - slow_after_seconds, self._heard_at)):
            found = self._settling.demote(sent.entry.key, now) or found
        return found

    def chain(self, *, chained: bool) -> None:
        """Whether several events of a lane may be under way, as on a bus that the receiver answers on."""
        self._settling.chained = chained

    def begin(self, now: float, *, chained: bool) -> None:
        """A new epoch is on disk: nothing counts as under way, everything unsettled is to be sent."""
        self.chain(chained=chained)
        keys = self.window.keys
        self.window.begin()
        self._heard_at = -inf
        self._given_up.clear()
        self._settling.turn_to_another_target(now)
        for key in keys:
            self._send_again(key, now)
