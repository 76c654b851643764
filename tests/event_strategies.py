# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies: events that CloudEvents 1.0 allows, and values that JSON has."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from fairlead import Event
from fairlead.core.attributes import OPTIONAL, OURS, REQUIRED

_TAKEN = {*REQUIRED, *OPTIONAL, *OURS, "data", "partitionkey"}

code_points = st.characters(codec="utf-8")
allowed = st.characters(codec="utf-8", min_codepoint=0x20).filter(
    lambda one: not (0x7F <= ord(one) <= 0x9F or ord(one) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(one) <= 0xFDEF)
)
strings = st.text(allowed, max_size=12)
texts = st.text(allowed, min_size=1, max_size=12)
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20).filter(
    lambda name: name not in _TAKEN
)
integers = st.integers(-(2**31), 2**31 - 1)
sources = st.sampled_from(
    ["/heat", "urn:x:1", "https://h.example/p?q=%20#f", "a/b", "?q", "//host", "mailto:a@b"]
)
times = st.sampled_from(["2026-11-22T10:00:00Z", "2024-02-29t23:59:60.123+05:30", "0000-01-01T00:00:00z"])
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(code_points, max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(code_points, max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Any event that the constructor can make."""
    data: Any
    content_type: str | None
    data, content_type = draw(
        st.tuples(
            json_values, st.sampled_from([None, "application/json", "application/x+json; charset=utf-8"])
        )
        | st.tuples(st.text(code_points), st.just("text/plain"))
        | st.tuples(st.binary(), st.sampled_from([None, "image/png", "application/json"]))
    )
    optional: dict[str, Any] = {
        "subject": draw(st.none() | texts),
        "time": draw(st.none() | times),
        "dataschema": draw(st.none() | st.just("https://h.example/schema.json#/a")),
        "partitionkey": draw(st.none() | texts),
        **draw(st.dictionaries(names, strings | integers | st.booleans(), max_size=3)),
    }
    return Event(draw(texts), draw(sources), draw(texts), data=data, datacontenttype=content_type, **optional)
