# SPDX-License-Identifier: Apache-2.0
"""Binary content mode: an event as HTTP headers and body (CloudEvents HTTP binding 1.0.2, section 3.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote_from_bytes, unquote_to_bytes

from fairlead.core.attributes import OURS, canonical, check_attributes
from fairlead.core.event import Event
from fairlead.core.payload import charset_of, payload_in_body
from fairlead.core.pointer import parse_pointer
from fairlead.errors import Fault, InvalidEvent, MalformedJson

Headers = list[tuple[str, str]]

_PREFIX = b"ce-"
_UNQUOTED = bytes(set(range(0x21, 0x7F)) - set(b'"%')).decode()
_needs_encoding = re.compile(r"[^!#$&-~]").search
_bad_escape = re.compile(rb"%(?![0-9A-Fa-f]{2})").search
_backslash = re.compile(rb"\\(.)", re.DOTALL)


def percent_encode(value: str) -> str:
    """A header's value for a canonical string: space, `"`, `%` and all outside U+0021-U+007E encoded."""
    return quote_from_bytes(value.encode(), safe=_UNQUOTED) if _needs_encoding(value) else value


def percent_decode(value: bytes) -> str:
    """The string that a header's value stands for: unquoted first, then one round of percent-decoding.

    Raises:
        ValueError: a `%` without two hexadecimal digits, or bytes that are not UTF-8; the message says which.
    """
    if len(value) > 1 and value[:1] == b'"' == value[-1:]:
        value = _backslash.sub(rb"\1", value[1:-1])
    if b"%" in value:
        if _bad_escape(value):
            raise ValueError("has a % that two hexadecimal digits do not follow")
        value = unquote_to_bytes(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 after percent-decoding") from None


def decode_binary(headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Event:
    """The event of a request in binary mode.

    Args:
        headers: every header, names in lower case; `ce-` and `content-type` count.
        body: the data; empty for no data.

    Raises:
        InvalidEvent: with one fault per header that CloudEvents 1.0 refuses.
        MalformedJson: the content type says JSON and the body is not.
    """
    attributes: dict[str, str] = {}
    faults: list[Fault] = []
    for header, value in headers:
        if header.startswith(_PREFIX):
            name = header[3:].decode("latin-1")
        elif header == b"content-type":
            name = "datacontenttype"
        else:
            continue
        fault = _read_header(name, header.decode("latin-1"), value.strip(b" \t"), attributes)
        if fault is not None:
            faults.append(fault)
    if faults:
        raise InvalidEvent(f"{faults[0].header} {faults[0].detail}", faults=faults)
    for name in OURS.intersection(attributes):
        del attributes[name]
    try:
        check_attributes(attributes)
    except InvalidEvent as problem:
        problem.faults = tuple(map(_in_header, problem.faults))
        raise
    content_type = attributes.get("datacontenttype")
    try:
        payload, form = payload_in_body(body, content_type)
    except MalformedJson as problem:
        detail = f"content-type is {content_type}, but {problem.detail}"
        raise MalformedJson(detail, faults=problem.faults) from problem
    return Event.of(attributes, payload, form)


def encode_binary(event: Event, stamps: Mapping[str, str] | None = None) -> tuple[Headers, bytes]:
    """The headers (`content-type` among them) and the body of an event in binary mode.

    JSON without a content type gets `application/json`, which it implies (JSON format, 3.1.2).

    Args:
        stamps: attributes of the relay to add.
    """
    headers = []
    content_type = event.datacontenttype
    if content_type is None and event.payload is not None and event.form == "json":
        content_type = "application/json"
    if content_type is not None:
        headers.append(("content-type", content_type))
    for name, value in (*event.attributes.items(), *(stamps or {}).items()):
        if name != "datacontenttype":
            headers.append((f"ce-{name}", percent_encode(canonical(value))))
    body = event.payload or b""
    if event.form == "text" and content_type is not None:
        body = _in_charset(body, charset_of(content_type))
    return headers, body


def _read_header(name: str, header: str, value: bytes, attributes: dict[str, str]) -> Fault | None:
    if header == "ce-datacontenttype":
        return Fault(header=header, detail="must not be there", hint="the content-type header says it")
    if name in attributes:
        return Fault(header=header, detail="stands there more than once", hint="send each header once")
    try:
        # A media type is no CloudEvents header value: it has quoted parameters and is never percent-encoded.
        attributes[name] = value.decode() if header == "content-type" else percent_decode(value)
    except UnicodeDecodeError:
        return Fault(header=header, detail="must be ASCII")
    except ValueError as error:
        hint = "percent-encode the value's UTF-8; a % itself is %25"
        return Fault(header=header, detail=str(error), hint=hint)
    return None


def _in_header(fault: Fault) -> Fault:
    (name,) = parse_pointer(fault.pointer or "/")
    return replace(fault, pointer=None, header="content-type" if name == "datacontenttype" else f"ce-{name}")


def _in_charset(text: bytes, charset: str | None) -> bytes:
    """UTF-8 text in the character set that its content type names, if that can be done."""
    if charset in (None, "utf-8", "utf8") or text.isascii():
        return text
    try:
        return text.decode().encode(charset)
    except (LookupError, UnicodeError):
        return text
