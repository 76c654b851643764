# SPDX-License-Identifier: Apache-2.0
"""Deliveries and answers as messages of the simulated broker (interface, section 8)."""

from __future__ import annotations

import msgspec

from fairlead.core.codec import encode_structured
from fairlead.core.signature import SIGNATURE, TIMESTAMP, sign
from fairlead.ports import Delivery
from fairlead.testing.simulation.broker import Message
from fairlead.transports.http_request import EVENT_TYPE, FENCE_TYPE, stamps, webhook_id


def encoded(delivery: Delivery, reply_to: str, timestamp: int) -> Message:
    """One event, or a fence, signed."""
    if delivery.parcels:
        (parcel,) = delivery.parcels
        named = stamps(delivery, parcel)
        if delivery.seq is not None:
            named["flseq"] = str(delivery.seq)
        content_type, body = EVENT_TYPE, encode_structured(parcel.entry.event, named)
    else:
        fence = delivery.fence
        content_type, body = FENCE_TYPE, msgspec.json.encode(
            {
                "flsubscription": fence.channel.subscription,
                "flpartition": str(fence.channel.partition),
                "flgeneration": str(fence.generation),
                "flepoch": str(fence.epoch),
                "flfloor": str(delivery.floor),
            }
        )  # fmt: skip
    secret = delivery.subscription.secrets.current
    message_id = webhook_id(delivery)
    headers = {TIMESTAMP: str(timestamp), SIGNATURE: sign(secret, message_id, timestamp, body)}
    return Message(body, content_type.decode(), message_id, headers, reply_to)
