# SPDX-License-Identifier: Apache-2.0
"""What of an answer belongs to which run, and what of it is believed."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from fairlead.core.channel import Fence
from fairlead.core.outcome import Outcome
from fairlead.core.queues import Run
from fairlead.ports import Answer


def shares(runs: Collection[Run], answer: Answer, fence: Fence) -> Iterator[tuple[Run, list[Outcome]]]:
    """Each run of a delivery with its outcomes, in order; `fence` is what the delivery carried."""
    begin = 0
    for run in runs:
        end = begin + len(run.entries)
        yield run, [_believed(one, fence) for one in answer.outcomes[begin:end]]
        begin = end


def _believed(outcome: Outcome, fence: Fence) -> Outcome:
    """A `stale` that names nothing newer than the delivery itself is no reason to send it again at once."""
    if outcome.kind != "stale":
        return outcome
    told = (outcome.generation or 0, outcome.epoch or 0)
    if told > (fence.generation, fence.epoch):
        return outcome
    return Outcome("unavailable", outcome.status, "answered stale, but named nothing newer than the delivery")
