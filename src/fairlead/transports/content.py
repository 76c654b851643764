# SPDX-License-Identifier: Apache-2.0
"""What a delivery says, whatever carries it: its id, the chain's attributes, its body (interface, 7, 8)."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from fairlead.core.codec import encode_stamped
from fairlead.core.stamps import Stamps
from fairlead.ports import Delivery, Parcel

USER_AGENT = "Fairlead/1.0"

_encode = msgspec.json.Encoder().encode


def webhook_id(delivery: Delivery) -> str:
    """Unique per subscription, generation and what is sent; the same on each retry (interface, section 7)."""
    fence = delivery.fence
    channel = fence.channel
    start = f"{channel.subscription}_{fence.generation}_{channel.partition}_"
    if not delivery.parcels:
        return f"{start}f{fence.epoch}"
    if not delivery.batch:
        return f"{start}{delivery.parcels[0].entry.position}"
    positions = " ".join(str(parcel.entry.position) for parcel in delivery.parcels)
    return f"{start}b{blake2b(positions.encode('ascii')).hexdigest()[:32]}"


def stamps(delivery: Delivery, parcel: Parcel) -> dict[str, str]:
    """The chain's attributes of one event (design, section 6)."""
    fence = delivery.fence
    return Stamps(
        fence.channel,
        fence.generation,
        fence.epoch,
        delivery.floor,
        parcel.entry.position,
        parcel.prev,
        delivery.seq,
        parcel.skipped,
    ).attributes()


def _common_stamps(delivery: Delivery) -> dict[str, str]:
    """Those that all of a delivery's events have."""
    fence = delivery.fence
    return {
        "flsubscription": fence.channel.subscription,
        "flpartition": str(fence.channel.partition),
        "flgeneration": str(fence.generation),
        "flepoch": str(fence.epoch),
        "flfloor": str(delivery.floor),
    }


def structured(delivery: Delivery) -> list[bytes]:
    """A delivery's events in the JSON format, with their stamps; what all have in common is written once."""
    common = _encode(_common_stamps(delivery))[1:-1]
    events = []
    for parcel in delivery.parcels:
        entry = parcel.entry
        members = b',%b,"flpos":"%d","flprev":"%d"' % (common, entry.position, parcel.prev)
        if delivery.seq is not None:
            members = b'%b,"flseq":"%d"' % (members, delivery.seq)
        if parcel.skipped:
            members = b'%b,"flskipped":"%b"' % (members, " ".join(map(str, parcel.skipped)).encode())
        events.append(encode_stamped(entry.event, members))
    return events


def fence_body(delivery: Delivery) -> bytes:
    """The body of a fence: the channel, and whose word this is."""
    return _encode(_common_stamps(delivery))
