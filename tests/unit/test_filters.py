# SPDX-License-Identifier: Apache-2.0
"""Filters against a naive reading of CloudEvents Subscriptions 3.2.4, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.attributes import OURS, AttributeValue
from fairlead.core.filters import MAX_DEPTH, check_filters, compile_matching, needs, possible
from fairlead.core.subscription import Matching

EVENT: dict[str, AttributeValue] = {
    "specversion": "1.0", "id": "a-1", "source": "/heat", "type": "org.example.state", "subject": "stack-7",
    "count": 41, "final": True,
}  # fmt: skip
NAMES = ("type", "source", "subject", "count", "missing")
WORDS = st.sampled_from(["org", "org.example.state", "/heat", "stack-7", "7", "41", "4", "true", "e"])


def passes(*filters: Mapping[str, Any], **attributes: AttributeValue) -> bool:
    return compile_matching(Matching(filters=filters))({**EVENT, **attributes})


def documents() -> st.SearchStrategy[dict[str, Any]]:
    comparisons = st.builds(
        lambda dialect, body: {dialect: body},
        st.sampled_from(["exact", "prefix", "suffix"]),
        st.dictionaries(st.sampled_from(NAMES), WORDS, min_size=1, max_size=3),
    )
    sql = st.sampled_from([{"sql": "EXISTS missing"}, {"sql": "count = 41"}, {"sql": "missing = 1"}])
    return st.recursive(
        comparisons | sql,
        lambda inner: (
            st.builds(lambda body: {"not": body}, inner)
            | st.builds(
                lambda dialect, body: {dialect: body},
                st.sampled_from(["all", "any"]),
                st.lists(inner, min_size=1, max_size=3),
            )
        ),
        max_leaves=6,
    )


EVENTS = st.fixed_dictionaries(
    {"type": WORDS, "source": WORDS}, optional={"subject": WORDS, "count": st.sampled_from([4, 41, 7, True])}
)


def naive(document: Mapping[str, Any], event: Mapping[str, AttributeValue]) -> bool:
    [(dialect, body)] = document.items()
    if dialect == "all":
        return all(naive(part, event) for part in body)
    if dialect == "any":
        return any(naive(part, event) for part in body)
    if dialect == "not":
        return not naive(body, event)
    if dialect == "sql":
        return body == "count = 41" and event.get("count") == 41
    texts = {name: "true" if value is True else str(value) for name, value in event.items()}
    return all(name in texts and compares(dialect, texts[name], wanted) for name, wanted in body.items())


def compares(dialect: str, text: str, wanted: str) -> bool:
    if dialect == "exact":
        return text == wanted
    return text.startswith(wanted) if dialect == "prefix" else text.endswith(wanted)


@given(st.lists(documents(), max_size=3), EVENTS)
def test_filters_do_what_the_specification_says(
    filters: list[dict[str, Any]], event: dict[str, AttributeValue]
) -> None:
    assert check_filters(filters, "/filters") == []
    matching = Matching(filters=tuple(filters))
    assert compile_matching(matching)(event) is all(naive(item, event) for item in filters)


@given(
    st.lists(documents(), max_size=3),
    st.lists(WORDS, max_size=2).map(tuple),
    st.none() | WORDS,
    EVENTS,
)
def test_needs_rule_out_only_what_does_not_pass(
    filters: list[dict[str, Any]],
    types: tuple[str, ...],
    source: str | None,
    event: dict[str, AttributeValue],
) -> None:
    matching = Matching(source, types, tuple(filters))
    need = needs(matching)
    if compile_matching(matching)(event):
        assert need.types is None or event["type"] in need.types
        assert need.sources is None or event["source"] in need.sources
        assert possible(matching)(str(event["type"]), str(event["source"]))


@pytest.mark.parametrize(
    ("document", "may"),
    [
        ({"prefix": {"type": "org.other."}}, False),
        ({"suffix": {"type": ".create"}}, True),
        ({"exact": {"source": "/heat", "count": "41"}}, True),
        ({"exact": {"source": "/nova", "count": "41"}}, False),
        ({"not": {"exact": {"type": "stack.create"}}}, False),
        ({"not": {"exact": {"type": "stack.create", "count": "41"}}}, True),
        ({"not": {"not": {"prefix": {"source": "/nova"}}}}, False),
        ({"any": [{"prefix": {"type": "volume"}}, {"exact": {"source": "/nova"}}]}, False),
        ({"any": [{"prefix": {"type": "volume"}}, {"exact": {"count": "41"}}]}, True),
        ({"all": [{"suffix": {"type": "create"}}, {"exact": {"source": "/nova"}}]}, False),
        ({"sql": "type = 'volume'"}, True),
    ],
)
def test_type_and_source_alone_rule_out_what_they_can(document: dict[str, Any], may: bool) -> None:
    assert possible(Matching(filters=(document,)))("stack.create", "/heat") is may


TYPE_A, TYPE_B, ANY_SQL = {"exact": {"type": "a"}}, {"exact": {"type": "b"}}, {"sql": "TRUE"}
A_OR_B = {"any": [TYPE_A, {"all": [TYPE_B, ANY_SQL]}]}


@pytest.mark.parametrize(
    ("matching", "types", "sources"),
    [
        (Matching(), None, None),
        (Matching("/heat", ("a", "b")), {"a", "b"}, {"/heat"}),
        (Matching(filters=({"exact": {"type": "a", "source": "/x"}},)), {"a"}, {"/x"}),
        (Matching(filters=(A_OR_B,)), {"a", "b"}, None),
        (Matching(None, ("b", "c"), (A_OR_B,)), {"b"}, None),
        (Matching(filters=({"any": [TYPE_A, ANY_SQL]},)), None, None),
        (Matching(filters=({"not": TYPE_A},)), None, None),
        (Matching(filters=({"prefix": {"type": "a"}},)), None, None),
        (Matching(None, ("b",), (TYPE_A,)), set(), None),
    ],
)
def test_needs_come_from_types_source_and_exact_filters(
    matching: Matching, types: set[str] | None, sources: set[str] | None
) -> None:
    need = needs(matching)
    assert need.types == types
    assert need.sources == sources


# -- the MUSTs of CloudEvents Subscriptions (reference/webhook-peers.md, 5.6) --------------------------------


def test_no_filters_pass_everything() -> None:
    assert passes()


def test_every_filter_of_the_array_must_pass() -> None:
    heat, other = {"exact": {"source": "/heat"}}, {"exact": {"source": "/nova"}}
    assert passes(heat, {"prefix": {"type": "org."}})
    assert not passes(heat, other)


def test_source_and_types_must_match_exactly() -> None:
    matches = compile_matching(Matching("/heat", ("a", "org.example.state")))
    assert matches(EVENT)
    assert not matches({**EVENT, "source": "/heat/1"})
    assert not matches({**EVENT, "type": "org.example"})


@pytest.mark.parametrize("dialect", ["exact", "prefix", "suffix"])
def test_all_attributes_of_a_comparison_must_match(dialect: str) -> None:
    assert passes({dialect: {"source": "/heat", "type": "org.example.state"}})
    assert not passes({dialect: {"source": "/heat", "type": "x"}})


@pytest.mark.parametrize("dialect", ["exact", "prefix", "suffix"])
def test_comparisons_know_upper_from_lower_case(dialect: str) -> None:
    assert not passes({dialect: {"source": "/HEAT"}})


def test_prefix_suffix_all_any_not() -> None:
    assert passes({"prefix": {"subject": "stack-"}}, {"suffix": {"type": ".state"}})
    assert passes({"any": [{"exact": {"subject": "x"}}, {"not": {"exact": {"subject": "x"}}}]})
    assert not passes({"all": [{"exact": {"subject": "stack-7"}}, {"exact": {"subject": "x"}}]})


def test_attributes_compare_as_their_canonical_strings() -> None:
    assert passes({"exact": {"count": "41", "final": "true"}}, {"prefix": {"count": "4"}})
    assert not passes({"exact": {"final": "True"}})


@pytest.mark.parametrize("dialect", ["exact", "prefix", "suffix"])
def test_a_missing_attribute_is_false_and_its_not_is_true(dialect: str) -> None:
    assert not passes({dialect: {"missing": "x"}})
    assert passes({"not": {dialect: {"missing": "x"}}})


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("TRUE", True),
        ("FALSE", False),
        ("'true'", False),
        ("1", False),
        ("NOT missing", False),
        ("final", True),
    ],
)
def test_sql_passes_only_on_the_boolean_true(sql: str, expected: bool) -> None:
    assert passes({"sql": sql}) is expected


def faults(*filters: object) -> list[tuple[str | None, str]]:
    return [(fault.pointer, fault.detail) for fault in check_filters(list(filters), "/filters")]


@pytest.mark.parametrize("dialect", ["Exact", "regex", "https://example.org/dialect", ""])
def test_an_unsupported_dialect_must_be_refused(dialect: str) -> None:
    [(pointer, detail)] = faults({dialect: {"type": "x"}})
    assert pointer == f"/filters/0/{dialect.replace('/', '~1')}"
    assert "dialect" in detail


@pytest.mark.parametrize("dialect", ["exact", "prefix", "suffix"])
@pytest.mark.parametrize("body", [{}, {"": "x"}, {"type": ""}, {"type": 1}, {"type": None}, [], "x", None])
def test_an_empty_name_or_value_must_be_refused(dialect: str, body: object) -> None:
    assert len(faults({dialect: body})) == 1


@pytest.mark.parametrize("dialect", ["all", "any"])
@pytest.mark.parametrize("body", [[], {}, None, "x"])
def test_an_empty_array_must_be_refused(dialect: str, body: object) -> None:
    assert faults({dialect: body}) == [(f"/filters/0/{dialect}", "must be an array of at least one filter")]


@pytest.mark.parametrize("item", [{}, {"exact": {"a": "b"}, "prefix": {"a": "b"}}])
def test_a_filter_has_exactly_one_dialect(item: object) -> None:
    [(pointer, detail)] = faults({"all": [item]})
    assert pointer == "/filters/0/all/0"
    assert "exactly one dialect" in detail


@pytest.mark.parametrize("item", [None, 1, "x", []])
def test_a_filter_is_an_object(item: object) -> None:
    assert [pointer for pointer, _ in faults({"not": item}, item)] == ["/filters/0/not", "/filters/1"]


def test_a_wrong_expression_is_told_with_its_place_and_column() -> None:
    [(pointer, detail)] = faults({"any": [{"sql": "TRUE"}, {"sql": "type = "}]})
    assert pointer == "/filters/0/any/1/sql"
    assert "column 8" in detail
    [(_, detail)] = faults({"sql": "LENGHT(type) = 1"})
    assert "did you mean LENGTH?" in detail


def test_every_fault_is_told_at_once() -> None:
    found = faults({"exact": {"Type": "x", "source": ""}}, {"sql": 1}, {"nto": {}})
    assert [pointer for pointer, _ in found] == [
        "/filters/0/exact/Type", "/filters/0/exact/source", "/filters/1/sql", "/filters/2/nto",
    ]  # fmt: skip


@pytest.mark.parametrize("name", sorted(OURS))
def test_what_no_accepted_event_has_cannot_be_filtered_on(name: str) -> None:
    assert len(faults({"exact": {name: "1"}})) == 1


@pytest.mark.parametrize("wrap", ["not", "all", "any"])
def test_nesting_is_bounded(wrap: str) -> None:
    document: dict[str, Any] = {"exact": {"type": "x"}}
    for _ in range(MAX_DEPTH - 1):
        document = {wrap: document if wrap == "not" else [document]}
    assert faults(document) == []
    for _ in range(5000):
        document = {wrap: document if wrap == "not" else [document]}
    [(_, detail)] = faults(document)
    assert "nested deeper" in detail


@pytest.mark.parametrize("filters", [None, {}, "x", 1])
def test_filters_are_an_array(filters: object) -> None:
    assert [fault.pointer for fault in check_filters(filters, "/filters")] == ["/filters"]


def test_what_was_not_checked_is_not_compiled() -> None:
    with pytest.raises(ValueError, match="/filters/0/all"):
        compile_matching(Matching(filters=({"all": []},)))
