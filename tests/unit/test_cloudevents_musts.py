# SPDX-License-Identifier: Apache-2.0
"""Every MUST of CloudEvents 1.0.2 that codec and HTTP binding have to keep: the names quote the rule."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fairlead import Event
from fairlead.core.codec import decode_batch, decode_request, decode_structured, encode_structured
from fairlead.core.http_binding import decode_binary, encode_binary
from fairlead.errors import Fault, InvalidEvent, MalformedJson, Problem, TooLarge, UnsupportedMediaType

LIMIT = 1024 * 1024
ATTRIBUTES = {"specversion": "1.0", "id": "a-1", "source": "/heat", "type": "t"}


def structured(**members: Any) -> Event:
    return decode_structured(json.dumps({**ATTRIBUTES, **members}).encode())


def faults(**members: Any) -> tuple[Fault, ...]:
    with pytest.raises(InvalidEvent) as caught:
        structured(**members)
    return caught.value.faults


def binary(headers: dict[str, str], body: bytes = b"") -> Event:
    named = {f"ce-{name}": value for name, value in ATTRIBUTES.items()} | headers
    return decode_binary([(name.encode(), value.encode()) for name, value in named.items()], body)


# -- core specification -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["id", "source", "specversion", "type"])
def test_required_attributes_must_be_present_in_all_cloudevents(name: str) -> None:
    assert faults(**{name: None})[0].pointer == f"/{name}"


@pytest.mark.parametrize("name", ["id", "source", "type"])
def test_id_source_and_type_must_be_a_non_empty_string(name: str) -> None:
    assert "empty" in faults(**{name: ""})[0].detail
    assert "string" in faults(**{name: 1})[0].detail


@pytest.mark.parametrize(
    "source", ["https://github.com/cloudevents", "mailto:a@b", "urn:uuid:6e8bc430", "1-555-123-4567"]
)
def test_source_must_be_a_non_empty_uri_reference(source: str) -> None:
    assert structured(source=source).source == source
    assert "URI-reference" in faults(source=source + " ")[0].detail


@pytest.mark.parametrize("version", ["0.3", "1", "1.0.2", "", " 1.0"])
def test_compliant_event_producers_must_use_a_value_of_1_0_for_specversion(version: str) -> None:
    assert faults(specversion=version)[0].pointer == "/specversion"


def test_source_and_id_are_what_makes_an_event_distinct_so_both_are_kept_as_they_came() -> None:
    assert structured(id=" a", source="/HEAT/../x").id == " a"
    assert structured(source="/HEAT/../x").source == "/HEAT/../x"


@pytest.mark.parametrize("name", ["Flavor", "fla_vor", "fla-vor", "flavör", "fla vor", ""])
def test_attribute_names_must_consist_of_lower_case_letters_or_digits_from_the_ascii_character_set(
    name: str,
) -> None:
    assert "name" in faults(**{name: "x"})[0].detail


def test_attribute_names_must_not_be_data() -> None:
    with pytest.raises(InvalidEvent):
        binary({"ce-data": "x"})


def test_each_context_attribute_occurs_at_most_once() -> None:
    text = json.dumps(ATTRIBUTES).encode()
    with pytest.raises(InvalidEvent, match="more than once"):
        decode_structured(text[:-1] + b',"id":"b"}')


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (False, "false"), (-(2**31), "-2147483648"), (2**31 - 1, "2147483647"), ("x", "x")],
)
def test_attribute_values_have_a_canonical_string_encoding(value: object, text: str) -> None:
    headers, _ = encode_binary(structured(extension=value))
    assert ("ce-extension", text) in headers


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 1.5, [], {}])
def test_attribute_values_are_of_the_type_system_integers_in_the_range_of_32_bits(value: object) -> None:
    assert faults(extension=value)[0].pointer == "/extension"


@pytest.mark.parametrize("code", [0x00, 0x1F, 0x7F, 0x9F, 0xFFFE, 0xFDD0, 0x1FFFF])
def test_strings_must_not_hold_control_characters_or_noncharacters(code: int) -> None:
    assert f"U+{code:04X}" in faults(subject=f"a{chr(code)}")[0].detail


def test_strings_must_not_hold_surrogates_that_are_not_a_pair() -> None:
    with pytest.raises(MalformedJson, match="surrogate"):
        structured(subject="\ud800")
    assert structured(subject="\U0001f600").subject == "\U0001f600"


def test_datacontenttype_must_adhere_to_the_format_specified_in_rfc_2046() -> None:
    assert structured(datacontenttype='multipart/form-data; boundary="a b"; q=1').datacontenttype
    for wrong in ("json", "a/b/c", "a/", "a/b; c", "a/b\r\nx: y"):
        assert faults(datacontenttype=wrong)[0].pointer == "/datacontenttype"


def test_dataschema_if_present_must_be_a_non_empty_uri() -> None:
    assert structured(dataschema="https://h.example/s.json").dataschema
    for wrong in ("", "/s.json", "a b"):
        assert faults(dataschema=wrong)[0].pointer == "/dataschema"


def test_subject_if_present_must_be_a_non_empty_string() -> None:
    assert faults(subject="")[0].pointer == "/subject"


@pytest.mark.parametrize(
    "time", ["2026-11-22T10:00:00Z", "2026-11-22T10:00:00.1+01:00", "2016-12-31T23:59:60Z"]
)
def test_time_if_present_must_adhere_to_the_format_specified_in_rfc_3339(time: str) -> None:
    assert structured(time=time).time == time
    for wrong in (
        time[:10],
        time + "x",
        time.replace("T", " "),
        time.replace("T", "T9"),
        "2026-02-29T00:00:00Z",
    ):
        assert faults(time=wrong)[0].pointer == "/time"


def test_intermediaries_must_forward_events_of_a_size_of_64_kib_or_less() -> None:
    text = json.dumps({**ATTRIBUTES, "data": ""}).encode()
    text = json.dumps({**ATTRIBUTES, "data": "x" * (64 * 1024 - len(text))}).encode()
    assert len(text) == 64 * 1024
    (event,) = decode_request("application/cloudevents+json", [], text, max_event_bytes=64 * 1024)
    assert len(json.loads(encode_structured(event))["data"]) == len(event.data)
    with pytest.raises(TooLarge):
        decode_request("application/cloudevents+json", [], text + b" ", max_event_bytes=64 * 1024)


def test_partitionkey_must_be_a_non_empty_string() -> None:
    assert faults(partitionkey="")[0].pointer == faults(partitionkey=1)[0].pointer == "/partitionkey"


# -- JSON event format ------------------------------------------------------------------------------------


def test_media_types_are_compared_without_regard_to_case() -> None:
    assert structured(datacontenttype="Application/Vnd.X+JSON", data={"n": 1}).form == "json"
    text = json.dumps(ATTRIBUTES).encode()
    assert decode_request("Application/CloudEvents+JSON", [], text, max_event_bytes=LIMIT)


def test_extensions_must_be_serialized_as_a_top_level_json_property() -> None:
    assert json.loads(encode_structured(Event("a", "/s", "t", flavor="x")))["flavor"] == "x"
    assert faults(extensions={"flavor": "x"})[0].pointer == "/extensions"


def test_a_null_value_must_be_treated_as_the_equivalent_of_unset_or_omitted() -> None:
    event = structured(subject=None, time=None, flavor=None, data_base64=None)
    assert event == structured()
    assert json.loads(encode_structured(event)) == ATTRIBUTES


def test_an_explicit_null_payload_is_distinct_from_the_absence_of_data() -> None:
    assert "data" in json.loads(encode_structured(structured(data=None)))
    assert "data" not in json.loads(encode_structured(structured()))


def test_binary_data_must_be_represented_as_base64_in_data_base64() -> None:
    sent = json.loads(encode_structured(Event("a", "/s", "t", data=b"\xff", datacontenttype="image/png")))
    assert sent["data_base64"] == "/w=="
    assert "data" not in sent


def test_data_and_data_base64_are_mutually_exclusive() -> None:
    assert faults(data=1, data_base64="AA==")[0].pointer == "/data"


@pytest.mark.parametrize("content_type", ["application/json", "text/json", "a/b+json; charset=utf-8", None])
def test_data_of_a_json_content_type_must_be_treated_directly_as_a_json_value(
    content_type: str | None,
) -> None:
    event = structured(datacontenttype=content_type, data='{"not": "parsed again"}')
    assert event.data == '{"not": "parsed again"}'
    assert json.loads(encode_structured(event))["data"] == '{"not": "parsed again"}'


def test_data_of_another_content_type_are_a_string() -> None:
    event = structured(datacontenttype="application/xml", data="<a/>")
    assert (event.data, encode_binary(event)[1]) == ("<a/>", b"<a/>")


def test_datacontenttype_should_be_set_to_the_implied_one_in_another_binding() -> None:
    headers, body = encode_binary(structured(data="I'm just a string"))
    assert (dict(headers)["content-type"], body) == ("application/json", b'"I\'m just a string"')


def test_a_batch_is_an_array_of_events_and_may_be_empty() -> None:
    text = json.dumps([ATTRIBUTES, {**ATTRIBUTES, "id": "a-2"}]).encode()
    assert [event.id for event in decode_batch(text, 10)] == ["a-1", "a-2"]
    assert decode_request("application/cloudevents-batch+json", [], b"[]", max_event_bytes=LIMIT) == []


# -- HTTP protocol binding --------------------------------------------------------------------------------


def test_implementations_that_support_structured_mode_must_support_the_json_event_format() -> None:
    text = json.dumps(ATTRIBUTES).encode()
    (event,) = decode_request("application/cloudevents+json; charset=UTF-8", [], text, max_event_bytes=LIMIT)
    assert event.attributes == ATTRIBUTES


def test_content_type_must_be_populated_from_and_written_to_datacontenttype() -> None:
    event = binary({"content-type": "application/json; charset=utf-8"}, b"{}")
    assert event.datacontenttype == "application/json; charset=utf-8"
    assert dict(encode_binary(event)[0])["content-type"] == "application/json; charset=utf-8"


def test_a_ce_datacontenttype_header_must_not_also_be_present() -> None:
    with pytest.raises(InvalidEvent, match="ce-datacontenttype"):
        binary({"ce-datacontenttype": "text/plain"})
    assert "ce-datacontenttype" not in dict(encode_binary(structured(datacontenttype="a/b"))[0])


def test_all_other_attributes_must_be_individually_mapped_to_headers_prefixed_with_ce() -> None:
    event = structured(subject="s", time="2026-11-22T10:00:00Z", flavor="x", count=3)
    headers = dict(encode_binary(event)[0])
    assert headers == {f"ce-{name}": str(value) for name, value in event.attributes.items()}
    assert binary(headers).attributes == {**event.attributes, "count": "3"}


def test_space_quote_percent_and_all_outside_printable_ascii_must_be_percent_encoded() -> None:
    headers = dict(encode_binary(structured(subject='Euro € 😀 "%" ~!'))[0])
    assert headers["ce-subject"] == "Euro%20%E2%82%AC%20%F0%9F%98%80%20%22%25%22%20~!"


def test_a_surrogate_pair_must_be_treated_as_a_single_unicode_character() -> None:
    assert dict(encode_binary(structured(subject="\U0001f600"))[0])["ce-subject"] == "%F0%9F%98%80"


def test_a_header_value_must_first_be_unescaped_with_respect_to_double_quoted_strings() -> None:
    assert binary({"ce-subject": '"a \\"b\\" %41"'}).subject == 'a "b" A'


def test_a_single_round_of_percent_decoding_must_then_be_performed() -> None:
    assert binary({"ce-subject": "%2541"}).subject == "%41"


def test_decoding_must_accept_lower_case_values() -> None:
    assert binary({"ce-subject": "%e2%82%ac"}).subject == "€"


def test_values_that_have_been_unnecessarily_percent_encoded_must_be_accepted() -> None:
    assert binary({"ce-subject": "%61%2D"}).subject == "a-"


@pytest.mark.parametrize("value", ["%C0%A0", "%FF", "%E2%82", "%ED%A0%80"])
def test_encoded_byte_sequences_which_are_invalid_in_utf_8_must_be_rejected(value: str) -> None:
    with pytest.raises(InvalidEvent, match="UTF-8"):
        binary({"ce-subject": value})


def test_all_attributes_must_be_mapped_into_the_payload_even_if_they_are_also_headers() -> None:
    text = json.dumps(ATTRIBUTES).encode()
    (event,) = decode_request(
        "application/cloudevents+json",
        [(b"ce-id", b"other"), (b"ce-subject", b"x")],
        text,
        max_event_bytes=LIMIT,
    )
    assert event.attributes == ATTRIBUTES


def test_a_format_that_cannot_be_handled_is_told_apart_from_binary_mode() -> None:
    headers = [(f"ce-{name}".encode(), value.encode()) for name, value in ATTRIBUTES.items()]
    with pytest.raises(UnsupportedMediaType):
        decode_request("application/cloudevents+avro", headers, b"x", max_event_bytes=LIMIT)


def test_a_message_that_does_not_adhere_to_all_of_the_normative_language_is_not_a_cloudevent() -> None:
    with pytest.raises(Problem) as caught:
        decode_request("text/plain", [(b"ce-specversion", b"1.0")], b"x", max_event_bytes=LIMIT)
    assert [fault.header for fault in caught.value.faults] == ["ce-id", "ce-source", "ce-type"]
