# SPDX-License-Identifier: Apache-2.0
"""A request, and what it says of each event's place: `flprev` and `flskipped` (design, section 6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fairlead.core.log import Entry
from fairlead.core.queues import Run
from fairlead.engine.lane_reading import Span, first_wanted
from fairlead.ports import Delivery, Parcel

if TYPE_CHECKING:
    from fairlead.engine.sending.owner import Owner

MAX_SKIPPED = 32


def delivery_of(owner: Owner, runs: Sequence[Run]) -> Delivery:
    """One request for these runs, by the subscription as it is now."""
    subscription, fence, lanes = owner.subscription, owner.fence, owner.lanes
    target = subscription.targets[fence.target]
    batch = subscription.options.batch is not None and target.protocol == "HTTP"
    seq = lanes.bus.window.number() if target.protocol == "AMQP" else None
    return Delivery(subscription, target, fence, lanes.floor(), _chained(runs), batch, seq)


def _chained(runs: Sequence[Run]) -> tuple[Parcel, ...]:
    """The parcels of some runs: a run's head is the first unsettled event of its key, so its `prev` is 0."""
    if len(runs) == 1 and len(runs[0].entries) == 1:
        return (Parcel(runs[0].entries[0], 0),)
    parcels = []
    for run in runs:
        prev = 0
        for entry in run.entries:
            parcels.append(Parcel(entry, prev))
            prev = entry.position
    return tuple(parcels)


async def with_skips(owner: Owner, parcels: Sequence[Parcel]) -> tuple[Parcel, ...]:
    """The parcels with the positions skipped before each head, by the store, so a resend says the same.

    Raises:
        StoreError: the store cannot be read.
    """
    return tuple(
        [
            Parcel(parcel.entry, parcel.prev, await _skipped(owner, parcel.entry))
            if parcel.prev == 0 and parcel.entry.key in owner.skipped_keys
            else parcel
            for parcel in parcels
        ]
    )


async def _skipped(owner: Owner, entry: Entry) -> tuple[int, ...]:
    """What was skipped between the key's delivered event before `entry` and it; at most 32, newest last."""
    store, generation = owner.works.store, owner.fence.generation
    skipped = await store.channels.skipped_before(
        owner.channel, generation, entry.key, entry.position, MAX_SKIPPED
    )
    found: list[int] = []
    for position in skipped:  # newest first
        last = (found[-1] if found else entry.position) - 1
        between = Span(entry.partition, entry.key, position + 1, last)
        if await first_wanted(store.log, between, owner.sieve.wants) is not None:
            break
        found.append(position)
    if not found:
        owner.skipped_keys.discard(entry.key)  # nor is there any before what follows `entry`
    return tuple(reversed(found))
