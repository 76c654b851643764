# SPDX-License-Identifier: Apache-2.0
"""Which events a subscription wants: CloudEvents Subscriptions 3.2.4, as closures.

Attributes compare as their canonical strings, and a missing one makes a comparison false; so `not` of such
a comparison is true. `check_filters` says what is wrong with a document; `compile_matching` and `needs` take
what was checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fairlead.core.attributes import OURS, AttributeValue, canonical
from fairlead.core.cesql import CesqlSyntaxError, compile_expression
from fairlead.core.durations import nearest
from fairlead.core.pointer import pointer_to
from fairlead.core.subscription import Matching
from fairlead.errors import Fault

Attributes = Mapping[str, AttributeValue]
Predicate = Callable[[Attributes], bool]
Possible = Callable[[str, str], bool]

DIALECTS = ("exact", "prefix", "suffix", "all", "any", "not", "sql")
MAX_DEPTH = 16
"""Levels of `all`, `any` and `not` within each other."""

_KIND = ("type", "source")
_NAME = re.compile(r"[a-z0-9]+", re.ASCII)
_COMPARE: dict[str, Callable[[str, str], bool]] = {
    "exact": str.__eq__,
    "prefix": str.startswith,
    "suffix": str.endswith,
}


class Needs(NamedTuple):
    """Necessary conditions: what passes has one of `types` and one of `sources`; None where any will do."""

    types: frozenset[str] | None
    sources: frozenset[str] | None


_ANYTHING = Needs(None, None)


def anything(_: Attributes) -> bool:
    """The test that every event passes."""
    return True


def compile_matching(matching: Matching) -> Predicate:
    """The test of whether an event, given by its context attributes, is wanted; it never raises.

    Where every event is, the test is `anything`.

    Raises:
        ValueError: for filters that `check_filters` finds fault with.
    """
    if faults := check_filters(list(matching.filters), "/filters"):
        raise ValueError(f"{faults[0].pointer} {faults[0].detail}")
    return _all([*_kinds(matching), *map(_predicate, matching.filters)])


def needs(matching: Matching) -> Needs:
    """Types and sources without which no event passes: for an index that rules subscriptions out."""
    own = Needs(
        frozenset(matching.types) or None,
        None if matching.source is None else frozenset({matching.source}),
    )
    return _both([own, *map(_needs, matching.filters)])


def possible(matching: Matching) -> Possible:
    """Whether an event may pass as far as its type and source tell, whatever else it says.

    What is False here passes nothing, so whoever asks once per type and source need not ask at each event.
    """
    test = _all([*_kinds(matching), *(_bounds(item)[0] for item in matching.filters)])
    return lambda type, source: test({"type": type, "source": source})


def check_filters(filters: object, pointer: str) -> list[Fault]:
    """Everything wrong with a `filters` array, each with its RFC 6901 pointer; never raises."""
    if not isinstance(filters, list):
        return [Fault(detail="must be an array of filters", pointer=pointer)]
    return [fault for at, item in enumerate(filters) for fault in _check(item, f"{pointer}/{at}", 1)]


# -- checking -----------------------------------------------------------------------------------------------


def _check(item: object, pointer: str, depth: int) -> list[Fault]:
    if not isinstance(item, dict):
        return [Fault(detail='must be an object such as {"exact": {"type": "…"}}', pointer=pointer)]
    if len(item) != 1:
        found = f"has {len(item)}: {', '.join(map(str, item))}" if item else "is empty"
        hint = 'write one object for each, or {"all": […]}' if item else f"one of {', '.join(DIALECTS)}"
        return [Fault(detail=f"must have exactly one dialect; it {found}", pointer=pointer, hint=hint)]
    [(dialect, body)] = item.items()
    at = pointer + pointer_to(dialect)
    if dialect not in DIALECTS:
        meant = nearest(dialect, DIALECTS)
        hint = f"did you mean {meant}?" if meant else f"one of {', '.join(DIALECTS)}"
        return [Fault(detail="is no filter dialect of this relay", pointer=at, hint=hint)]
    if dialect == "sql":
        return _check_sql(body, at)
    if dialect in _COMPARE:
        return _check_attributes(body, at)
    if depth >= MAX_DEPTH:
        return [Fault(detail=f"is nested deeper than {MAX_DEPTH} levels", pointer=at)]
    if dialect == "not":
        return _check(body, at, depth + 1)
    if not isinstance(body, list) or not body:
        return [Fault(detail="must be an array of at least one filter", pointer=at)]
    return [fault for index, part in enumerate(body) for fault in _check(part, f"{at}/{index}", depth + 1)]


def _check_sql(body: object, pointer: str) -> list[Fault]:
    if not isinstance(body, str):
        return [Fault(detail="must be a string, a CESQL expression", pointer=pointer)]
    try:
        unknown = compile_expression(body).unknown_function
    except CesqlSyntaxError as error:
        unknown = error
    return [] if unknown is None else [Fault(detail=f"is not a CESQL expression: {unknown}", pointer=pointer)]


def _check_attributes(body: object, pointer: str) -> list[Fault]:
    if not isinstance(body, dict) or not body:
        return [Fault(detail="must be an object of at least one attribute and its value", pointer=pointer)]
    faults = []
    for name, value in body.items():
        at = pointer + pointer_to(name)
        if _NAME.fullmatch(name) is None:
            hint = f"did you mean {name.lower()}?" if _NAME.fullmatch(name.lower()) else None
            detail = "is no attribute name: lower-case letters and digits"
            faults.append(Fault(detail=detail, pointer=at, hint=hint))
        elif name in OURS:
            faults.append(Fault(detail="is set at delivery; no accepted event has it", pointer=at))
        if not isinstance(value, str) or not value:
            hint = None if not isinstance(value, int) else f'write "{canonical(value)}"'
            faults.append(Fault(detail="must be a string that is not empty", pointer=at, hint=hint))
    return faults


# -- compiling ----------------------------------------------------------------------------------------------


def _predicate(item: Mapping[str, Any]) -> Predicate:
    [(dialect, body)] = item.items()
    if dialect == "sql":
        return compile_expression(body).holds
    if dialect == "all":
        return _all([_predicate(part) for part in body])
    if dialect == "any":
        return _any([_predicate(part) for part in body])
    if dialect == "not":
        return _not(_predicate(body))
    return _all([_comparison(_COMPARE[dialect], name, wanted) for name, wanted in body.items()])


def _comparison(compare: Callable[[str, str], bool], name: str, wanted: str) -> Predicate:
    def test(attributes: Attributes) -> bool:
        value = attributes.get(name)
        if type(value) is str:
            return compare(value, wanted)
        return value is not None and compare(canonical(value), wanted)

    return test


def _kinds(matching: Matching) -> Iterator[Predicate]:
    """The tests of a subscription's own `types` and `source`."""
    if matching.types:
        yield _one_of("type", frozenset(matching.types))
    if matching.source is not None:
        yield _one_of("source", frozenset({matching.source}))


def _one_of(name: str, wanted: frozenset[str]) -> Predicate:
    return lambda attributes: attributes.get(name) in wanted


def _all(tests: Sequence[Predicate]) -> Predicate:
    if len(tests) <= 1:
        return tests[0] if tests else anything

    def test(attributes: Attributes) -> bool:
        for part in tests:  # noqa: SIM110  twice as fast as all() of a generator
            if not part(attributes):
                return False
        return True

    return test


def _any(tests: Sequence[Predicate]) -> Predicate:
    if len(tests) == 1:
        return tests[0]

    def test(attributes: Attributes) -> bool:
        for part in tests:  # noqa: SIM110  twice as fast as any() of a generator
            if part(attributes):
                return True
        return False

    return test


def _not(inner: Predicate) -> Predicate:
    return lambda attributes: not inner(attributes)


# -- what type and source alone tell -------------------------------------------------------------------------


def _bounds(item: Mapping[str, Any]) -> tuple[Predicate, Predicate]:
    """Of an event known by type and source alone: whether it may pass a filter, and whether it must."""
    [(dialect, body)] = item.items()
    if dialect == "sql":
        return anything, _never
    if dialect == "not":
        may, must = _bounds(body)
        return _not(must), _not(may)
    if dialect in ("all", "any"):
        join = _all if dialect == "all" else _any
        mays, musts = zip(*map(_bounds, body), strict=True)
        return join(mays), join(musts)
    known = {name: wanted for name, wanted in body.items() if name in _KIND}
    may = _all([_comparison(_COMPARE[dialect], name, wanted) for name, wanted in known.items()])
    return may, may if len(known) == len(body) else _never


def _never(_: Attributes) -> bool:
    return False


# -- necessary conditions -----------------------------------------------------------------------------------


def _needs(item: Mapping[str, Any]) -> Needs:
    [(dialect, body)] = item.items()
    if dialect == "exact":
        return Needs(*(frozenset({body[name]}) if name in body else None for name in ("type", "source")))
    if dialect == "all":
        return _both([_needs(part) for part in body])
    if dialect == "any":
        return _either([_needs(part) for part in body])
    return _ANYTHING


def _both(parts: Sequence[Needs]) -> Needs:
    return Needs(*(_intersection(sets) for sets in zip(*parts, strict=True)))


def _either(parts: Sequence[Needs]) -> Needs:
    return Needs(*(_union(sets) for sets in zip(*parts, strict=True)))


def _intersection(sets: Sequence[frozenset[str] | None]) -> frozenset[str] | None:
    known = [names for names in sets if names is not None]
    return frozenset.intersection(*known) if known else None


def _union(sets: Sequence[frozenset[str] | None]) -> frozenset[str] | None:
    known = [names for names in sets if names is not None]
    return frozenset.union(*known) if len(known) == len(sets) else None
