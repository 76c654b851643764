# SPDX-License-Identifier: Apache-2.0
"""The syntax of single attributes: URIs, times, media types, and the words of the faults."""

from __future__ import annotations

from calendar import monthrange

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.attributes import check_attributes, is_json_type, shown
from fairlead.core.pointer import pointer_to
from fairlead.errors import InvalidEvent

REQUIRED = {"specversion": "1.0", "id": "a", "source": "/s", "type": "t"}


def taken(**attributes: object) -> bool:
    try:
        check_attributes({**REQUIRED, **attributes})
    except InvalidEvent:
        return False
    return True


URIS = [
    "http://x",
    "urn:a",
    "x:",
    "x:/a",
    "http://",
    "http://[::1]:80/x",
    "http://u:p@h:1/?a=b#c?/",
    "x://[v1.a]",
]
REFERENCES = [
    "/sensors/tn-1234567",
    "cloudevents/spec/pull/123",
    "1-555-123-4567",
    "//host/p",
    "//",
    "?q",
    "?a:b",
]
REFERENCES += ["#f", "a", "./a:b", "/a:b", "/%20", "%41", "/a//b", "a@b"]
NEITHER = [
    "",
    " ",
    "/a b",
    "1:2",
    "%41:",
    "/%2",
    "/%zz",
    "http://h:x/",
    "é",
    "/é",
    "[",
    "a[b",
    "http://[::1",
    "x://a@b@",
]
NEITHER += ["/a#b#c", "\\", "<a>", "/a\n", "\n", "http://a@b@c/", "http://[::1]x"]


@pytest.mark.parametrize("uri", URIS)
def test_a_uri_is_a_source_and_a_schema(uri: str) -> None:
    assert taken(source=uri)
    assert taken(dataschema=uri)


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_relative_reference_is_a_source_and_no_schema(reference: str) -> None:
    assert taken(source=reference)
    assert not taken(dataschema=reference)


@pytest.mark.parametrize("text", NEITHER)
def test_what_is_no_uri_reference_is_neither(text: str) -> None:
    assert not taken(source=text)
    assert not taken(dataschema=text)


@pytest.mark.parametrize("unit", ["a", "%41", "/", ":", "é", "@", "//a@"])
def test_a_long_source_takes_no_long_time(unit: str) -> None:
    taken(source=unit * 100_000 + "é")
    taken(source="http://" + unit * 100_000 + "é")


@given(st.integers(0, 9999), st.integers(0, 13), st.integers(0, 32))
def test_a_day_is_one_of_the_calendar(year: int, month: int, day: int) -> None:
    # The calendar repeats every 400 years, and Python's begins with year 1.
    real = 1 <= month <= 12 and 1 <= day <= monthrange(year + 400, month)[1]
    assert taken(time=f"{year:04}-{month:02}-{day:02}T00:00:00Z") is real


@pytest.mark.parametrize("time", ["23:59:60Z", "00:00:00.123456789012+23:59", "00:00:00-00:00", "12:00:00z"])
def test_a_time_of_day_is_one_of_rfc_3339(time: str) -> None:
    assert taken(time=f"2026-11-22T{time}")
    assert taken(time=f"2026-11-22t{time}")
    for wrong in (time[:8], f"2026-11-22 {time}", f"2026-11-22T{time}\n", f"2026-11-22T{time}Z"):
        assert not taken(time=wrong)


@pytest.mark.parametrize(
    "time", ["24:00:00Z", "00:60:00Z", "00:00:61Z", "00:00:00.Z", "00:00:00+24:00", "00:00Z"]
)
def test_a_time_of_day_beyond_the_day_is_refused(time: str) -> None:
    assert not taken(time=f"2026-11-22T{time}")


@pytest.mark.parametrize(
    "media_type", ["a/b", "text/plain; charset=utf-8", 'a/b;c="d\\"e ;f"', "a/b;", "a/b ; c=d;e=f"]
)
def test_a_media_type_has_two_parts_and_parameters(media_type: str) -> None:
    assert taken(datacontenttype=media_type)


@pytest.mark.parametrize(
    "text", ["", "a", "a/", "/b", "a/b/c", "a b/c", "a/b; c", 'a/b; c="d', "a/b, c/d", "a/b\n"]
)
def test_what_is_no_media_type_is_refused(text: str) -> None:
    assert not taken(datacontenttype=text)


@pytest.mark.parametrize(
    ("media_type", "json"),
    [
        (None, True),
        ("application/json", True),
        ("TEXT/JSON;charset=utf-8", True),
        ("application/vnd.x+json ; a=b", True),
        ("application/jsonl", False),
        ("application/x-json", False),
        ("application/json-seq", False),
        ("text/plain; a=b/json", False),
        ("json", False),
    ],
)
def test_json_types_end_in_json_or_its_suffix(media_type: str | None, json: bool) -> None:
    assert is_json_type(media_type) is json


def test_pointers_are_escaped_and_values_shown_short() -> None:
    assert pointer_to("a/b~c") == "/a~1b~0c"
    assert shown('a"b') == '"a\\"b"'
    assert len(shown("x" * 1000)) == 60
    assert shown(object()) == "'object'"
    assert shown("\ud800") == "'\\ud800'"


@given(
    st.dictionaries(
        st.text(max_size=3), st.text(max_size=3) | st.integers() | st.floats() | st.none(), max_size=4
    )
)
def test_whatever_is_wrong_each_attribute_gets_one_fault_with_its_pointer(extra: dict[str, object]) -> None:
    try:
        check_attributes({**REQUIRED, **extra})
    except InvalidEvent as problem:
        pointers = [fault.pointer for fault in problem.faults]
    else:
        pointers = []
    assert len(set(pointers)) == len(pointers)
    assert set(pointers) <= {pointer_to(name) for name in extra}
