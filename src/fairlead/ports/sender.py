# SPDX-License-Identifier: Apache-2.0
"""The port to receivers: one delivery is one request to one target (design, sections 5 and 6)."""

from __future__ import annotations

from typing import Protocol

import msgspec

from fairlead.core.channel import Fence
from fairlead.core.log import Entry
from fairlead.core.outcome import Outcome
from fairlead.core.subscription import Subscription, Target


class Parcel(msgspec.Struct, frozen=True):
    """One event of a delivery: its entry, the chain's `prev`, and what was skipped before it."""

    entry: Entry
    prev: int
    skipped: tuple[int, ...] = ()


class Delivery(msgspec.Struct, frozen=True):
    """One request to one target: a single event, a batch (several parcels) or a fence (none).

    `floor` is `flfloor`. In a batch a key's parcels stand in order, at most one run per key. `seq` is
    `flseq`, on a bus only.
    """

    subscription: Subscription
    target: Target
    fence: Fence
    floor: int
    parcels: tuple[Parcel, ...]
    batch: bool = False
    seq: int | None = None


class Answer(msgspec.Struct, frozen=True):
    """What came of a delivery: one outcome per parcel, in order; for a fence one outcome.

    `heard` is True when the library answered in the delivery's own epoch.
    """

    outcomes: tuple[Outcome, ...]
    duration_ms: int
    started_at: float
    heard: bool = False


class Sender(Protocol):
    """One transport to receivers."""

    async def send(self, delivery: Delivery) -> Answer:
        """Try once, within the subscription's timeout; never raises for anything the network does.

        A started request ends by its answer or its own deadline. Cancelling closes its connection.
        """

    async def check(self, target: Target, subscription: Subscription) -> float | None:
        """Check a sink before a subscription is stored: address, scheme, handshake.

        Returns:
            The requests per second that the sink allows (it lowers `rate`); None where it set no limit.

        Raises:
            ForbiddenSink: the address may not be called. HandshakeRefused: the sink did not consent.
        """

    async def close(self) -> None:
        """Close every connection; idempotent."""
