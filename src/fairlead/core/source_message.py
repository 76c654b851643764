# SPDX-License-Identifier: Apache-2.0
"""One message of a queue as a value: what a mapping reads, and what a reject keeps of it to be read again."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

_PLAIN = (str, bool, int, float, type(None))
_OTHERS = ":headers"
MESSAGE_ID = ":message-id"
"""Under this name the headers of a reject have the id that the sender gave the message."""

_PROPERTIES = {
    ":content-type": "content_type",
    MESSAGE_ID: "message_id",
    ":routing-key": "routing_key",
    ":headers-fault": "headers_fault",
}


class SourceMessage(msgspec.Struct, frozen=True):
    """A message as it came, from whatever bus.

    Attributes:
        body: its bytes; of a message above its source's limit only the first ones.
        size_bytes: how many bytes the body had.
        headers: JSON values only; `header_value` makes them.
        headers_fault: why they could not be read, and are empty; "" where they could.
    """

    body: bytes
    size_bytes: int
    content_type: str | None = None
    message_id: str | None = None
    routing_key: str | None = None
    headers: Mapping[str, Any] = {}
    headers_fault: str = ""

    @property
    def is_cut(self) -> bool:
        """Whether bytes of the body are missing."""
        return self.size_bytes > len(self.body)


def header_value(value: Any) -> Any:
    """A header's value as JSON has it, so that it can be kept and read again as the same.

    Bytes and times become objects (`{"base64": …}`, `{"time": …}`): they are not the strings they look like.
    """
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return {"time": moment.isoformat().replace("+00:00", "Z")}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, Mapping):
        return {str(name): header_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [header_value(item) for item in value]
    return {"other": type(value).__name__}


def reject_headers(message: SourceMessage) -> dict[str, str]:
    """A message without its body as the texts of a reject (`GET /rejects`).

    Headers that are strings stand under their names, properties under names that begin with a colon, and
    headers of other types as one JSON object under `:headers`.
    """
    kept = {name: value for name, attribute in _PROPERTIES.items() if (value := getattr(message, attribute))}
    plain = {
        name: value
        for name, value in message.headers.items()
        if isinstance(value, str) and not name.startswith(":")
    }
    others = {name: value for name, value in message.headers.items() if name not in plain}
    if others:
        kept[_OTHERS] = msgspec.json.encode(others).decode()
    return kept | plain


def message_of(headers: Mapping[str, str], body: bytes, size_bytes: int) -> SourceMessage:
    """The message that `reject_headers` wrote down."""
    properties = {attribute: headers[name] for name, attribute in _PROPERTIES.items() if name in headers}
    plain: dict[str, Any] = {name: value for name, value in headers.items() if not name.startswith(":")}
    others = msgspec.json.decode(headers.get(_OTHERS, "{}"), type=dict[str, Any])
    return SourceMessage(body, size_bytes, headers=plain | others, **properties)
