# SPDX-License-Identifier: Apache-2.0
"""The frames that every message costs, as bytes: publish, deliver, acknowledge (AMQP 0-9-1, 2.3 and 4.2).

The client library writes and reads these too, at three times the cost (docs/adr/0009-amqp-library.md); all
other frames are its own.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import pika.data
import pika.exceptions

from fairlead.drivers.amqp.message import Message

METHOD, HEADER, BODY = 1, 2, 3
PUBLISH, DELIVER, ACK, NACK = 0x003C0028, 0x003C003C, 0x003C0050, 0x003C0078
FRAME = struct.Struct(">BHI")  # type, channel, size of what follows up to the end mark
OVERHEAD = FRAME.size + 1
END = b"\xce"

_METHOD = struct.Struct(">BHII")
_CONTENT = struct.Struct(">BHIHHQH")  # frame, class, weight, size of the body, flags
_ACK = struct.Struct(">BHIIQBc")
_ACKED = struct.Struct(">QB")
_DELIVERED = struct.Struct(">QB")
_SIZE = struct.Struct(">Q")
_LONG = struct.Struct(">I")
_FLAGS = struct.Struct(">H")
_BASIC = 60

_CONTENT_TYPE, _HEADERS, _DELIVERY_MODE, _REPLY_TO, _MESSAGE_ID = 1 << 15, 1 << 13, 1 << 12, 1 << 9, 1 << 7
_SHORT = "s"
_PROPERTIES = (  # in their order; what is not a short string is skipped by its length
    (_CONTENT_TYPE, _SHORT),
    (1 << 14, _SHORT),
    (_HEADERS, "table"),
    (_DELIVERY_MODE, 1),
    (1 << 11, 1),
    (1 << 10, _SHORT),
    (_REPLY_TO, _SHORT),
    (1 << 8, _SHORT),
    (_MESSAGE_ID, _SHORT),
)


class Delivered(NamedTuple):
    """What a deliver method says."""

    tag: int
    redelivered: bool
    exchange: str
    routing_key: str


class Properties(NamedTuple):
    """What a content header says: the size of the body, and the properties that we use."""

    size: int
    content_type: str | None
    headers: Mapping[str, Any]
    reply_to: str | None
    message_id: str | None
    fault: str = ""


# -- writing -----------------------------------------------------------------------------------------------


def publish_frame(channel: int, exchange: str, routing_key: str) -> bytes:
    """The method frame of a mandatory publish, the same for every message of one way.

    Raises:
        ValueError: a name is longer than 255 bytes.
    """
    payload = b"\x00\x00%b%b\x01" % (_short(exchange), _short(routing_key))
    return _METHOD.pack(METHOD, channel, len(payload) + 4, PUBLISH) + payload + END


def content_frames(channel: int, message: Message, frame_max: int) -> bytes:
    """The content header and body frames of a persistent message.

    Raises:
        ValueError: a property is longer than 255 bytes, a header is of no type that AMQP has, or all of them
            together are more than one frame holds, for which a broker ends the connection.
    """
    body = message.body
    flags = _DELIVERY_MODE
    parts = [b""]
    if message.content_type is not None:
        flags |= _CONTENT_TYPE
        parts.append(_short(message.content_type))
    if message.headers:
        flags |= _HEADERS
        parts.append(_table(message.headers))
    parts.append(b"\x02")
    if message.reply_to is not None:
        flags |= _REPLY_TO
        parts.append(_short(message.reply_to))
    if message.message_id is not None:
        flags |= _MESSAGE_ID
        parts.append(_short(message.message_id))
    length = sum(map(len, parts)) + 14
    if length > frame_max - OVERHEAD:
        raise ValueError(f"its properties take {length} bytes; {frame_max - OVERHEAD} are possible")
    parts[0] = _CONTENT.pack(HEADER, channel, length, _BASIC, 0, len(body), flags)
    parts.append(END)
    most = frame_max - OVERHEAD
    for start in range(0, len(body), most):
        piece = body[start : start + most]
        parts += (FRAME.pack(BODY, channel, len(piece)), piece, END)
    return b"".join(parts)


def ack_frame(channel: int, tag: int, multiple: bool) -> bytes:
    """The acknowledgement of one delivery, or of all up to it."""
    return _ACK.pack(METHOD, channel, 13, ACK, tag, multiple, END)


def _short(text: str) -> bytes:
    data = text.encode()
    if len(data) > 255:
        raise ValueError(f"{text[:20]!r}… has {len(data)} bytes; AMQP takes 255 there")
    return b"%c%b" % (len(data), data)


def _table(headers: Mapping[str, Any]) -> bytes:
    parts = []
    for name, value in headers.items():
        parts.append(_short(name))
        if type(value) is str:
            data = value.encode()
            parts += (b"S", _LONG.pack(len(data)), data)
        else:
            try:
                pika.data.encode_value(parts, value)
            except (pika.exceptions.AMQPError, struct.error) as error:
                raise ValueError(f"the header {name!r} is of no type that AMQP has") from error
    data = b"".join(parts)
    return _LONG.pack(len(data)) + data


# -- reading -----------------------------------------------------------------------------------------------


def read_confirm(data: bytes, at: int) -> tuple[int, bool]:
    """The tag of an ack or nack, and whether it is for all up to it; `at` is behind the method's number."""
    tag, bits = _ACKED.unpack_from(data, at)
    return tag, bool(bits & 1)


def read_deliver(data: bytes, at: int) -> Delivered:
    """A deliver method; `at` is behind the method's number."""
    at += 1 + data[at]  # the consumer's tag: a channel has one consumer
    tag, redelivered = _DELIVERED.unpack_from(data, at)
    exchange, at = _read_short(data, at + 9)
    routing_key, _ = _read_short(data, at)
    return Delivered(tag, bool(redelivered & 1), exchange, routing_key)


def read_properties(data: bytes, at: int) -> Properties:
    """A content header; `at` is where the class stands.

    What cannot be read, a time beyond the year 9999, say, must not end the connection: the broker would
    deliver the message again, and so on for ever. The properties are empty then, and `fault` says why.
    """
    (size,) = _SIZE.unpack_from(data, at + 4)
    try:
        return _read(data, at + 12, size)
    except Exception as error:  # whatever a decoder may meet in bytes that others wrote
        return Properties(size, None, {}, None, None, f"{type(error).__name__}: {error}"[:200])


def _read(data: bytes, at: int, size: int) -> Properties:
    (flags,) = _FLAGS.unpack_from(data, at)
    at += 2
    if flags & 1:
        raise ValueError("the flags go on")
    found: dict[int, Any] = {}
    for flag, kind in _PROPERTIES:
        if not flags & flag:
            continue
        if kind == _SHORT:
            found[flag], at = _read_short(data, at)
        elif kind == "table":
            found[flag], at = _read_table(data, at)
        else:
            at += 1
    return Properties(
        size,
        found.get(_CONTENT_TYPE),
        found.get(_HEADERS) or {},
        found.get(_REPLY_TO),
        found.get(_MESSAGE_ID),
    )


def _read_short(data: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + data[at]
    return data[at + 1 : end].decode(), end


def _read_table(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    (length,) = _LONG.unpack_from(data, at)
    at += 4
    end = at + length
    table: dict[str, Any] = {}
    while at < end:
        name, at = _read_short(data, at)
        if data[at] == 0x53:  # S, a string: nearly every header is one
            (length,) = _LONG.unpack_from(data, at + 1)
            at += 5 + length
            value = data[at - length : at]
            try:
                table[name] = value.decode()
            except UnicodeDecodeError:
                table[name] = value
        else:
            table[name], at = pika.data.decode_value(data, at)
            if isinstance(table[name], int) and type(table[name]) is not bool:
                table[name] = int(table[name])  # the library's own kind of integer is none for JSON
    if at != end:
        raise ValueError("a table ends beyond its length")
    return table, end
