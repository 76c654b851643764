# SPDX-License-Identifier: Apache-2.0
"""CESQL 1.0: the CloudEvents project's kit, and what it leaves out."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.cesql import CesqlSyntaxError, compile_expression
from fairlead.core.cesql.like import compile_pattern
from fairlead.core.cesql.parser import MAX_CHARACTERS, MAX_DEPTH

KIT = Path(__file__).parents[1] / "vectors" / "cesql"
EVENT = {"specversion": "1.0", "id": "a-1", "source": "/heat", "type": "org.example.state"}


class _Loader(yaml.SafeLoader):
    """YAML as the kit means it: times are strings."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _kit() -> list[Any]:
    return [
        pytest.param(case, id=f"{path.stem}: {case['name']}")
        for path in sorted(KIT.glob("*.yaml"))
        for case in yaml.load(path.read_text(), _Loader)["tests"]
    ]


@pytest.mark.parametrize("case", _kit())
def test_kit(case: dict[str, Any]) -> None:
    expression = str(case["expression"])
    if case.get("error") == "parse":
        with pytest.raises(CesqlSyntaxError):
            compile_expression(expression)
        return
    event = case.get("event") or {**EVENT, **case.get("eventOverrides", {})}
    value, error = compile_expression(expression).evaluate(event)
    assert (None if error is None else error.kind) == case.get("error")
    assert value == case["result"]
    assert type(value) is type(case["result"])


def test_the_kit_is_all_there() -> None:
    assert len(_kit()) > 180


def value(expression: str, **attributes: Any) -> Any:
    """The value of an expression in which nothing goes wrong."""
    result, error = compile_expression(expression).evaluate({**EVENT, **attributes})
    assert error is None, error
    return result


def failure(expression: str, **attributes: Any) -> tuple[Any, str | None]:
    """The value and the kind of error of an expression."""
    result, error = compile_expression(expression).evaluate({**EVENT, **attributes})
    return result, None if error is None else error.kind


# The kit's own cases for LIKE are not among the vectors; these are the rules of 3.4.3, case by case.
@pytest.mark.parametrize(
    ("text", "pattern", "matches"),
    [
        ("abc", "abc", True), ("abc", "ab", False), ("abc", "abcd", False), ("", "", True), ("", "%", True),
        ("", "_", False), ("abc", "a%c", True), ("ac", "a%c", True), ("abcd", "a%c", False),
        ("a", "a%a", False),
        ("aa", "a%a", True), ("azbzc", "a_b_c", True), ("abc", "a_b_c", False), ("a%c", r"a\%c", True),
        ("abc", r"a\%c", False), ("a_c", r"a\_c", True), ("abc", r"a\_c", False), (r"a\c", r"a\c", True),
        ("a.c", "a.c", True), ("abc", "a.c", False), ("xayaz", "%a%a%", True), ("xay", "%a%a%", False),
        ("a\nb", "a_b", True), ("a\nb", "a%b", True), ("ABC", "abc", False), ("aXbab", "a%ab", True),
        ("%", r"\%", True), ("x", "%%%", True), ("ab", "_%_", True), ("a", "_%_", False), ("é", "_", True),
    ],
)  # fmt: skip
def test_like(text: str, pattern: str, matches: bool) -> None:
    assert value(f"ext LIKE '{pattern}'", ext=text) is matches
    assert value(f"ext NOT LIKE '{pattern}'", ext=text) is not matches


@given(st.text("ab\\%_"), st.text("ab\\%_"))
def test_like_agrees_with_a_naive_matcher(text: str, pattern: str) -> None:
    @functools.cache
    def naive(at: int, of: int) -> bool:
        if of == len(pattern):
            return at == len(text)
        if pattern[of] == "%":
            return naive(at, of + 1) or (at < len(text) and naive(at + 1, of))
        if at == len(text):
            return False
        if pattern[of] == "\\" and of + 1 < len(pattern) and pattern[of + 1] in "%_":
            return text[at] == pattern[of + 1] and naive(at + 1, of + 2)
        return pattern[of] in ("_", text[at]) and naive(at + 1, of + 1)

    assert compile_pattern(pattern)(text) is naive(0, 0)


def test_like_with_many_wildcards_is_quick() -> None:
    assert value(f"ext LIKE '{'%a' * 200}%b'", ext="a" * 20_000) is False


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 + 2 * 3", 7), ("(1 + 2) * 3", 9), ("10 - 4 - 3", 3), ("100 / 10 / 5", 2), ("7 % 4 % 2", 1),
        ("-7 / 2", -3), ("7 / -2", -3), ("-7 % 2", -1), ("7 % -2", 1), ("2 -1", 1), ("+5", 5), ("- 5", -5),
        ("1 + 1 = 2", True), ("1 < 2 AND 2 < 3", True), ("TRUE OR TRUE AND FALSE", True),
        ("FALSE AND FALSE OR TRUE", True), ("TRUE XOR TRUE OR TRUE", False), ("NOT FALSE AND FALSE", False),
        ("NOT EXISTS ext OR TRUE", True), ("NOT (1 = 2)", True), ("'a' LIKE 'a' = TRUE", True),
        ("1 IN (1) AND 2 NOT IN (1)", True), ("- -5", 5), ("2147483647", 2**31 - 1),
        ("-2147483648", -(2**31)), ("00012", 12),
    ],
)  # fmt: skip
def test_precedence_and_arithmetic(expression: str, expected: object) -> None:
    assert value(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("2147483647 + 1", 2**31 - 1), ("-2147483648 - 1", -(2**31)), ("65536 * 65536", 2**31 - 1),
        ("-(-2147483648)", 2**31 - 1), ("-2147483648 / -1", 2**31 - 1),
    ],
)  # fmt: skip
def test_overflow_is_a_math_error_with_the_nearest_integer(expression: str, expected: int) -> None:
    assert failure(expression) == (expected, "math")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("LENGTH(ext)", (0, "missingAttribute")), ("CONCAT(ext, 'a')", ("", "missingAttribute")),
        ("ext LIKE 'a'", (False, "missingAttribute")), ("ext NOT LIKE 'a'", (False, "missingAttribute")),
        ("ext IN ('a')", (False, "missingAttribute")), ("ext AND TRUE", (False, "missingAttribute")),
        ("TRUE OR ext", (True, None)), ("FALSE AND ext", (False, None)), ("ext", (False, "missingAttribute")),
        ("ext + 1", (0, "missingAttribute")), ("TRUE AND (ext = '')", (False, "missingAttribute")),
        ("'x' < 1", (False, "cast")), ("'x' + 1", (0, "cast")), ("'x' AND TRUE", (False, "cast")),
        ("LEFT('abc', -1) = 'abc'", (False, "functionEvaluation")), ("NOPE(1) + 1", (0, "missingFunction")),
        ("SUBSTRING('abc', 1, -1)", ("", "functionEvaluation")), ("INT('2147483648')", (0, "cast")),
        ("INT(' 1')", (0, "cast")), ("INT('')", (0, "cast")), ("1 IN ('x', 1)", (False, "cast")),
    ],
)  # fmt: skip
def test_an_error_ends_evaluation_with_the_zero_value(expression: str, expected: tuple[Any, str]) -> None:
    assert failure(expression) == expected


def test_functions_know_characters_not_bytes() -> None:
    assert value("LENGTH('héé😀')") == 4
    assert value("RIGHT('abc', 0)") == ""
    assert value("SUBSTRING('héé😀', -1)") == "😀"
    assert value("TRIM(ext)", ext="\u2003 a \u00a0") == "a"
    assert value("LENGTH(TRIM(ext))", ext="\x1ca\x1f") == 3


def test_not_binds_tighter_than_a_comparison_as_the_specification_has_it() -> None:
    assert failure("NOT 1 = 2") == (False, "cast")
    assert failure("NOT (1 = 2)") == (True, None)


def test_names_and_keywords_are_the_same_in_any_case() -> None:
    assert value("eXiStS EXT and length(EXT) In (3)", ext="abc") is True


def test_a_backslash_stands_for_itself_but_before_the_quote() -> None:
    assert value(r"'a\b\\c\"d\'e'") == "a\\b\\\\c\\\"d'e"


@pytest.mark.parametrize(
    ("expression", "column"),
    [
        ("", 1), ("   ", 4), ("a =", 4), ("a = 'x", 5), ("(a = 1", 7), ("a = 1)", 6), ("a b", 3), ("= 1", 1),
        ("a LIKE b", 8), ("a NOT b", 7), ("EXISTS 'a'", 8), ("a IN ()", 3), ("a IN 1", 6), ("a IN (1,)", 9),
        ("f_1(a)", 1), ("a_b = 1", 1), ("a & b", 3), ("2147483648", 1), ("-2147483649", 1), ("9" * 9000, 1),
        ("LENGTH(,)", 8), ("a = 1 AND", 10), ("+a", 2), ("é = 1", 1), ("a == 1", 4), ("NOT", 4),
    ],
)  # fmt: skip
def test_what_is_no_expression_is_refused_with_its_column(expression: str, column: int) -> None:
    with pytest.raises(CesqlSyntaxError, match=r"column \d+: ") as caught:
        compile_expression(expression)
    assert caught.value.column == column


@pytest.mark.parametrize("deep", ["({})", "NOT {}", "-{}", "ABS({})", "1 IN ({})", "{} + 1", "1 + ({})"])
def test_nesting_is_bounded(deep: str) -> None:
    expression = "1"
    for _ in range(MAX_DEPTH // 2):
        expression = deep.format(expression)
    compile_expression(expression).evaluate(EVENT)
    for _ in range(MAX_DEPTH * 4):
        expression = deep.format(expression)
    with pytest.raises(CesqlSyntaxError, match="nested deeper"):
        compile_expression(expression)


def test_length_is_bounded() -> None:
    with pytest.raises(CesqlSyntaxError, match="at most"):
        compile_expression("'" + "a" * MAX_CHARACTERS + "'")


def test_a_long_list_of_alternatives_is_not_deep() -> None:
    many = " OR ".join(f"type = 't{number}'" for number in range(800))
    assert compile_expression(many).holds({**EVENT, "type": "t799"})
    assert not compile_expression(many).holds(EVENT)


def test_and_stops_at_the_first_false_and_or_at_the_first_true() -> None:
    assert failure("TRUE AND FALSE AND 1 / 0 = 1") == (False, None)
    assert failure("FALSE OR TRUE OR 1 / 0 = 1") == (True, None)


@pytest.mark.parametrize(
    ("expression", "passes"),
    [
        ("TRUE", True), ("FALSE", False), ("'true'", False), ("1", False), ("ext", False), ("NOT ext", False),
        ("BOOL('true')", True), ("NOT 10", False), ("EXISTS id", True), ("NOPE()", False),
    ],
)  # fmt: skip
def test_only_the_boolean_true_without_an_error_holds(expression: str, passes: bool) -> None:
    assert compile_expression(expression).holds(EVENT) is passes


def test_an_error_says_where_and_what() -> None:
    error = compile_expression("TRUE AND missing = 1").evaluate(EVENT).error
    assert str(error) == "column 10: the event has no attribute 'missing'"


def test_a_function_that_there_is_not_is_told_at_compile_time() -> None:
    unknown = compile_expression("a = 1 OR LENGHT(b) = 2").unknown_function
    assert unknown is not None
    assert (unknown.column, "LENGTH?" in unknown.message) == (10, True)
    arity = compile_expression("LEFT(a)").unknown_function
    assert arity is not None
    assert "does not take 1 argument" in arity.message
    assert compile_expression("LEFT(a, 1) = 'b'").unknown_function is None
