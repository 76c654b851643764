# SPDX-License-Identifier: Apache-2.0
"""A delivery as a message: body, properties, signature (interface, section 8)."""

from __future__ import annotations

from typing import Any

from fairlead.core.amqp_binding import PREFIXES
from fairlead.core.answer import ANSWERS_HEADER, ARRAY
from fairlead.core.codec import FENCE, STRUCTURED
from fairlead.core.event import Event
from fairlead.core.http_binding import encode_binary
from fairlead.core.signature import Signer
from fairlead.drivers.amqp.message import Message
from fairlead.ports import Delivery
from fairlead.transports.content import (
    fence_body,
    stamps,
    structured,
    webhook_id,
)


def message_of(delivery: Delivery, signer: Signer, timestamp: int, reply_to: str) -> Message:
    """The message of one event, or of a fence; what is signed is sent.

    Args:
        timestamp: Unix seconds of this publish.
        reply_to: the queue for the receiver's answer.
    """
    answered = delivery.subscription.options.settles == "applied"
    further: dict[str, Any] = {ANSWERS_HEADER: ARRAY} if answered else {}
    if not delivery.parcels:
        content_type, body = FENCE, fence_body(delivery)
    elif delivery.target.mode == "binary":
        event = delivery.parcels[0].entry.event
        content_type, body = _data_of(event)
        further = _attributes(delivery, event)
    else:
        content_type, body = STRUCTURED, structured(delivery)[0]
    message_id = webhook_id(delivery)
    headers = {
        **further,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signer.header(message_id, timestamp, body),
    }
    return Message(body, content_type or None, message_id, reply_to, headers)


def _attributes(delivery: Delivery, event: Event) -> dict[str, Any]:
    """The event's attributes and the chain's; AMQP has strings, integers and booleans of its own."""
    both = {**event.attributes, **stamps(delivery, delivery.parcels[0])}
    return {f"{PREFIXES[0]}{name}": value for name, value in both.items() if name != "datacontenttype"}


def _data_of(event: Event) -> tuple[str, bytes]:
    """The content type, "" for none, and the data as they stand in a body."""
    headers, body = encode_binary(event)
    content_type = headers[0][1] if headers and headers[0][0] == "content-type" else ""
    return content_type, body
