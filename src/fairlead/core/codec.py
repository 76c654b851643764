# SPDX-License-Identifier: Apache-2.0
"""Events as bytes and back: the JSON format, its batches, and the HTTP binding as a whole (CloudEvents 1.0).

What is decoded can be encoded again without a change of its data, and what CloudEvents 1.0 refuses is refused
with every fault named. Attributes that are the relay's own (`OURS`) are dropped on the way in.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec

from fairlead.core import json_text
from fairlead.core.attributes import OURS, check_attributes
from fairlead.core.event import Event
from fairlead.core.http_binding import decode_binary
from fairlead.core.payload import check_charset, payload_in_json
from fairlead.core.pointer import pointer_to
from fairlead.errors import Fault, InvalidEvent, Problem, TooLarge, UnsupportedMediaType

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
FENCE = "application/vnd.fairlead.fence+json"
"""Of a delivery without an event, which asks for an answer."""
SUPPORTED = (STRUCTURED, BATCH, "any other with ce-specversion (binary mode)")

_read = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def decode_structured(body: bytes) -> Event:
    """The event of a body in the JSON format.

    Raises:
        MalformedJson: not JSON in UTF-8, or data of more than 128 levels.
        InvalidEvent: with one fault per attribute that CloudEvents 1.0 refuses.
    """
    json_text.check_utf8(body)
    return _decode(body)


def decode_delivery(body: bytes) -> Event:
    """As `decode_structured`, but the relay's own attributes stay. Raises as it does."""
    json_text.check_utf8(body)
    return _decode(body, ours=True)


def decode_batch(body: bytes, max_events: int, max_event_bytes: int | None = None) -> list[Event]:
    """The events of a body in the JSON batch format, in order; there may be none.

    Raises:
        MalformedJson, InvalidEvent: as `decode_structured`; each fault names the event by its index, and
            every event's are there.
        TooLarge: more than `max_events`, or an event beyond `max_event_bytes` (its index in the faults).
    """
    json_text.check_utf8(body)
    items = json_text.items(body)
    if len(items) > max_events:
        detail = f"the batch has {len(items)} events; {max_events} are taken at once ([limits] batch_events)"
        raise TooLarge(detail, members={"limit_events": max_events})
    events: list[Event] = []
    problems: list[tuple[int, Problem]] = []
    for index, item in enumerate(items):
        text = bytes(item)
        try:
            _check_size(len(text), max_event_bytes)
            events.append(_decode(text))
        except Problem as problem:
            problems.append((index, problem))
    if problems:
        raise _of_batch(problems)
    return events


def decode_request(
    content_type: str | None,
    headers: Sequence[tuple[bytes, bytes]],
    body: bytes,
    *,
    max_events: int = 1000,
    max_event_bytes: int,
) -> list[Event]:
    """The events of an HTTP request in any of the three content modes (HTTP binding, section 3).

    Args:
        content_type: the `content-type` header; None where there is none.
        headers: every header, names in lower case.

    Raises:
        MalformedJson, InvalidEvent: the content cannot be taken; every fault is named.
        TooLarge: too many events, or an event of more than `max_event_bytes` as it came.
        UnsupportedMediaType: not a content type of events, and no `ce-specversion` header; JSON in another
            charset than UTF-8, in structured or batch mode.
    """
    first, parameters, _ = (content_type or "").partition(";")
    media_type = first.strip().lower()
    if content_type and parameters and media_type in (STRUCTURED, BATCH):
        check_charset(content_type, SUPPORTED)
    if media_type == STRUCTURED:
        _check_size(len(body), max_event_bytes)
        return [decode_structured(body)]
    if media_type == BATCH:
        return decode_batch(body, max_events, max_event_bytes)
    spoken = any(name == b"ce-specversion" for name, _ in headers)
    if not spoken or media_type.startswith("application/cloudevents"):
        raise _unsupported(content_type)
    size = len(body) + sum(len(name) + len(value) for name, value in headers if name.startswith(b"ce-"))
    _check_size(size, max_event_bytes)
    return [decode_binary(headers, body)]


def encode_structured(event: Event, stamps: Mapping[str, str] | None = None) -> bytes:
    """The event in the JSON format: its attributes as they came, then `stamps`, then its data untouched.

    Args:
        stamps: attributes of the relay to add; none of them is an attribute of the event.
    """
    return encode_stamped(event, b"," + _encode(stamps)[1:-1] if stamps else b"")


def encode_stamped(event: Event, members: bytes) -> bytes:
    """As `encode_structured`, with stamps that are JSON members already, each after a comma."""
    payload, form = event.payload, event.form
    if payload is None:
        return b"%b%b}" % (event.head[:-1], members)
    if form == "json":
        return b'%b%b,"data":%b}' % (event.head[:-1], members, payload)
    if form == "text":
        return b'%b%b,"data":%b}' % (event.head[:-1], members, _encode(payload.decode()))
    return b'%b%b,"data_base64":"%b"}' % (event.head[:-1], members, b2a_base64(payload, newline=False))


def encode_batch(encoded: Iterable[bytes]) -> bytes:
    """The JSON batch of events that `encode_structured` has encoded, in order."""
    return b"[" + b",".join(encoded) + b"]"


def _decode(text: bytes, *, ours: bool = False) -> Event:
    """The event of a JSON object in UTF-8, with the relay's attributes or without."""
    members = json_text.members(text)
    different = len(members)
    data, encoded = members.pop("data", None), members.pop("data_base64", None)
    try:
        attributes = {name: _read(value) for name, value in members.items()}
    except (msgspec.DecodeError, RecursionError):
        raise _unreadable(members) from None
    content_type = attributes.get("datacontenttype")
    if not isinstance(content_type, str):  # what is neither there nor null is refused below
        content_type = None
    payload, form = payload_in_json(data, encoded, content_type)
    try:
        values = "".join(attributes.values())
        # A text exactly as long as its members has no space, no escape and no repetition.
        data_length = 0 if data is None else len(payload or b"") + 8
        compact = len(text) == len("".join(attributes)) + len(values) + 6 * len(attributes) + data_length + 1
    except TypeError:  # an integer, a boolean or null is among the values
        attributes = {name: value for name, value in attributes.items() if value is not None}
        compact = False
    if not compact:
        json_text.refuse_repetition(text, different)
    if not ours and not OURS.isdisjoint(attributes):
        attributes = {name: value for name, value in attributes.items() if name not in OURS}
    check_attributes(attributes)
    return Event.of(attributes, payload, form)


def _unreadable(members: Mapping[str, msgspec.Raw]) -> InvalidEvent:
    """The problem of attributes that are JSON and yet no value: numbers out of range, endless nesting."""
    faults = []
    for name, value in members.items():
        try:
            _read(value)
        except (msgspec.DecodeError, RecursionError):
            what, hint = (
                "must be a string, an integer of 32 bits or a boolean",
                "write such a number as a string",
            )
            faults.append(Fault(pointer=pointer_to(name), detail=what, hint=hint))
    return InvalidEvent(f"an attribute {faults[0].detail}", faults=faults)


def _check_size(size_bytes: int, limit_bytes: int | None) -> None:
    if limit_bytes is not None and size_bytes > limit_bytes:
        detail = f"the event has {size_bytes} bytes; this relay takes {limit_bytes}"
        hint = "send a reference to the data instead, or raise [limits] event_bytes"
        fault = Fault(pointer="", detail=f"must be at most {limit_bytes} bytes", hint=hint)
        raise TooLarge(detail, faults=[fault], members={"limit_bytes": limit_bytes})


def _of_batch(problems: Sequence[tuple[int, Problem]]) -> Problem:
    """One problem of the first one's type with the faults of all."""
    first_index, first = problems[0]
    faults = [replace(fault, index=index) for index, problem in problems for fault in problem.faults]
    return type(first)(f"event {first_index}: {first.detail}", faults=faults, members=first.members)


def _unsupported(content_type: str | None) -> UnsupportedMediaType:
    given = "there is no content-type" if content_type is None else f"content-type is {content_type[:100]}"
    hint = f"send one event as {STRUCTURED}, or its attributes as ce- headers"
    return UnsupportedMediaType(
        f"{given}; {hint}",
        faults=[Fault(header="content-type", detail="is not a content type of events", hint=hint)],
        members={"supported": list(SUPPORTED)},
    )
