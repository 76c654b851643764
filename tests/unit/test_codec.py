# SPDX-License-Identifier: Apache-2.0
"""The JSON format and its batches: what goes in comes out, and what is refused is named."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead import Event
from fairlead.core.attributes import OURS
from fairlead.core.codec import (
    BATCH,
    STRUCTURED,
    decode_batch,
    decode_request,
    decode_structured,
    encode_batch,
    encode_structured,
)
from fairlead.errors import InvalidEvent, MalformedJson, Problem, TooLarge, UnsupportedMediaType
from tests.effort import examples
from tests.event_strategies import events, json_values

SCHEMA = json.loads((Path(__file__).parents[1] / "vectors/cloudevents/cloudevents.schema.json").read_text())
REQUIRED = {"specversion": "1.0", "id": "a-1", "source": "/heat", "type": "org.example.state"}
STAMPS = {"flsubscription": "console", "flpartition": "5", "flpos": "41", "flskipped": "38 40"}


def body(**members: Any) -> bytes:
    return json.dumps({**REQUIRED, **members}).encode()


def with_data(data: bytes, member: bytes = b"data") -> bytes:
    head = json.dumps(REQUIRED, separators=(",", ":")).encode()
    return head[:-1] + b',"' + member + b'":' + data + b"}"


def refused(text: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        decode_structured(text)
    assert caught.value.status == 400
    assert caught.value.faults
    return caught.value


# -- round trips -----------------------------------------------------------------------------------------


@settings(max_examples=examples(50))
@given(events())
def test_an_event_comes_back_from_structured_mode_unchanged(event: Event) -> None:
    again = decode_structured(encode_structured(event))
    assert again == event
    assert (again.attributes, again.payload, again.form) == (event.attributes, event.payload, event.form)
    assert again.head == event.head


@settings(max_examples=examples(20))
@given(st.lists(events(), max_size=5))
def test_events_come_back_from_a_batch_in_order(some: list[Event]) -> None:
    assert decode_batch(encode_batch(map(encode_structured, some)), 5) == some


@settings(max_examples=examples(50))
@given(events())
def test_what_is_encoded_holds_to_the_json_schema(event: Event) -> None:
    jsonschema.validate(json.loads(encode_structured(event, STAMPS)), SCHEMA)


@settings(max_examples=examples(50))
@given(events())
def test_stamps_are_attributes_of_what_is_sent_and_dropped_from_what_comes(event: Event) -> None:
    sent = encode_structured(event, STAMPS)
    assert json.loads(sent).items() >= STAMPS.items()
    assert decode_structured(sent) == event


@given(json_values, st.sampled_from([(",", ":"), (", ", ": "), (" , ", " :\n")]), st.booleans())
def test_json_data_keep_their_bytes(data: Any, separators: tuple[str, str], escaped: bool) -> None:
    text = json.dumps(data, separators=separators, ensure_ascii=escaped).encode()
    event = decode_structured(with_data(text))
    assert (event.payload, event.form) == (text, "json")
    assert text in encode_structured(event)


@pytest.mark.parametrize(
    "text", [b"1.10", b"1e999", b"-0", b'"\\u00e9\\/"', b'{"a":1,"a":2}', b"[ ]", b"null", b"9" * 5000]
)
def test_no_number_member_or_spelling_of_data_changes(text: bytes) -> None:
    assert decode_structured(with_data(text)).payload == text


@given(st.binary())
def test_bytes_go_as_base64(data: bytes) -> None:
    event = decode_structured(with_data(b'"' + base64.b64encode(data) + b'"', b"data_base64"))
    assert (event.payload, event.form) == (data, "binary")
    assert base64.b64decode(json.loads(encode_structured(event))["data_base64"]) == data


def test_bytes_under_a_json_content_type_stay_base64() -> None:
    event = decode_structured(body(datacontenttype="application/json", data_base64="e30="))
    assert (event.payload, event.form) == (b"{}", "binary")
    assert json.loads(encode_structured(event))["data_base64"] == "e30="


def test_a_string_under_another_content_type_is_text() -> None:
    event = decode_structured(body(datacontenttype="application/xml", data='<much wow="ü"/>\n'))
    assert (event.payload, event.form) == ('<much wow="ü"/>\n'.encode(), "text")
    assert json.loads(encode_structured(event))["data"] == '<much wow="ü"/>\n'


def test_the_head_has_the_attributes_in_the_order_in_which_they_came() -> None:
    event = decode_structured(
        b'{"type":"t","zeta":"1", "id":"a-1","data":1,"source":"/heat","specversion":"1.0"}'
    )
    assert event.head == b'{"type":"t","zeta":"1","id":"a-1","source":"/heat","specversion":"1.0"}'


def test_attributes_of_ours_are_dropped_and_other_names_with_fl_are_kept() -> None:
    event = decode_structured(body(flavor="sweet", flposition="7", **dict.fromkeys(OURS, "1")))
    assert event.extensions == {"flavor": "sweet", "flposition": "7"}
    assert event == decode_structured(body(flavor="sweet", flposition="7"))


def test_ours_are_dropped_whatever_they_hold() -> None:
    assert decode_structured(body(flpos=[1], flepoch=None, flseq=2**40)).extensions == {}


# -- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\x00", "invalid character"),
        (b"{", "ends in the middle"),
        (body() + b"x", "trailing"),
        (b"\xef\xbb\xbf" + body(), "byte-order mark"),
        (body().decode().encode("utf-16"), "not UTF-8"),
        (with_data(b"NaN"), "NaN"),
        (with_data(b"[1,-Infinity]"), "NaN and Infinity"),
        (with_data(b'"\\ud800"'), "surrogate"),
        (with_data(b'{"a":"\\udc00 x"}'), "surrogate"),
        (with_data(b'"\xed\xa0\x80"'), "not UTF-8"),
        (with_data(b'"\xff"'), "not UTF-8: byte"),
        (with_data(b"01"), "invalid number"),
        (with_data(b"{'a':1}"), "JSON"),
        (with_data(b"[1,]"), "trailing comma"),
        (with_data(b'"\n"'), "invalid character"),
        (with_data(b"[" * 129 + b"]" * 129), "128 levels"),
        (with_data(b'{"a":' * 129 + b"1" + b"}" * 129), "128 levels"),
        (with_data(b'[{"a":' * 100_000), "128 levels"),
        (b'{"a":' * 100_000, "128 levels"),
        (b"[{}", "ends in the middle"),
    ],
)
def test_what_is_not_json_is_malformed_and_says_where(text: bytes, said: str) -> None:
    problem = refused(text)
    assert isinstance(problem, MalformedJson)
    assert said in problem.detail


def test_data_of_128_levels_pass_with_brackets_in_strings_and_much_beside() -> None:
    deepest = b"[" * 127 + b'{"\\"[[[":"\\\\{{{"}' + b"]" * 127
    for text in (deepest, b"[" + b",".join([b"[[]]"] * 5000) + b"]"):
        assert decode_structured(with_data(text)).payload == text


@pytest.mark.parametrize("text", [b"[]", b'"x"', b"1", b"null", b"true", b"[" * 100_000])
def test_an_event_is_an_object(text: bytes) -> None:
    assert "object" in refused(text).detail


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (b'{"id":"a","id":"a"}', "/id"),
        (body(subject="x")[:-1] + b', "subject":"x"}', "/subject"),
        (body(subject="x")[:-1] + b', "s\\u0075bject":"y"}', "/subject"),
        (with_data(b'1,"data":2'), "/data"),
        (with_data(b'1, "data":2'), "/data"),
        (with_data(b'1,"a/~":2,"a/~":3'), "/a~1~0"),
        (with_data(b'"","data_base64":""', b"data_base64"), "/data_base64"),
    ],
)
def test_a_member_may_stand_there_once(text: bytes, pointer: str) -> None:
    problem = refused(text)
    assert isinstance(problem, InvalidEvent)
    assert problem.faults[0].pointer == pointer


@given(
    st.lists(
        st.tuples(st.sampled_from(["x", "y", "zz"]), st.sampled_from(["", "1", "a\\\\b", "ü"])), max_size=4
    )
)
def test_repetition_is_found_whatever_stands_there(extra: list[tuple[str, str]]) -> None:
    for separator in (",", ", ", ",\n  "):
        members = [f'"{name}":"{value}"' for name, value in [*REQUIRED.items(), *extra]]
        text = ("{" + separator.join(members) + "}").encode()
        if len({name for name, _ in extra}) == len(extra):
            assert dict(decode_structured(text).extensions).keys() == {name for name, _ in extra}
        else:
            assert "more than once" in refused(text).faults[0].detail


@pytest.mark.parametrize(
    ("members", "pointer", "said"),
    [
        ({"data": 1, "data_base64": "AA=="}, "/data", "beside"),
        ({"data_base64": "AA"}, "/data_base64", "base64"),
        ({"data_base64": "A-_="}, "/data_base64", "base64"),
        ({"data_base64": "AA==\n"}, "/data_base64", "base64"),
        ({"data_base64": "é"}, "/data_base64", "base64"),
        ({"data_base64": 5}, "/data_base64", "string"),
        ({"specversion": "9"}, "/specversion", 'must be "1.0"'),
        ({"specversion": 1.0}, "/specversion", "string"),
        ({"subject": 5}, "/subject", "string"),
        ({"subject": {"a": 1}}, "/subject", "string"),
        ({"time": True}, "/time", "string"),
        ({"count": 2**31}, "/count", "32 bits"),
        ({"count": 10**400}, "/count", "32 bits"),
        ({"count": 1.0}, "/count", "whole number"),
        ({"flag": []}, "/flag", "boolean"),
        ({"x" * 100 + "~/": "1"}, "/" + "x" * 100 + "~0~1", "letters"),
        ({"": "1"}, "/", "letters"),
        ({"a": "\x1f"}, "/a", "U+001F"),
        ({"a": "\x85"}, "/a", "U+0085"),
        ({"a": "\ufdd0"}, "/a", "U+FDD0"),
        ({"a": "\U0010ffff"}, "/a", "U+10FFFF"),
    ],
)
def test_a_wrong_member_is_named_with_its_pointer(members: dict[str, Any], pointer: str, said: str) -> None:
    text = json.dumps({**REQUIRED, **members}, ensure_ascii=False, default=str)
    problem = refused(text.encode())
    assert isinstance(problem, InvalidEvent)
    (fault,) = problem.faults
    assert fault.pointer == pointer
    assert said in fault.detail


def test_a_fault_says_what_to_do() -> None:
    problem = refused(body(specversion="9"))
    assert problem.detail == 'specversion is "9"; this relay speaks 1.0'
    assert (problem.faults[0].detail, problem.faults[0].hint) == ('must be "1.0"', "set specversion to 1.0")
    assert refused(body(subject=5)).faults[0].hint == 'write it as "5"'
    assert refused(body(Subject="x")).faults[0].hint == "call it subject"
    assert refused(body(source="a b")).detail == 'source is "a b"; it must be a URI-reference (RFC 3986)'


def test_every_missing_attribute_is_named() -> None:
    assert [fault.pointer for fault in refused(b"{}").faults] == ["/id", "/source", "/specversion", "/type"]


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"9" * 5000])
def test_attributes_that_no_number_holds_are_refused(number: bytes) -> None:
    text = json.dumps(REQUIRED).encode()[:-1] + b',"subject":"x","count":' + number + b"}"
    (fault,) = refused(text).faults
    assert fault.pointer == "/count"
    assert fault.hint == "write such a number as a string"


def test_attributes_that_nest_beyond_measure_are_refused() -> None:
    text = json.dumps(REQUIRED).encode()[:-1] + b',"a":' + b"[" * 500 + b"]" * 500 + b"}"
    assert refused(text).status == 400


@pytest.mark.parametrize("value", ["é\u00a0\u2028\U0001f600\ue000", "\u200b", "%", '"\\'])
def test_strings_hold_every_other_character(value: str) -> None:
    assert decode_structured(body(a=value, subject=value)).subject == value


# -- batches and requests --------------------------------------------------------------------------------


def test_a_batch_names_each_refused_event_by_its_index() -> None:
    batch = encode_batch(
        [body(), body(id=""), body(), body(type="", subject=1), b"[]", with_data(b"[" * 129 + b"]" * 129)]
    )
    with pytest.raises(InvalidEvent) as caught:
        decode_batch(batch, 10)
    assert [(fault.index, fault.pointer) for fault in caught.value.faults] == [
        (1, "/id"),
        (3, "/type"),
        (3, "/subject"),
        (4, ""),
        (5, "/data"),
    ]
    assert caught.value.detail.startswith('event 1: id is ""')


@pytest.mark.parametrize("value", [False, True, 5, [], {}, ["text/plain"]])
@pytest.mark.parametrize("data", ["now", {"n": 1}])
def test_a_content_type_that_is_no_string_is_refused_whatever_the_data(value: Any, data: Any) -> None:
    (fault,) = refused(body(datacontenttype=value, data=data)).faults
    assert fault.pointer == "/datacontenttype"


def test_a_batch_may_be_empty_and_must_be_an_array() -> None:
    assert decode_batch(b"[]", 10) == []
    with pytest.raises(InvalidEvent, match="array"):
        decode_batch(body(), 10)
    for text in (b"[", b"{", b'{"id":"1"', b'"x', b"nul", b"{} x"):
        with pytest.raises(MalformedJson):
            decode_batch(text, 10)


def test_a_batch_of_more_events_than_taken_says_how_many_are() -> None:
    with pytest.raises(TooLarge, match=r"2 are taken at once \(\[limits\] batch_events\)") as caught:
        decode_batch(encode_batch([body()] * 3), 2)
    assert caught.value.members == {"limit_events": 2}


def request(content_type: str | None, text: bytes, **headers: str) -> list[Event]:
    named = [(name.encode(), value.encode()) for name, value in headers.items()]
    if content_type is not None:
        named.append((b"content-type", content_type.encode()))
    return decode_request(content_type, named, text, max_event_bytes=1000)


CE = {f"ce-{name}": value for name, value in REQUIRED.items()}


@pytest.mark.parametrize("parameters", ["", "; charset=utf-8", " ;charset=UTF-8"])
def test_the_content_type_tells_the_mode(parameters: str) -> None:
    event = decode_structured(body())
    assert request(STRUCTURED + parameters, body()) == [event]
    assert request(STRUCTURED.upper() + parameters, body()) == [event]
    assert request(BATCH + parameters, encode_batch([body(), body()])) == [event, event]
    assert request(None, b"", **CE) == [event]


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "application/cloudevents+avro", "", "x;;"]
)
def test_another_content_type_is_refused_with_those_that_are_taken(content_type: str | None) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        request(content_type, body())
    supported = caught.value.members["supported"]
    assert isinstance(supported, list)
    assert supported[:2] == [STRUCTURED, BATCH]


def test_a_format_of_cloudevents_that_is_not_json_is_refused_even_with_headers() -> None:
    with pytest.raises(UnsupportedMediaType):
        request("application/cloudevents+avro", b"x", **CE)


def test_an_event_that_is_too_large_says_the_limit_in_every_mode() -> None:
    large = body(data="x" * 1000)
    for content_type, text, headers in (
        (STRUCTURED, large, {}),
        (BATCH, encode_batch([body(), large]), {}),
        ("text/plain", b"x" * 1000, CE),
        (None, b"", {**CE, "ce-subject": "x" * 1000}),
    ):
        with pytest.raises(TooLarge) as caught:
            request(content_type, text, **headers)
        assert caught.value.members == {"limit_bytes": 1000}
        assert caught.value.faults[0].index == (1 if content_type == BATCH else None)


def test_an_event_of_exactly_the_limit_is_taken() -> None:
    text = body(data="")
    text = body(data="x" * (1000 - len(text)))
    assert len(text) == 1000
    assert len(request(STRUCTURED, text)) == 1
