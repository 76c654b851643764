# SPDX-License-Identifier: Apache-2.0
"""The three types of CESQL and the casts between them (CESQL 1.0, 3.1 and 3.7)."""

from __future__ import annotations

import re

from fairlead.core.cesql.faults import Value

Type = type[str] | type[int] | type[bool]
ZERO: dict[Type, Value] = {str: "", int: 0, bool: False}
NAME: dict[Type, str] = {str: "String", int: "Integer", bool: "Boolean"}
LOWEST, HIGHEST = -(2**31), 2**31 - 1

_INTEGER = re.compile(r"[+-]?0*[0-9]{1,10}", re.ASCII)


class CastError(ValueError):
    """A value that its target type does not hold; the message names both."""


def cast(value: Value, target: Type) -> Value:
    """The value as `target`: `"true"`/`"false"` in any case, digits of 32 bits, 0 and 1.

    Raises:
        CastError: a string that is neither.
    """
    if type(value) is target:
        return value
    if target is str:
        return text_of(value)
    return integer_of(value) if target is int else truth_of(value)


def text_of(value: Value) -> str:
    """The canonical string of a value; never fails."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def integer_of(value: Value) -> int:
    """The integer that a value stands for. Raises CastError."""
    if not isinstance(value, str):
        return int(value)
    if _INTEGER.fullmatch(value) is not None and LOWEST <= (number := int(value)) <= HIGHEST:
        return number
    raise CastError(f"{_shown(value)} is not an Integer of 32 bits")


def truth_of(value: Value) -> bool:
    """The boolean that a value stands for. Raises CastError."""
    if not isinstance(value, str):
        return value != 0
    lower = value.lower()
    if lower in ("true", "false"):
        return lower == "true"
    raise CastError(f"{_shown(value)} is not a Boolean")


def _shown(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:39] + "…")
