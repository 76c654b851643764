# SPDX-License-Identifier: Apache-2.0
"""Deliveries and answers as messages of the simulated broker (interface, section 8)."""

from __future__ import annotations

from fairlead.core.signature import Signer
from fairlead.ports import Delivery
from fairlead.testing.simulation.broker import Message
from fairlead.transports.amqp_message import message_of


def encoded(delivery: Delivery, reply_to: str, timestamp: int) -> Message:
    """One event, or a fence, signed: the real transport's bytes."""
    made = message_of(delivery, Signer([delivery.subscription.secrets.current]), timestamp, reply_to)
    return Message(made.body, made.content_type or "", made.message_id or "", dict(made.headers), reply_to)
