# SPDX-License-Identifier: Apache-2.0
"""One event: what may be built, its key, partition, digest and sameness."""

from __future__ import annotations

import copy
import pickle
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead import Event
from fairlead.core.attributes import canonical
from fairlead.core.codec import decode_structured
from fairlead.core.event import partition_of
from fairlead.errors import InvalidEvent
from tests.effort import examples
from tests.event_strategies import events, texts


def event(**changes: Any) -> Event:
    return Event(**{"id": "a-1", "source": "/heat", "type": "org.example.state", **changes})


def structured(data: str) -> Event:
    head = '{"specversion":"1.0","id":"a-1","source":"/heat","type":"t","data":'
    return decode_structured((head + data + "}").encode())


def test_an_event_shows_what_it_was_made_of() -> None:
    made = event(
        subject="k1", time="2026-11-22T10:00:00Z", data={"n": 1}, flavor="sweet", retries=3, urgent=True
    )
    assert (made.id, made.source, made.type, made.subject) == ("a-1", "/heat", "org.example.state", "k1")
    assert (made.time, made.datacontenttype, made.dataschema) == (
        "2026-11-22T10:00:00Z",
        "application/json",
        None,
    )
    assert made.extensions == {"flavor": "sweet", "retries": 3, "urgent": True}
    assert made.data == {"n": 1}
    assert repr(made) == "Event(id='a-1', source='/heat', type='org.example.state', subject='k1')"


def test_an_event_cannot_be_changed() -> None:
    made: Any = event()
    for change in ("made.id = 'b'", "made.other = 1", "made.attributes['id'] = 'b'", "del made.id"):
        with pytest.raises((AttributeError, TypeError)):
            exec(change, {"made": made})


@settings(max_examples=examples(25))
@given(events())
def test_a_copied_or_pickled_event_is_the_same(made: Event) -> None:
    for other in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert other == made
        assert (other.attributes, other.payload, other.form) == (made.attributes, made.payload, made.form)


@settings(max_examples=examples(25))
@given(events())
def test_an_event_survives_its_row(made: Event) -> None:
    again = Event.from_row(made.head, made.payload, made.form)
    assert again.digest == made.digest
    assert again.key == made.key
    assert again.attributes == made.attributes
    assert list(again.attributes) == list(made.attributes)


@pytest.mark.parametrize(
    ("data", "content_type", "payload", "form", "kept"),
    [
        (None, None, None, "json", None),
        ({"n": 1}, None, b'{"n":1}', "json", "application/json"),
        ("hi", None, b'"hi"', "json", "application/json"),
        ("hi", "text/plain", b"hi", "text", "text/plain"),
        ("hi", "application/hal+json", b'"hi"', "json", "application/hal+json"),
        (b"\xff", None, b"\xff", "binary", None),
        (bytearray(b"{}"), "application/json", b"{}", "binary", "application/json"),
        ([None, 1.5], "application/json", b"[null,1.5]", "json", "application/json"),
    ],
)
def test_data_have_the_form_that_their_type_and_content_type_say(
    data: object, content_type: str | None, payload: bytes | None, form: str, kept: str | None
) -> None:
    made = event(data=data, datacontenttype=content_type)
    assert (made.payload, made.form, made.datacontenttype) == (payload, form, kept)
    assert made.data == data


def _endless() -> list[object]:
    endless: list[object] = []
    endless.append(endless)
    return endless


def _nested(levels: int) -> list[object]:
    nested: list[object] = []
    for _ in range(levels - 1):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    ("data", "content_type", "said"),
    [
        (float("nan"), None, "NaN or Infinity"),
        ({"a": [1, float("-inf")]}, None, "NaN or Infinity"),
        (object(), None, "cannot be written as JSON"),
        ("\ud800", None, "lone surrogate"),
        ("\ud800", "text/plain", "lone surrogate"),
        (_endless(), None, "nested"),
        (_nested(129), None, "128 levels"),
        ({"n": 1}, "text/plain", "text/plain"),
    ],
)
def test_data_that_cannot_be_sent_are_refused_when_the_event_is_made(
    data: object, content_type: str | None, said: str
) -> None:
    with pytest.raises(InvalidEvent, match=said) as caught:
        event(data=data, datacontenttype=content_type)
    assert caught.value.faults[0].pointer == "/data"
    assert caught.value.faults[0].hint


def test_data_of_128_levels_can_be_sent() -> None:
    assert event(data=_nested(128)).payload == b"[" * 128 + b"]" * 128


def test_numbers_that_python_cannot_hold_are_read_as_decimals() -> None:
    digits = "1" * 5000
    assert structured("1e999").data == Decimal("1e999")
    assert structured(f"[{digits}, 2]").data == [Decimal(digits), 2]
    assert structured("1e9999999999999999999").data == "1e9999999999999999999"


@pytest.mark.parametrize(
    ("attributes", "key"),
    [
        ({"partitionkey": "p", "subject": "k1"}, "p"),
        ({"subject": "k1"}, "/heat k1"),
        ({}, "/heat"),
        ({"subject": "a b"}, "/heat a b"),
    ],
)
def test_the_key_is_the_partitionkey_else_source_and_subject_else_the_source(
    attributes: dict[str, str], key: str
) -> None:
    assert event(**attributes).key == key


@given(texts, st.integers(1, 1000))
def test_the_partition_is_the_first_8_bytes_of_blake2b_256_modulo(key: str, partitions: int) -> None:
    digest = blake2b(key.encode(), digest_size=32).digest()
    assert partition_of(key, partitions) == int.from_bytes(digest[:8], "big") % partitions


def test_partitions_stay_where_they_were_in_the_first_release() -> None:
    assert [partition_of(key, 8) for key in ("/heat k1", "/heat", "p", "/nova ü")] == [1, 4, 6, 4]


@settings(max_examples=examples(50))
@given(events(), events())
def test_events_are_equal_when_attributes_and_data_are(one: Event, other: Event) -> None:
    equal = (dict(one.attributes), one.payload, one.form) == (
        dict(other.attributes),
        other.payload,
        other.form,
    )
    assert (one == other) is equal
    assert one == copy.copy(one)
    assert hash(one) == hash(copy.copy(one))
    assert one != "an event"


def test_the_digest_tells_what_was_moved_between_attributes_and_data() -> None:
    made = [
        event(),
        event(data=b""),
        event(data=b"json\0"),
        event(a="b", data=b"c"),
        event(a="bc", data=b""),
        event(ab="c"),
        event(zz="b"),
        event(data=b"zz\0b\0"),
        event(data="b", datacontenttype="text/plain"),
    ]
    assert len({one.digest for one in made}) == len(made)


@given(events())
def test_the_digest_is_the_one_that_stores_hold(made: Event) -> None:
    named = "".join(f"{name}\0{canonical(value)}\0" for name, value in sorted(made.attributes.items()))
    if made.payload is not None:
        named += f"{made.form}\0"
    assert made.digest == blake2b(named.encode() + (made.payload or b""), digest_size=16).digest()


def test_the_order_of_attributes_does_not_matter() -> None:
    assert event(a="1", b="2") == event(b="2", a="1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"a":1,"b":[true,null]}', '{ "b" : [true, null], "a": 1.0 }', True),
        ('"\\u00e9"', '"é"', True),
        ("1", "true", False),
        ("0", "false", False),
        ("[1]", "[1,1]", False),
        ("1e999", "2e999", False),
        ("100000000000000000001", "100000000000000000002", False),
        ("0.1", "0.10000000000000001", False),
        ("1e9999999999999999999", "1e9999999999999999999 ", True),
        ('{"a":1}', '{"a":2}', False),
        ("null", "0", False),
    ],
)
def test_json_that_differs_in_bytes_is_the_same_when_its_values_are(one: str, other: str, same: bool) -> None:
    assert structured(one).same_as(structured(other)) is same
    assert structured(other).same_as(structured(one)) is same


def test_an_event_is_the_same_in_another_content_mode() -> None:
    text = event(data="<a/>", datacontenttype="application/xml")
    assert text.same_as(event(data=b"<a/>", datacontenttype="application/xml"))
    assert not text.same_as(event(data=b"<b/>", datacontenttype="application/xml"))
    assert event(n=1, b=True).same_as(event(n="1", b="true"))
    assert not event().same_as(event(subject="k"))


@pytest.mark.parametrize(
    ("changes", "pointer", "said"),
    [
        ({"id": ""}, "/id", "must not be empty"),
        ({"id": None}, "/id", "must be a string"),
        ({"source": ""}, "/source", "must not be empty"),
        ({"source": "a b"}, "/source", "URI-reference"),
        ({"type": ""}, "/type", "must not be empty"),
        ({"subject": ""}, "/subject", "must not be empty"),
        ({"subject": 5}, "/subject", "must be a string"),
        ({"time": "yesterday"}, "/time", "RFC 3339"),
        ({"datacontenttype": "json"}, "/datacontenttype", "media type"),
        ({"datacontenttype": 5, "data": 1}, "/datacontenttype", "must be a string"),
        ({"dataschema": "/relative"}, "/dataschema", "absolute URI"),
        ({"Flavor": "x"}, "/Flavor", "no attribute name"),
        ({"a/b~c": "x"}, "/a~1b~0c", "no attribute name"),
        ({"n": 2**31}, "/n", "32 bits"),
        ({"n": 1.5}, "/n", "whole number"),
        ({"n": [1]}, "/n", "a string, an integer or a boolean"),
        ({"n": "\x00"}, "/n", "U+0000"),
        ({"n": "\ud800"}, "/n", "U+D800"),
        ({"n": "\ufffe"}, "/n", "U+FFFE"),
        ({"partitionkey": ""}, "/partitionkey", "must not be empty"),
        ({"partitionkey": 5}, "/partitionkey", "must be a string"),
        ({"specversion": "0.3"}, "/specversion", 'must be "1.0"'),
    ],
)
def test_an_attribute_that_cloudevents_refuses_is_named_with_what_to_do(
    changes: dict[str, Any], pointer: str, said: str
) -> None:
    with pytest.raises(InvalidEvent) as caught:
        event(**changes)
    (fault,) = caught.value.faults
    assert fault.pointer == pointer
    assert said in fault.detail
    assert caught.value.detail


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(InvalidEvent) as caught:
        event(id="", source="a b", subject="", time="now")
    assert [fault.pointer for fault in caught.value.faults] == ["/id", "/source", "/subject", "/time"]
