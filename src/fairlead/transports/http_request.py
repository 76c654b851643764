# SPDX-License-Identifier: Apache-2.0
"""A delivery as bytes: body, headers, signature (interface, section 7).

What stays the same from one delivery to the next is prepared once per subscription and target in a `Plan`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairlead.core.codec import BATCH, FENCE, STRUCTURED, encode_batch
from fairlead.core.event import Event
from fairlead.core.http_binding import encode_binary
from fairlead.core.signature import Signer
from fairlead.core.subscription import Subscription, Target
from fairlead.drivers.http_client.message import Route, header_block, route_to
from fairlead.ports import Delivery
from fairlead.transports.content import (
    USER_AGENT,
    fence_body,
    stamps,
    structured,
    webhook_id,
)

_CONTENT_TYPE = b"content-type: %b\r\n"


@dataclass(frozen=True, slots=True)
class Plan:
    """What every delivery of one subscription to one target has in common.

    Attributes:
        expires_at: Unix seconds at which a secret goes out of force, and the plan with it.
    """

    subscription: Subscription
    target: Target
    route: Route
    signer: Signer
    expires_at: float

    def serves(self, delivery: Delivery, now: float) -> bool:
        """Whether the plan is the delivery's: made of the very same values, and its secrets in force."""
        return (
            self.subscription is delivery.subscription
            and self.target is delivery.target
            and now < self.expires_at
        )


def plan_for(subscription: Subscription, target: Target, *, origin: str | None, now: float) -> Plan:
    """Prepare deliveries.

    Args:
        origin: sent as `webhook-request-origin` where the target asks for the handshake.
        now: Unix seconds; decides which secrets sign.

    Raises:
        ValueError: the sink, method or a header cannot be sent, or a secret cannot sign.
    """
    secrets = subscription.secrets
    headers = tuple(_fixed_headers(target, origin))
    route = route_to(target.sink, method=target.method, headers=headers)
    return Plan(subscription, target, route, Signer(secrets.in_force(now)), secrets.in_force_until(now))


def _fixed_headers(target: Target, origin: str | None) -> Iterator[tuple[str, str]]:
    yield "user-agent", USER_AGENT
    if origin is not None and target.handshake == "required":
        yield "webhook-request-origin", origin
    authorization = _authorization(target.credential)
    if authorization is not None:
        yield "authorization", authorization
    for name, value in target.headers.items():
        if authorization is None or name.lower() != "authorization":  # the credential is the one in force
            yield name, value


def _authorization(credential: Mapping[str, Any] | None) -> str | None:
    """The header for a `sinkcredential`: sent at once, never after a challenge (HTTP webhook, 3)."""
    if credential is None:
        return None
    match credential.get("credentialtype"):
        case "PLAIN":
            pair = f"{credential.get('identifier', '')}:{credential.get('secret', '')}"
            return f"Basic {b64encode(pair.encode()).decode('ascii')}"
        case "ACCESSTOKEN":
            return f"Bearer {credential.get('accesstoken', '')}"
        case _:
            return None


def headers_and_body(delivery: Delivery, plan: Plan, timestamp: int) -> tuple[bytes, bytes]:
    """The headers that differ from delivery to delivery, and the body: the bytes that are signed are sent.

    Args:
        timestamp: Unix seconds of this attempt.
    """
    content, body = _content(delivery)
    message_id = webhook_id(delivery)
    signature = plan.signer.header(message_id, timestamp, body)
    stamp = (
        f"webhook-id: {message_id}\r\nwebhook-timestamp: {timestamp}\r\nwebhook-signature: {signature}\r\n"
    )
    return content + stamp.encode("ascii"), body


def _content(delivery: Delivery) -> tuple[bytes, bytes]:
    """Content headers and body."""
    if not delivery.parcels:
        return _CONTENT_TYPE % FENCE.encode(), fence_body(delivery)
    if delivery.batch:
        return _CONTENT_TYPE % BATCH.encode(), encode_batch(structured(delivery))
    parcel = delivery.parcels[0]
    event = parcel.entry.event
    mode = delivery.target.mode
    if mode == "bare":
        return _bare(event)
    if mode == "binary" and event.payload is not None:
        headers, body = encode_binary(event, stamps(delivery, parcel))
        if _has_content_type(headers):
            return header_block(headers), body
    # A binary event without data, or without a type for them, has no content type, which a webhook must have
    # (HTTP webhook, 2.1). Every CloudEvents receiver reads this mode too: it looks at the content type first.
    return _CONTENT_TYPE % STRUCTURED.encode(), structured(delivery)[0]


def _bare(event: Event) -> tuple[bytes, bytes]:
    """The data alone, as they would stand in binary mode."""
    if event.payload is None:
        return b"", b""
    headers, body = encode_binary(event)
    if _has_content_type(headers):
        return header_block(headers[:1]), body
    guess = "text/plain; charset=utf-8" if event.form == "text" else "application/octet-stream"
    return header_block([("content-type", guess)]), body


def _has_content_type(headers: Sequence[tuple[str, str]]) -> bool:
    """It comes first where there is one."""
    return headers[0][0] == "content-type"
