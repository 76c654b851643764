# SPDX-License-Identifier: Apache-2.0
"""What the store keeps of a subscription: all of it, secrets included, exactly.

Members that a newer Fairlead adds must have defaults, so that older records can be read.
"""

from __future__ import annotations

import msgspec

from fairlead.core.subscription import Matching, Subscription

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode_subscription = msgspec.json.Decoder(Subscription).decode
_decode_matching = msgspec.json.Decoder(Matching).decode


def to_record(subscription: Subscription) -> bytes:
    """The subscription as one JSON object; equal ones give equal bytes."""
    return _encode(subscription)


def from_record(record: bytes) -> Subscription:
    """The subscription of a record. Raises `msgspec.MsgspecError` where it is damaged."""
    return _decode_subscription(record)


def matching_to_json(matching: Matching) -> bytes:
    """What a filter revision wants, as one JSON object; equal ones give equal bytes."""
    return _encode(matching)


def matching_from_json(record: bytes) -> Matching:
    """The matching of a record. Raises `msgspec.MsgspecError` where it is damaged."""
    return _decode_matching(record)
