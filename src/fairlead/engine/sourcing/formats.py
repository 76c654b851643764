# SPDX-License-Identifier: Apache-2.0
"""The formats of a source: what turns a message into events (interface, section 9)."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.core import amqp_binding
from fairlead.core.event import Event
from fairlead.core.json_mapping import JsonMapping
from fairlead.core.oslo import event_of
from fairlead.core.oslo_keys import KeyTable
from fairlead.core.source_message import SourceMessage
from fairlead.engine.sourcing.inlet import Format


def cloudevents(*, batch_events: int, event_bytes: int) -> Format:
    """CloudEvents in structured, binary and batch mode."""

    def read(message: SourceMessage) -> Sequence[Event]:
        return amqp_binding.events_of(message, batch_events=batch_events, event_bytes=event_bytes)

    return read


def plain_json(mapping: JsonMapping) -> Format:
    """JSON texts by a mapping."""

    def read(message: SourceMessage) -> Sequence[Event]:
        return (mapping.event_of(message),)

    return read


def notifications(keys: KeyTable) -> Format:
    """OpenStack's notifications in both envelopes."""

    def read(message: SourceMessage) -> Sequence[Event]:
        return (event_of(message.body, message.content_type, keys, source=None),)

    return read
