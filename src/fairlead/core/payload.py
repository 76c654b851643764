# SPDX-License-Identifier: Apache-2.0
"""An event's data: the bytes that came, and the form in which the JSON format writes them.

| form     | payload      | JSON format                    | HTTP binary mode |
|----------|--------------|--------------------------------|------------------|
| `json`   | JSON text    | `data`, that text              | that text        |
| `text`   | UTF-8        | `data`, a string               | the text         |
| `binary` | any bytes    | `data_base64`                  | the bytes        |
"""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from fairlead.core import json_text
from fairlead.core.attributes import is_json_type, shown
from fairlead.errors import Fault, InvalidEvent, MalformedJson, UnsupportedMediaType

Form = Literal["json", "text", "binary"]

_UTF8 = (None, "utf-8", "utf8", "us-ascii")
_CHARSET = re.compile(r';[ \t]*charset="?([^";\s]+)', re.IGNORECASE)
_encode = msgspec.json.Encoder().encode


def payload_of(data: Any, datacontenttype: str | None) -> tuple[bytes | None, Form, str | None]:
    """The payload of a Python value, its form, and the content type that says so.

    bytes stay binary; a str under a content type that is not JSON is text; anything else becomes JSON, and a
    missing content type `application/json`. None is no data.

    Raises:
        InvalidEvent: the value has no JSON: NaN, a lone surrogate, an unknown type, a cycle, over 128 levels.
    """
    if data is None:
        return None, "json", datacontenttype
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data), "binary", datacontenttype
    json_type = not isinstance(datacontenttype, str) or is_json_type(datacontenttype)
    if not json_type and not isinstance(data, str):
        raise _refused(f"is {shown(data)}, but datacontenttype is {datacontenttype}", "give str or bytes")
    try:
        if not json_type:
            return data.encode(), "text", datacontenttype
        payload = _encode(data)
        if b"null" in payload and _has_no_number(msgspec.to_builtins(data, str_keys=True)):
            raise _refused("holds NaN or Infinity, which JSON has not", "give None or a string instead")
        json_text.check_levels(payload)
    except (RecursionError, MalformedJson) as error:
        detail = f"is nested deeper than {json_text.MAX_LEVELS} levels, or in itself"
        raise _refused(detail, "flatten it") from error
    except UnicodeEncodeError as error:
        raise _refused("holds a lone surrogate", "give bytes if it is not text") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise _refused(f"cannot be written as JSON: {error}", "give JSON values, or bytes") from error
    return payload, "json", datacontenttype or "application/json"


def payload_in_json(
    data: msgspec.Raw | None, encoded: msgspec.Raw | None, content_type: str | None
) -> tuple[bytes | None, Form]:
    """The payload of an event in the JSON format, of its members `data` and `data_base64` (3.1.2).

    Raises:
        MalformedJson: `data` has more than 128 levels.
        InvalidEvent: both members are there, or `data_base64` is not base64.
    """
    if encoded is not None and bytes(encoded) != b"null":
        if data is not None and bytes(data) != b"null":
            raise _refused("stands beside data_base64", "send one of the two")
        return _unbase64(encoded), "binary"
    if data is None:
        return None, "json"
    payload = bytes(data)
    if payload[:1] == b'"' and not is_json_type(content_type):
        text = json_text.read_string(payload)
        return (text or "").encode(), "text"
    json_text.check_levels(payload)
    return payload, "json"


def payload_in_body(body: bytes, content_type: str | None) -> tuple[bytes | None, Form]:
    """The payload of an event in binary mode; an empty body is no data.

    JSON types must hold JSON; `text/…` in UTF-8 is text; everything else stays as it is.

    Raises:
        MalformedJson: the content type says JSON and the body is not.
    """
    if not body:
        return None, "json"
    if content_type is None:
        return body, "binary"
    if is_json_type(content_type):
        json_text.check_value(body, "")
        return body.strip(b" \t\r\n"), "json"
    if content_type[:5].lower() == "text/" and charset_of(content_type) in _UTF8:
        try:
            body.decode()
        except UnicodeDecodeError:
            return body, "binary"
        return body, "text"
    return body, "binary"


def charset_of(content_type: str) -> str | None:
    """The `charset` parameter of a media type, in lower case."""
    found = _CHARSET.search(content_type)
    return found[1].lower() if found else None


def check_charset(content_type: str, supported: Sequence[str]) -> None:
    """Refuse JSON that says to be in another charset than UTF-8, which JSON is (RFC 8259, 8.1).

    Raises:
        UnsupportedMediaType: with the content types that are `supported`.
    """
    if charset_of(content_type) not in _UTF8:
        hint = "send JSON in UTF-8, and leave the charset out"
        raise UnsupportedMediaType(
            f"content-type is {content_type[:100]}; {hint}",
            faults=[Fault(header="content-type", detail="must not name a charset but utf-8", hint=hint)],
            members={"supported": list(supported)},
        )


def check_coding(coding: str) -> None:
    """Refuse a body that is compressed: what is kept and sent on has no place to say so.

    Args:
        coding: the `content-encoding` header.

    Raises:
        UnsupportedMediaType
    """
    if coding.strip().lower() not in ("", "identity"):
        detail, hint = "must be identity, or not there", "send the body as it is, not compressed"
        raise UnsupportedMediaType(
            f"content-encoding is {coding[:100]!r}; {hint}",
            faults=[Fault(header="content-encoding", detail=detail, hint=hint)],
            members={"supported": ["identity"]},
        )


def _unbase64(encoded: msgspec.Raw) -> bytes:
    text = json_text.read_string(encoded)
    if text is None:
        raise _refused("must be a string", "write the bytes in base64 (RFC 4648)", "/data_base64")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        hint = "use the standard alphabet (+ and /), padded, without line breaks"
        raise _refused("is not base64 (RFC 4648)", hint, "/data_base64") from error


def _has_no_number(value: Any) -> bool:
    """Whether a NaN or an infinity is somewhere in a value; msgspec would write null."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_no_number, value.values()))
    return isinstance(value, list | tuple | set | frozenset) and any(map(_has_no_number, value))


def _refused(detail: str, hint: str, pointer: str = "/data") -> InvalidEvent:
    return InvalidEvent(f"{pointer[1:]} {detail}", faults=[Fault(pointer=pointer, detail=detail, hint=hint)])
