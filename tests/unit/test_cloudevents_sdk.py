# SPDX-License-Identifier: Apache-2.0
"""The CloudEvents SDK as an independent check: it reads what we write, and we what it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings.http import (
    HTTPMessage,
    from_http_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.v1.event import CloudEvent

from fairlead import Event
from fairlead.core.codec import STRUCTURED, decode_request, encode_structured
from fairlead.core.http_binding import encode_binary

SUBJECT = 'Euro € 😀 "100%"'
ATTRIBUTES = {"id": "a-1", "source": "/heat?q=%20", "type": "t", "subject": SUBJECT, "flavor": "süß"}
DATA = [
    ({"n": 1, "text": "ü"}, "application/json"),
    ("plain ü", "text/plain"),
    (b"\xff\x00", "image/png"),
]


@pytest.mark.parametrize(("data", "content_type"), DATA)
@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_the_sdk_reads_what_we_write(data: object, content_type: str, mode: str) -> None:
    event = Event(
        "a-1", "/heat?q=%20", "t", SUBJECT, "2026-11-22T10:00:00Z", data, content_type, flavor="süß"
    )
    if mode == "structured":
        message = HTTPMessage({"content-type": STRUCTURED}, encode_structured(event))
    else:
        headers, body = encode_binary(event)
        message = HTTPMessage(dict(headers), body)
    read = from_http_event(message)
    attributes = read.get_attributes()
    assert attributes.items() >= ATTRIBUTES.items()
    assert attributes["time"] == datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert read.get_data() == data


@pytest.mark.parametrize(("data", "content_type"), DATA)
@pytest.mark.parametrize("write", [to_structured_event, to_binary_event])
def test_we_read_what_the_sdk_writes(
    data: Any, content_type: str, write: Callable[[CloudEvent], HTTPMessage]
) -> None:
    attributes = {**ATTRIBUTES, "specversion": "1.0", "datacontenttype": content_type}
    written = CloudEvent({**attributes, "time": datetime(2026, 11, 22, 10, tzinfo=UTC)}, data)
    message = write(written)
    headers = [(name.lower().encode(), value.encode()) for name, value in message.headers.items()]
    (event,) = decode_request(
        dict(headers)[b"content-type"].decode(), headers, message.body, max_event_bytes=10_000
    )
    assert event.attributes == {**attributes, "time": "2026-11-22T10:00:00Z"}
    assert event.data == data
    assert json.loads(encode_structured(event))["subject"] == SUBJECT
