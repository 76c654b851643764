# SPDX-License-Identifier: Apache-2.0
"""Messages as events: the AMQP binding of CloudEvents, plain JSON by a mapping, and what a reject keeps."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.amqp_binding import events_of
from fairlead.core.codec import BATCH, STRUCTURED, encode_batch, encode_structured
from fairlead.core.event import Event
from fairlead.core.http_binding import decode_binary, encode_binary
from fairlead.core.json_mapping import JsonMapping, json_mapping
from fairlead.core.source_message import SourceMessage, header_value, message_of, reject_headers
from fairlead.errors import InvalidEvent, MalformedJson, Problem, TooLarge, UnsupportedMediaType
from tests.event_strategies import events

ATTRIBUTES = {"cloudEvents_specversion": "1.0", "cloudEvents_id": "a-1", "cloudEvents_source": "/heat",
              "cloudEvents_type": "t"}  # fmt: skip


def message(
    body: bytes = b"",
    content_type: str | None = None,
    headers: dict[str, Any] | None = None,
    message_id: str | None = None,
    **others: Any,
) -> SourceMessage:
    kept = {name: header_value(value) for name, value in (headers or {}).items()}
    return SourceMessage(body, len(body), content_type, message_id, headers=kept, **others)


def taken(one: SourceMessage) -> list[Event]:
    return events_of(one, batch_events=10, event_bytes=10_000)


# -- CloudEvents ---------------------------------------------------------------------------------------------


@given(events())
def test_structured_messages_are_the_event_that_was_sent(event: Event) -> None:
    body = encode_structured(event)
    for content_type in (STRUCTURED, f"{STRUCTURED}; charset=utf-8", STRUCTURED.upper(), None):
        (read,) = events_of(message(body, content_type), batch_events=1, event_bytes=1 << 20)
        assert read.same_as(event)


@given(events(), st.sampled_from(["cloudEvents_", "cloudEvents:"]))
def test_binary_messages_are_what_they_are_over_http(event: Event, prefix: str) -> None:
    http, body = encode_binary(event)
    content_type = dict(http).get("content-type")
    named = {name: value for name, value in event.attributes.items() if name != "datacontenttype"}
    one = message(body, content_type, {prefix + name: value for name, value in named.items()})
    try:
        expected = decode_binary([(name.encode(), value.encode()) for name, value in http], body)
    except MalformedJson:
        with pytest.raises(MalformedJson):
            taken(one)
    else:
        (read,) = taken(one)
        assert read.same_as(expected)


def test_amqp_s_types_are_those_of_cloudevents() -> None:
    headers = {
        **ATTRIBUTES,
        "cloudEvents_time": datetime(2026, 11, 22, 10, 0, tzinfo=UTC),
        "cloudEvents_count": 17,
        "cloudEvents_urgent": True,
        "cloudEvents_token": b"\x00\xff",
        "x-delivery-count": 3,
        "x-death": [{"queue": "q"}],
    }
    (event,) = taken(message(b"", None, headers))
    assert event.time == "2026-11-22T10:00:00Z"
    assert event.extensions == {"count": 17, "urgent": True, "token": "AP8="}


def test_our_own_attributes_are_dropped_as_everywhere() -> None:
    (event,) = taken(message(b"", None, {**ATTRIBUTES, "cloudEvents_flpos": "7", "cloudEvents_flavor": "m1"}))
    assert event.extensions == {"flavor": "m1"}


def test_a_batch_is_the_events_of_one_message() -> None:
    some = [Event(f"a-{at}", "/s", "t") for at in range(3)]
    assert taken(message(encode_batch(map(encode_structured, some)), BATCH)) == some
    assert taken(message(b"[]", BATCH)) == []
    many = encode_batch(encode_structured(Event(f"a-{at}", "/s", "t")) for at in range(11))
    with pytest.raises(TooLarge, match="11 events"):
        taken(message(many, BATCH))


@pytest.mark.parametrize(
    ("one", "problem", "words"),
    [
        (message(b"", None), MalformedJson, "is empty"),
        (message(b"", STRUCTURED), MalformedJson, "is empty"),
        (message(b"\xff\xfe", STRUCTURED), MalformedJson, "not UTF-8"),
        (message(b"[1]", STRUCTURED), InvalidEvent, "JSON object"),
        (message(b"{}", "application/json"), UnsupportedMediaType, "no header begins with cloudEvents_"),
        (
            message(b"{}", "application/cloudevents+xml"),
            UnsupportedMediaType,
            "send it as application/cloudevents+json",
        ),
        (message(b"", None, {"cloudEvents_id": "a"}), InvalidEvent, "is missing"),
        (message(b"", None, ATTRIBUTES | {"cloudEvents_id": 17}), InvalidEvent, "must be a string"),
        (message(b"", None, ATTRIBUTES | {"cloudEvents_id": b"\xff"}), InvalidEvent, "must be UTF-8 text"),
        (
            message(b"", None, ATTRIBUTES | {"cloudEvents_x": 1.5}),
            InvalidEvent,
            "is 1.5; it must be a string",
        ),
        (message(b"", None, ATTRIBUTES | {"cloudEvents_x": None}), InvalidEvent, "is null; it must be"),
        (message(b"", None, ATTRIBUTES | {"cloudEvents_x": {"a": 1}}), InvalidEvent, "it must be a string"),
        (message(b"", None, ATTRIBUTES | {"cloudEvents_x": 2**40}), InvalidEvent, "integer of 32 bits"),
        (message(b"", None, ATTRIBUTES | {"cloudEvents_x-y": "a"}), InvalidEvent, "is no attribute name"),
        (message(b"", None, ATTRIBUTES | {"cloudEvents:id": "a-1"}), InvalidEvent, "both spellings"),
        (
            message(b"", None, ATTRIBUTES | {"cloudEvents_datacontenttype": "a/b"}),
            InvalidEvent,
            "content_type",
        ),
        (
            message(b"{", "application/json", ATTRIBUTES),
            MalformedJson,
            "content_type is application/json, but",
        ),
        (message(b"x", "no type", ATTRIBUTES), InvalidEvent, "must be a media type"),
        (message(b"x", "a/b", headers_fault="bad table"), InvalidEvent, "headers cannot be read: bad table"),
    ],
)
def test_what_is_no_event_is_refused_and_says_why(
    one: SourceMessage, problem: type[Problem], words: str
) -> None:
    with pytest.raises(problem) as caught:
        taken(one)
    assert words in caught.value.detail
    assert caught.value.faults


# -- plain JSON ----------------------------------------------------------------------------------------------

BODY = b' {"instance": {"id": "i-7", "no": 12}, "what": "created", "at": "2026-11-22T10:00:00Z", "n": 1.50}\n'


def mapped(body: bytes = BODY, message_id: str | None = None, **keys: object) -> Event:
    wanted: dict[str, Any] = {"source": "/legacy", "type": "/what", "subject": "/instance/id", **keys}
    return json_mapping(**wanted).event_of(message(body, "application/json", message_id=message_id))


def test_each_attribute_is_a_literal_or_stands_in_the_message() -> None:
    event = mapped(id="/instance/no", time="/at")
    assert event.attributes == {
        "specversion": "1.0", "id": "12", "source": "/legacy", "type": "created", "subject": "i-7",
        "time": "2026-11-22T10:00:00Z", "datacontenttype": "application/json",
    }  # fmt: skip
    assert event.payload == BODY.strip()  # no number changes
    assert mapped(id="/instance/no", source="#/what").source == "created"
    assert mapped(id="/instance/no", subject={"literal": "/x"}).subject == "/x"
    assert mapped(id="/instance/no", type="org.example.made").type == "org.example.made"


def test_the_id_is_the_message_id_where_nothing_else_is_named_or_there() -> None:
    assert mapped(message_id="m-1").id == "m-1"
    assert mapped(message_id="m-1", id="/instance/none").id == "m-1"
    with pytest.raises(InvalidEvent, match="the message has no message_id"):
        mapped()
    with pytest.raises(InvalidEvent, match='nothing at "/instance/none", and the message has no message_id'):
        mapped(id="/instance/none")


@given(st.dictionaries(st.text(), st.integers() | st.text()), st.text(min_size=1).filter(str.isprintable))
def test_a_message_delivered_again_is_the_same_event(document: dict[str, Any], message_id: str) -> None:
    one = message(json.dumps(document).encode(), None, message_id=message_id)
    mapping = json_mapping(source="urn:x", type="t")
    assert mapping.event_of(one) == mapping.event_of(
        message_of(reject_headers(one), one.body, one.size_bytes)
    )


def test_a_source_that_could_be_a_pointer_is_refused_where_it_matters() -> None:
    assert mapped(message_id="m", source="/heat").source == "/heat"
    with pytest.raises(InvalidEvent, match=r'write source = "#/what" or source = { literal = "/what" }'):
        mapped(message_id="m", source="/what")
    assert mapped(message_id="m", source={"literal": "/what"}).source == "/what"
    assert mapped(message_id="m", source="/instance").source == "/instance"  # an object is no source


def test_what_a_pointer_needs_and_does_not_find_is_a_reason() -> None:
    with pytest.raises(InvalidEvent, match='at "/instance/none" there is nothing, and subject needs'):
        mapped(message_id="m", subject="/instance/none")
    with pytest.raises(InvalidEvent, match=r'at "/n" there is 1.5, and type needs'):
        mapped(message_id="m", type="/n")
    with pytest.raises(InvalidEvent, match="RFC 3339"):
        mapped(message_id="m", time="/what")
    assert mapped(message_id="m", time="/none").time is None


@pytest.mark.parametrize(
    ("body", "problem"),
    [(b"", MalformedJson), (b"\xff", MalformedJson), (b"{", MalformedJson), (b"7", InvalidEvent)],
)
def test_a_body_that_is_not_json_is_refused(body: bytes, problem: type[Problem]) -> None:
    with pytest.raises(problem):
        mapped(body, message_id="m")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"id": "fixed"}, 'id: must be a JSON Pointer such as "/id"'),
        ({"time": "2026-11-22T10:00:00Z"}, "time: must be a JSON Pointer"),
        ({"subject": "/a~2b"}, "subject: must be a JSON Pointer"),
        ({"source": "a b"}, "source: must be a URI-reference"),
        ({"source": ""}, "source: must be a text"),
        ({"type": 7}, "type: must be a text, a JSON Pointer"),
        ({"type": {"pointer": "/x"}}, "type: must be a text"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(keys: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match="^" + words[:20]) as caught:
        json_mapping(**{"source": "/s", "type": "t", **keys})
    assert words in str(caught.value)


def test_a_mapping_is_a_value() -> None:
    assert json_mapping(source="/s", type="/t") == json_mapping(source="/s", type="/t")
    assert isinstance(json_mapping(source="/s", type="/t"), JsonMapping)


# -- rejects -------------------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary()
amqp_values = st.recursive(
    scalars
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.datetimes()
    | st.decimals(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.binary(),
    st.dictionaries(st.text(), amqp_values, max_size=5),
    st.none() | st.text(min_size=1),
    st.none() | st.text(min_size=1),
)
def test_a_reject_keeps_a_message_whole(
    body: bytes, headers: dict[str, Any], content_type: str | None, message_id: str | None
) -> None:
    one = message(body, content_type, headers, message_id, routing_key="q")
    kept = reject_headers(one)
    assert all(isinstance(value, str) for value in kept.values())
    assert message_of(kept, body, one.size_bytes) == one


def test_string_headers_are_shown_as_they_are_and_others_as_json() -> None:
    headers = {"who": "me", "n": 1, ":odd": "x", "d": Decimal("1.5")}
    kept = reject_headers(message(b"", "a/b", headers, "m-1"))
    assert kept == {
        ":content-type": "a/b",
        ":message-id": "m-1",
        "who": "me",
        ":headers": '{"n":1,":odd":"x","d":{"decimal":"1.5"}}',
    }
