# SPDX-License-Identifier: Apache-2.0
"""What one channel has still to tell the store: attempts, and what was settled since the last flush."""

from __future__ import annotations

from fairlead.core.channel import Attempt, ChannelFlush, Fence, FilterRevision
from fairlead.core.lanes import Lanes
from fairlead.core.publishing import Answered
from fairlead.core.queues import Run
from fairlead.core.settling import Verdict
from fairlead.core.snapshot import Snapshot
from fairlead.ports import Answer

ATTEMPTS_SECONDS = 0.25  # first-try successes wait so long for company in their row
MOST_ATTEMPTS = (
    10_000  # that wait for a store that refuses; older ones go, as nothing but a look depends on them
)


class Ledger:
    """One channel's. `write` makes a flush, `written` or `refused` takes its answer before the next.

    Attributes:
        settled: per key, up to where it is settled though the store does not know it yet: what a load of the
            channel in the same generation need not send again.
    """

    def __init__(self) -> None:
        self.settled: dict[str, int] = {}
        self._attempts: list[Attempt] = []
        self._attempts_at = 0.0
        self._snapshot: Snapshot | None = None
        self._writing: tuple[Attempt, ...] = ()
        self._written: dict[str, int] = {}

    def record(self, run: Run, verdict: Verdict, answer: Answer, fence: Fence) -> None:
        """Note a run's attempts and what of it was delivered."""
        key, target, at, duration_ms = run.key, fence.target, answer.started_at, answer.duration_ms
        if verdict.delivered:
            position = run.entries[verdict.delivered - 1].position
            self.settled[key] = max(position, self.settled.get(key, 0))
        attempt = run.attempt
        for entry, outcome in zip(run.entries, verdict.outcomes, strict=False):  # up to the first failure
            self._attempts.append(Attempt(entry.position, key, attempt, target, at, duration_ms, outcome))
            attempt = 1

    def answered(self, answered: Answered, fence: Fence, *, now: float, wall: float) -> None:
        """Note what an answer ended: publishes, each begun at a monotonic time of its own."""
        for sent, outcome in answered.ended:
            entry, took_seconds = sent.entry, max(0.0, now - sent.started)
            if outcome.kind == "delivered":
                self.settled[entry.key] = max(entry.position, self.settled.get(entry.key, 0))
            self._attempts.append(
                Attempt(
                    entry.position,
                    entry.key,
                    sent.attempt,
                    fence.target,
                    wall - took_seconds,
                    int(took_seconds * 1000),
                    outcome,
                )
            )

    def has(self, lanes: Lanes) -> bool:
        """Whether there is anything to store."""
        return lanes.changed or bool(self._attempts)

    def write(
        self,
        lanes: Lanes,
        fence: Fence,
        filter: FilterRevision | None,
        *,
        everything: bool,
        now: float,
        wall: float,
    ) -> ChannelFlush:
        """The flush of everything the lanes have; of the attempts only now and then, or if `everything`."""
        self._writing = ()
        if everything or now - self._attempts_at >= ATTEMPTS_SECONDS:
            self._writing, self._attempts = tuple(self._attempts), []
            self._attempts_at = now
        self._snapshot = snapshot = lanes.snapshot(now=now, wall=wall)
        self._written = dict(self.settled)
        return ChannelFlush(
            fence, snapshot.progress, snapshot.holds, snapshot.released, snapshot.skips, filter, self._writing
        )

    def written(self, lanes: Lanes, now: float) -> tuple[str, ...]:
        """The flush is on disk: the lanes go on; the keys of the skips that now count."""
        snapshot = self._take()
        for key, position in self._written.items():
            if self.settled.get(key) == position <= snapshot.progress.scan_pos:
                del self.settled[key]
        lanes.stored(snapshot, now)
        return tuple(skip.key for skip in snapshot.skips)

    def refused(self, lanes: Lanes) -> None:
        """Nothing of the flush was stored. Its attempts were made all the same, and go with the next one."""
        self._attempts = [*self._writing, *self._attempts][-MOST_ATTEMPTS:]
        lanes.refused(self._take())

    def _take(self) -> Snapshot:
        snapshot, self._snapshot = self._snapshot, None
        assert snapshot is not None  # noqa: S101  # `write` came first
        return snapshot
