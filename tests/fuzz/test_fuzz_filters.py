# SPDX-License-Identifier: Apache-2.0
"""Whatever a user sends as filter, expression or subscription: a named problem, or something that works."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.cesql import CesqlSyntaxError, compile_expression
from fairlead.core.filters import DIALECTS, check_filters, compile_matching, needs
from fairlead.core.subscription import Matching
from fairlead.core.subscription_config import CONFIG_MEMBERS
from fairlead.core.subscription_format import MEMBERS, parse, render
from fairlead.core.subscription_record import from_record, to_record
from fairlead.errors import InvalidFilter, InvalidSubscription

EVENT: dict[str, str | int | bool] = {
    "specversion": "1.0", "id": "a-1", "source": "/heat", "type": "t", "n": -(2**31), "yes": True,
    "text": "1",
}  # fmt: skip
ATOMS = [
    "id",
    "n",
    "yes",
    "text",
    "missing",
    "1",
    "0",
    "-2147483648",
    "'a%'",
    '"true"',
    "TRUE",
    "false",
    "EXISTS n",
]
WORDS = [
    *ATOMS, "(", ")", ",", "+", "-", "*", "/", "%", "=", "!=", "<>", "<", "<=", ">", ">=", "AND", "OR", "XOR",
    "NOT", "LIKE", "IN", "EXISTS", "ABS(", "LEFT(", "SUBSTRING(", "CONCAT(", "INT(", "NOPE(", "'", "\\", "é",
]  # fmt: skip
BINARY = ["+", "-", "*", "/", "%", "=", "!=", "<>", "<", "<=", ">", ">=", "AND", "OR", "XOR"]
CALLS = [
    "ABS({})",
    "LENGTH({})",
    "LEFT({}, {})",
    "SUBSTRING({}, {}, {})",
    "CONCAT_WS({}, {})",
    "TRIM({})",
    "BOOL({})",
]

SENTENCES = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: (
        st.builds(lambda left, sign, right: f"({left} {sign} {right})", inner, st.sampled_from(BINARY), inner)
        | st.builds(lambda prefix, one: f"{prefix} ({one})", st.sampled_from(["NOT", "-"]), inner)
        | st.builds(lambda call, one: call.replace("{}", one), st.sampled_from(CALLS), inner)
        | st.builds(
            lambda one, other, word: f"{one} {word} ({other}, {one})",
            inner,
            inner,
            st.sampled_from(["IN", "NOT IN"]),
        )
        | st.builds(lambda one, pattern: f"{one} LIKE '{pattern}x'", inner, st.text("a1_%\\", max_size=5))
    ),
    max_leaves=8,
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*DIALECTS, *MEMBERS, *CONFIG_MEMBERS, "type", "a/b", ""]) | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
VALUES = JSON | st.sampled_from(
    [
        "https://a.example/x",
        "http://[::1]:1/",
        "HTTP",
        "AMQP",
        "15s",
        "1MiB",
        "now",
        "library",
        "whsec_" + "A" * 32,
        "***",
    ]
)


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join) | st.text(max_size=40))
def test_any_text_is_an_expression_or_a_syntax_error(text: str) -> None:
    with contextlib.suppress(CesqlSyntaxError):
        expression = compile_expression(text)
        value, error = expression.evaluate(EVENT)
        assert isinstance(value, str | int | bool)
        assert expression.holds(EVENT) is (error is None and value is True)


@given(SENTENCES)
def test_every_sentence_is_read_and_has_a_value_of_its_range(sentence: str) -> None:
    value, _ = compile_expression(sentence).evaluate(EVENT)
    assert isinstance(value, str) or -(2**31) <= value < 2**31


@given(st.lists(JSON, max_size=3) | JSON)
def test_any_filters_are_compiled_or_told_why_not(filters: Any) -> None:
    faults = check_filters(filters, "/filters")
    if not faults:
        matching = Matching(filters=tuple(filters))
        needs(matching)
        assert compile_matching(matching)(EVENT) in (True, False)
    for fault in faults:
        assert fault.pointer is not None
        assert fault.pointer.startswith("/filters")
        assert fault.detail


@given(
    JSON
    | st.builds(
        lambda fixed, config, rest: {**rest, **fixed, "config": config},
        st.fixed_dictionaries(
            {"sink": st.just("https://a.example/x") | VALUES, "protocol": st.just("HTTP") | VALUES}
        ),
        st.dictionaries(st.sampled_from(CONFIG_MEMBERS), VALUES, max_size=3),
        st.dictionaries(st.sampled_from(MEMBERS), VALUES, max_size=2),
    )
)
def test_any_subscription_is_read_or_told_why_not(document: Any) -> None:
    try:
        subscription = parse(document, id="one", previous=None, defaults={}, now=1.0)
    except (InvalidSubscription, InvalidFilter) as problem:
        faults = problem.faults
    else:
        assert from_record(to_record(subscription)) == subscription
        shown = render(subscription, {})
        assert parse(shown, id="one", previous=subscription, defaults={}, now=2.0) == subscription
        return
    assert faults
    assert all(fault.pointer is not None and fault.detail for fault in faults)
