# SPDX-License-Identifier: Apache-2.0
"""What a setting's value may be: how it is written, checked, documented and shown.

A `Kind` turns a TOML value into the Python value that the relay uses, or says in one clause what was
expected. Values from the environment and from flags are text; `read_text` turns that text into what TOML
would have given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from fairlead.core.durations import format_duration, format_size, parse_duration, parse_size

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One type of setting.

    Attributes:
        name: the type, for the reference (`duration`, `size`, `integer` …).
        unit: the unit in words, or "" where there is none.
        parse: the TOML value as the relay uses it; ValueError says what was expected.
        show: the relay's value as TOML would write it (a str, int, float, bool, list, dict; None for none).
        read_text: what TOML would have given for a text from the environment; ValueError as above.
    """

    name: str
    unit: str
    parse: Callable[[object], T]
    show: Callable[[T], object]
    read_text: Callable[[str], object] = str


def _wanted(expected: str) -> ValueError:
    return ValueError(f"must be {expected}")


def _parse_text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise _wanted("a text that is not empty")
    return value


def _parse_duration(value: object) -> float:
    return parse_duration(value if isinstance(value, str) else "")


def _parse_size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return parse_size(value if isinstance(value, str) else "-")


def _parse_strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise _wanted('a list of texts such as ["10.0.0.0/8", "console.example"]')
    return tuple(value)


def _read_number(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _read_strings(text: str) -> object:
    if text.lstrip().startswith("["):
        return _read_number(text)
    return [part.strip() for part in text.split(",") if part.strip()]


def _same(value: T) -> T:
    return value


def _parse_boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise _wanted("true or false")
    return value


boolean: Kind[bool] = Kind("boolean", "", _parse_boolean, _same, _read_number)
text: Kind[str] = Kind("text", "", _parse_text, _same)
duration: Kind[float] = Kind("duration", "`ms` `s` `m` `h` `d`", _parse_duration, format_duration)
size: Kind[int] = Kind("size", "bytes, `KiB` `MiB` `GiB`", _parse_size, format_size)
strings: Kind[tuple[str, ...]] = Kind("list of texts", "", _parse_strings, list, _read_strings)


def integer(unit: str, *, least: int, most: int) -> Kind[int]:
    """Whole numbers from `least` to `most`."""

    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise _wanted(f"a whole number from {least} to {most}")
        return value

    return Kind("integer", unit, parse, _same, _read_number)


def number(unit: str, *, least: float) -> Kind[float]:
    """Numbers from `least` up, whole or not."""

    def parse(value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value < float("inf"):
            raise _wanted(f"a number, {least:g} or more")
        return value

    return Kind("number", unit, parse, _same, _read_number)


def at_least(kind: Kind[T], least: object) -> Kind[T]:
    """The same, not below `least` (as TOML writes it)."""
    bound: Any = kind.parse(least)

    def parse(value: object) -> T:
        parsed: Any = kind.parse(value)
        if parsed < bound:
            raise ValueError(f"must be at least {least}")
        return kind.parse(value)

    return replace(kind, parse=parse)


def matching(name: str, pattern: str, expected: str) -> Kind[str]:
    """Texts that match a pattern whole."""
    compiled = re.compile(pattern)

    def parse(value: object) -> str:
        if not isinstance(value, str) or compiled.fullmatch(value) is None:
            raise _wanted(expected)
        return value

    return Kind(name, "", parse, _same)


def choice(*options: str) -> Kind[str]:
    """One of a few words."""

    def parse(value: object) -> str:
        if not isinstance(value, str) or value not in options:
            raise _wanted(" or ".join(f'"{option}"' for option in options))
        return value

    return Kind(" or ".join(f"`{option}`" for option in options), "", parse, _same)


def integers(unit: str, *, least: int, most: int) -> Kind[tuple[int, ...]]:
    """A list of whole numbers from `least` to `most`."""
    one = integer(unit, least=least, most=most)

    def parse(value: object) -> tuple[int, ...]:
        if not isinstance(value, list | tuple):
            raise _wanted(f"a list of whole numbers from {least} to {most}")
        return tuple(one.parse(item) for item in value)

    return Kind("list of integers", unit, parse, list, lambda given: _read_number(f"[{given.strip('[] ')}]"))


def optional(kind: Kind[T]) -> Kind[T | None]:
    """The same, or `"none"` for no value at all."""

    def parse(value: object) -> T | None:
        if value is None or value == "none":
            return None
        try:
            return kind.parse(value)
        except ValueError as error:
            raise ValueError(f'{error}, or "none"') from None

    def show(value: T | None) -> object:
        return None if value is None else kind.show(value)

    def read_text(given: str) -> object:
        return None if given == "none" else kind.read_text(given)

    return Kind(f"{kind.name} or `none`", kind.unit, parse, show, read_text)


def as_written(kind: Kind[T]) -> Kind[Any]:
    """Checked as `kind`, kept as it was written: as a subscription's `config` takes it."""

    def parse(value: object) -> object:
        return kind.show(kind.parse(value))

    return Kind(kind.name, kind.unit, parse, _same, kind.read_text)


def table(name: str, unit: str, example: str, keys: Mapping[str, Kind[Any]]) -> Kind[Any]:
    """A small table, kept as it was written; only the named keys, each of its kind."""

    def parse(value: object) -> dict[str, object]:
        if not isinstance(value, dict):
            raise _wanted(f"a table such as {example}")
        for key, item in value.items():
            if key not in keys:
                raise ValueError(f"{key} is unknown in it; it takes {_listed(list(keys))}")
            try:
                keys[key].parse(item)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
        return dict(value)

    return Kind(name, unit, parse, _same, _read_number)


def written(value: object) -> str:
    """A value as TOML writes it; none is the text that the settings take for it."""
    if value is None:
        return '"none"'
    if isinstance(value, Mapping):
        members = ", ".join(f"{_written_key(key)} = {written(item)}" for key, item in value.items())
        return f"{{ {members} }}" if members else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(written, value)) + "]"
    return json.dumps(value, ensure_ascii=False, default=str)


def _written_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
