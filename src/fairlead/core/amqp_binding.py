# SPDX-License-Identifier: Apache-2.0
"""CloudEvents in messages: structured and binary mode with the names of the AMQP protocol binding 1.0.

The JSON batch, of which that binding says nothing, is taken as over HTTP: the events of one message, all or
none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fairlead.core.attributes import OURS, REQUIRED, AttributeValue, check_attributes, shown
from fairlead.core.codec import BATCH, STRUCTURED, decode_batch, decode_structured
from fairlead.core.event import Event
from fairlead.core.payload import payload_in_body
from fairlead.core.pointer import parse_pointer
from fairlead.core.source_message import SourceMessage
from fairlead.errors import Fault, InvalidEvent, MalformedJson, TooLarge, UnsupportedMediaType

PREFIXES = ("cloudEvents_", "cloudEvents:")
"""What an attribute's header begins with; the underscore is for brokers and clients that refuse a colon."""

_STRINGS = frozenset({*REQUIRED, "subject", "time", "datacontenttype", "dataschema", "partitionkey"})


def events_of(message: SourceMessage, *, batch_events: int, event_bytes: int) -> list[Event]:
    """The events of one whole message, in order; a batch may be empty.

    A message that says nothing of itself, neither content type nor attributes, is read as structured JSON.

    Raises:
        MalformedJson, InvalidEvent, TooLarge: as the codec.
        UnsupportedMediaType: no content type of events, and no attributes in headers.
    """
    content_type = message.content_type
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type == BATCH:
        return decode_batch(message.body, batch_events, event_bytes)
    if len(message.body) > event_bytes:
        detail = f"the message has {len(message.body)} bytes; an event may have {event_bytes}"
        raise TooLarge(detail, faults=[Fault(pointer="", detail=detail)])
    attributes = _attributes(message.headers)
    if media_type == STRUCTURED or (not media_type and not attributes):
        return [decode_structured(message.body)]
    if media_type.startswith("application/cloudevents") or not attributes:
        if message.headers_fault:
            fault = Fault(header="headers", detail=message.headers_fault)
            raise InvalidEvent(f"the headers cannot be read: {message.headers_fault}", faults=[fault])
        given = f"content_type is {content_type}" if content_type else "there is no content_type"
        hint = f"send it as {STRUCTURED}, or its attributes as headers {PREFIXES[0]}id and so on"
        fault = Fault(header="content_type", detail="is not a content type of events", hint=hint)
        raise UnsupportedMediaType(
            f"{given}, and no header begins with {PREFIXES[0]}; {hint}", faults=[fault]
        )
    return [_binary(message, attributes)]


def _binary(message: SourceMessage, given: Mapping[str, tuple[str, Any]]) -> Event:
    """The event of attributes that stand in headers; the body is its data, the content type theirs."""
    attributes: dict[str, AttributeValue] = {}
    faults = []
    for name, (header, value) in given.items():
        try:
            attributes[name] = _value(name, value)
        except ValueError as error:
            faults.append(Fault(header=header, detail=str(error)))
    if faults:
        raise InvalidEvent(f"{faults[0].header} {faults[0].detail}", faults=faults)
    if message.content_type is not None:
        attributes["datacontenttype"] = message.content_type
    for name in OURS.intersection(attributes):
        del attributes[name]
    try:
        check_attributes(attributes)
    except InvalidEvent as problem:
        problem.faults = tuple(_in_header(fault, given) for fault in problem.faults)
        raise
    try:
        payload, form = payload_in_body(message.body, message.content_type)
    except MalformedJson as problem:
        detail = f"content_type is {message.content_type}, but {problem.detail}"
        raise MalformedJson(detail, faults=problem.faults) from problem
    return Event.of(attributes, payload, form)


def _attributes(headers: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """By attribute the header's name and value.

    Raises:
        InvalidEvent: one stands there in both spellings, or says the content type.
    """
    found: dict[str, tuple[str, Any]] = {}
    for header, value in headers.items():
        if not header.startswith(PREFIXES):
            continue
        name = header[len(PREFIXES[0]) :]
        if name in found:
            detail = f"stands there in both spellings, {found[name][0]} and {header}"
            raise InvalidEvent(f"{name} {detail}", faults=[Fault(header=header, detail=detail)])
        if name == "datacontenttype":
            detail, hint = "must not be there", "the content_type property says it"
            raise InvalidEvent(
                f"{header} {detail}; {hint}", faults=[Fault(header=header, detail=detail, hint=hint)]
            )
        found[name] = (header, value)
    return found


def _value(name: str, value: Any) -> AttributeValue:
    """An attribute of a header's value (`source_message.header_value`): AMQP's types are CloudEvents' own."""
    if isinstance(value, bool | str | int):
        return value
    match value:
        case {"time": str(moment)} if len(value) == 1:
            return moment
        case {"base64": str(encoded)} if len(value) == 1 and name not in _STRINGS:
            return encoded  # the canonical string of a Binary
        case {"base64": _} if len(value) == 1:
            raise ValueError("must be UTF-8 text")
    raise ValueError(f"is {shown(value)}; it must be a string, an integer, a boolean or a time")


def _in_header(fault: Fault, given: Mapping[str, tuple[str, Any]]) -> Fault:
    (name,) = parse_pointer(fault.pointer or "/")
    header = "content_type" if name == "datacontenttype" else given.get(name, (PREFIXES[0] + name,))[0]
    return replace(fault, pointer=None, header=header)
