# SPDX-License-Identifier: Apache-2.0
"""Whatever bytes come: an event, or a problem of the sender's; never an error, never another event."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fairlead import Event
from fairlead.core.codec import (
    decode_batch,
    decode_request,
    decode_structured,
    encode_batch,
    encode_structured,
)
from fairlead.core.http_binding import decode_binary, encode_binary
from fairlead.core.signature import new_secret, verify
from fairlead.errors import Problem, SignatureError
from tests.event_strategies import events

MORE = settings(max_examples=300)
TYPES = st.sampled_from(
    [
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
        "application/json",
        "text/plain",
        "",
        None,
    ]
)
JSON_PIECES = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"',
    b"\\",
    b"\\u",
    b"d800",
    b"\\udc00",
    b"0",
    b"-",
    b"1e9",
    b".5",
]
JSON_PIECES += [
    b"null",
    b"true",
    b"NaN",
    b" ",
    b"\n",
    b'"data":',
    b'"data_base64":',
    b'"id":"a"',
    b'"flpos":1',
    b"\xff",
]
JSON_PIECES += [
    b'"specversion":"1.0","source":"/s","type":"t"',
    "é".encode(),
    b"\xef\xbb\xbf",
    b"[" * 200,
    b"]" * 200,
]
soup = st.lists(st.sampled_from(JSON_PIECES), max_size=25).map(b"".join)
header_names = st.sampled_from(
    [
        b"ce-id",
        b"ce-source",
        b"ce-type",
        b"ce-specversion",
        b"ce-time",
        b"ce-data",
        b"ce-\xff",
        b"ce-",
        b"content-type",
    ]
) | st.binary(max_size=8).map(lambda name: b"ce-" + name)
header_values = st.sampled_from(
    [b"1.0", b"/s", b"a", b'"', b"%", b"%41", b"%c0%a0", b"text/plain"]
) | st.binary(max_size=12)


def event_or_problem(decode: Callable[[], list[Event]]) -> None:
    """What was taken must also be writable, in both modes, and come back as the same event."""
    taken: list[Event] = []
    refusal = None
    try:
        taken = decode()
    except Problem as problem:
        refusal = problem
    if refusal is not None:
        assert 400 <= refusal.status < 500
        assert refusal.detail
        json.dumps([refusal.detail, [fault.detail for fault in refusal.faults]]).encode()
    for event in taken:
        json.loads(encode_structured(event), parse_int=str, parse_float=str)
        assert decode_structured(encode_structured(event, {"flpos": "1"})) == event
        encode_binary(event)
        event.key.encode()
        assert event.data is None or event.payload is not None


@MORE
@given(st.binary() | soup)
@example(b'{"id":' + b"[" * 100_000)
@example(b'{"a":"\\ud800"}')
@example(b"\xff\xfe{\x00}\x00")
def test_any_bytes_in_structured_mode(body: bytes) -> None:
    event_or_problem(lambda: [decode_structured(body)])


@MORE
@given(st.binary() | soup.map(lambda text: b"[" + text + b"]"))
def test_any_bytes_in_a_batch(body: bytes) -> None:
    event_or_problem(lambda: decode_batch(body, 10, 1000))


@MORE
@given(st.lists(st.tuples(header_names, header_values), max_size=8), st.binary() | soup)
def test_any_headers_and_body_in_binary_mode(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    given_right = [(b"ce-specversion", b"1.0"), (b"ce-id", b"a"), (b"ce-source", b"/s"), (b"ce-type", b"t")]
    event_or_problem(lambda: [decode_binary(headers, body)])
    event_or_problem(lambda: [decode_binary([*given_right, *headers], body)])


@MORE
@given(
    TYPES | st.text(max_size=20),
    st.lists(st.tuples(header_names, header_values), max_size=4),
    st.binary() | soup,
)
def test_any_request(content_type: str | None, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    event_or_problem(lambda: decode_request(content_type, headers, body, max_event_bytes=10_000))


@MORE
@given(events(), st.data())
def test_an_event_with_a_few_bytes_changed(event: Event, data: st.DataObject) -> None:
    body = bytearray(encode_batch([encode_structured(event)]))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    event_or_problem(lambda: decode_batch(bytes(body), 10))


@MORE
@given(st.text(), st.text(), st.text(), st.binary())
def test_any_headers_of_a_signature(id: str, timestamp: str, signature: str, body: bytes) -> None:
    headers = {"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature}
    with pytest.raises(SignatureError):
        verify([new_secret(b"x" * 32)], headers, body, 0.0, 1e18)
