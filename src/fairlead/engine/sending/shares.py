# SPDX-License-Identifier: Apache-2.0
"""What of an answer belongs to which run, and what of it is believed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from operator import attrgetter

from fairlead.core.channel import Fence
from fairlead.core.outcome import Outcome
from fairlead.core.queues import Run
from fairlead.core.settling import Verdict
from fairlead.ports import Answer
from fairlead.telemetry import Counters

_kind = attrgetter("kind")


def shares(runs: Collection[Run], answer: Answer, fence: Fence) -> Iterator[tuple[Run, tuple[Outcome, ...]]]:
    """Each run of a delivery with its outcomes, in order; `fence` is what the delivery carried."""
    outcomes = answer.outcomes
    if "stale" in map(_kind, outcomes):
        outcomes = tuple([_believed(one, fence) for one in outcomes])
    begin = 0
    for run in runs:
        end = begin + len(run.entries)
        yield run, outcomes[begin:end]
        begin = end


def count(verdicts: Iterable[Verdict], deliveries: Counters, subscription: str) -> None:
    """Count what came of a delivery, an attempt for each event that its verdicts put on record."""
    for verdict in verdicts:
        if verdict.delivered:
            deliveries.of(subscription, "delivered").value += verdict.delivered
        for outcome in verdict.outcomes[verdict.delivered :]:
            deliveries.of(subscription, outcome.kind).value += 1


def _believed(outcome: Outcome, fence: Fence) -> Outcome:
    """A `stale` that names nothing newer than the delivery itself is no reason to send it again at once."""
    if outcome.kind != "stale":
        return outcome
    if outcome.seen > (fence.generation, fence.epoch):
        return outcome
    return Outcome("unavailable", outcome.status, "answered stale, but named nothing newer than the delivery")
