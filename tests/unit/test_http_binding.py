# SPDX-License-Identifier: Apache-2.0
"""Binary content mode: headers, their encoding, and the body's form."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fairlead import Event
from fairlead.core.attributes import OURS, canonical
from fairlead.core.codec import decode_request
from fairlead.core.http_binding import decode_binary, encode_binary, percent_decode, percent_encode
from fairlead.errors import InvalidEvent, MalformedJson, Problem
from tests.effort import examples
from tests.event_strategies import events

FEATURE = (Path(__file__).parents[1] / "vectors/cloudevents/http-protocol-binding.feature").read_text()
CE = {"ce-specversion": "1.0", "ce-id": "a-1", "ce-source": "/heat", "ce-type": "t"}


def decoded(headers: dict[str, str | bytes], body: bytes = b"") -> Event:
    every = {**CE, **headers}
    return decode_binary(
        [
            (name.encode(), value if isinstance(value, bytes) else value.encode())
            for name, value in every.items()
        ],
        body,
    )


def refused(headers: dict[str, str | bytes], body: bytes = b"") -> Problem:
    with pytest.raises(Problem) as caught:
        decoded(headers, body)
    assert caught.value.status == 400
    return caught.value


# -- the examples of the conformance project --------------------------------------------------------------


def _examples() -> list[tuple[str, str, dict[str, str]]]:
    """(content type, request, expected attributes) of each example of the feature file."""
    found = []
    for scenario in FEATURE.split("Scenario Outline:")[1:]:
        blocks = re.findall(r'"""\n(.*?)\n *"""', scenario, re.DOTALL)
        table, examples = (
            scenario.split("the attributes are:")[1].split("And the data")[0],
            scenario.split("Examples:")[1],
        )
        expected = dict(re.findall(r"\|\s*(\w+) \| (.+?)\s*\|", table))
        expected.pop("key", None)
        content_types = re.findall(r"\| (application/.+?)\s*\|", examples)
        found += [(content_type, blocks[0], expected) for content_type in content_types]
    return found


@pytest.mark.parametrize(("content_type", "request_text", "expected"), _examples())
def test_the_conformance_example_is_read_as_it_says(
    content_type: str, request_text: str, expected: dict[str, str]
) -> None:
    lines = [
        line.removeprefix(" " * 8) for line in request_text.replace("<contentType>", content_type).split("\n")
    ]
    head, body = "\n".join(lines).split("\n\n", 1)
    headers = [tuple(line.split(": ", 1)) for line in head.split("\n")[1:]]
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    (event,) = decode_request(content_type, raw, body.encode(), max_event_bytes=10_000)
    assert event.attributes == {
        name: value.replace("<contentType>", content_type) for name, value in expected.items()
    }
    assert event.data == {"message": "Hello World!"}


def test_the_feature_file_has_its_four_examples() -> None:
    assert len(_examples()) == 4


# -- round trip -------------------------------------------------------------------------------------------


@settings(max_examples=examples(50))
@given(events())
def test_an_event_comes_back_from_binary_mode_with_canonical_attributes(event: Event) -> None:
    assume(
        event.form != "binary" or event.datacontenttype != "application/json"
    )  # those bytes need not be JSON
    headers, body = encode_binary(event)
    again = decode_binary([(name.encode("ascii"), value.encode("ascii")) for name, value in headers], body)
    expected = {name: canonical(value) for name, value in event.attributes.items()}
    assert again.attributes == expected
    assert again.payload == (event.payload or None)
    assert again.same_as(event)


@settings(max_examples=examples(50))
@given(events())
def test_every_header_can_stand_in_a_request(event: Event) -> None:
    headers, _ = encode_binary(event, {"flsubscription": "console", "flskipped": "38 40"})
    for name, value in headers:
        assert re.fullmatch(r"ce-[a-z0-9]+|content-type", name)
        assert re.fullmatch(r"[!-~]*" if name != "content-type" else r"[ -~]+", value)
    assert ("ce-flskipped", "38%2040") in headers
    assert "ce-datacontenttype" not in dict(headers)


def test_attributes_of_ours_are_dropped() -> None:
    assert decoded({"ce-flavor": "x", **{f"ce-{name}": "1" for name in OURS}}).extensions == {"flavor": "x"}


# -- header values ----------------------------------------------------------------------------------------


@given(st.text(st.characters(codec="utf-8")))
def test_every_string_survives_percent_encoding(value: str) -> None:
    encoded = percent_encode(value)
    assert re.fullmatch(r"[!#$&-~]*(%[0-9A-F]{2}[!#$&-~]*)*", encoded)
    assert percent_decode(encoded.encode()) == value


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (b"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        (b"%e2%82%ac", "€"),
        (b"%41", "A"),
        (b"%2541", "%41"),
        (b'"quoted \\"text\\" \\\\"', 'quoted "text" \\'),
        (b'"%20"', " "),
        (b"plain text", "plain text"),
        (b" \t around ", "around"),
        (b'"', '"'),
        ("é".encode(), "é"),
    ],
)
def test_a_header_value_is_unquoted_and_then_decoded_once(value: bytes, meant: str) -> None:
    assert percent_decode(value.strip()) == meant
    assert decoded({"ce-subject": value}).subject == meant


@pytest.mark.parametrize("value", [b"%C0%A0", b"%ff", b"\xff", b"%", b"%4", b"100%", b"%zz", b"%ED%A0%80"])
def test_a_header_value_that_has_no_string_is_refused(value: bytes) -> None:
    problem = refused({"ce-subject": value})
    assert isinstance(problem, InvalidEvent)
    assert problem.faults[0].header == "ce-subject"
    assert problem.faults[0].hint


# -- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "header", "said"),
    [
        ({"ce-subject": ""}, "ce-subject", "empty"),
        ({"ce-time": "now"}, "ce-time", "RFC 3339"),
        ({"ce-specversion": "0.3"}, "ce-specversion", "1.0"),
        ({"ce-subject": "%00"}, "ce-subject", "U+0000"),
        ({"ce-data": "x"}, "ce-data", "name"),
        ({"ce-a_b": "x"}, "ce-a_b", "name"),
        ({"ce-": "x"}, "ce-", "name"),
        ({"ce-datacontenttype": "text/plain"}, "ce-datacontenttype", "must not be there"),
        ({"content-type": "text"}, "content-type", "media type"),
        ({"content-type": "text/\xff".encode("latin-1")}, "content-type", "ASCII"),
        ({"ce-source": "a b"}, "ce-source", "URI-reference"),
    ],
)
def test_a_wrong_header_is_named(headers: dict[str, str | bytes], header: str, said: str) -> None:
    problem = refused(headers)
    (fault,) = problem.faults
    assert (fault.header, fault.pointer) == (header, None)
    assert said in fault.detail


def test_a_header_twice_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="more than once"):
        decode_binary([(name.encode(), value.encode()) for name, value in (*CE.items(), ("ce-id", "b"))], b"")


# -- the body ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "body", "payload", "form"),
    [
        ("application/json", b'{"a": 1.10}', b'{"a": 1.10}', "json"),
        ("application/json", b' \n"x"\r\n', b'"x"', "json"),
        ("text/plain", b"hi", b"hi", "text"),
        ("TEXT/plain; charset=UTF-8", "ü".encode(), "ü".encode(), "text"),
        ("text/plain", b"\xff", b"\xff", "binary"),
        ("text/plain; charset=iso-8859-1", b"hi", b"hi", "binary"),
        ("application/xml", b"<a/>", b"<a/>", "binary"),
        (None, b"{}", b"{}", "binary"),
        ("application/json", b"", None, "json"),
        (None, b"", None, "json"),
    ],
)
def test_the_body_has_the_form_that_its_content_type_says(
    content_type: str | None, body: bytes, payload: bytes | None, form: str
) -> None:
    event = decoded({} if content_type is None else {"content-type": content_type}, body)
    assert (event.payload, event.form, event.datacontenttype) == (payload, form, content_type)


@pytest.mark.parametrize(
    "body", [b"{", b"\xef\xbb\xbf{}", b"[" * 129 + b"]" * 129, b"NaN", b"\xff", b" ", b'"\\ud800"']
)
def test_a_body_that_is_not_the_json_it_says_is_refused(body: bytes) -> None:
    problem = refused({"content-type": "application/json"}, body)
    assert isinstance(problem, MalformedJson)
    assert problem.detail.startswith("content-type is application/json, but ")


def test_text_is_sent_in_the_charset_that_its_type_names() -> None:
    def sent(charset: str) -> bytes:
        return encode_binary(
            Event("a", "/s", "t", data="ü", datacontenttype=f"text/plain; charset={charset}")
        )[1]

    assert sent("iso-8859-1") == b"\xfc"
    assert sent('"latin1"') == b"\xfc"
    assert sent("UTF-8") == "ü".encode()
    assert sent("ascii") == sent("nonsense") == "ü".encode()


def test_json_without_a_content_type_is_sent_with_the_one_it_implies() -> None:
    text = json.dumps({"specversion": "1.0", "id": "a", "source": "/s", "type": "t", "data": "x"}).encode()
    (event,) = decode_request("application/cloudevents+json", [], text, max_event_bytes=1000)
    headers, body = encode_binary(event)
    assert dict(headers)["content-type"] == "application/json"
    assert body == b'"x"'
    assert "content-type" not in dict(encode_binary(Event("a", "/s", "t"))[0])
