# SPDX-License-Identifier: Apache-2.0
"""The functions that every CESQL engine has (CESQL 1.0, 3.5), by name and arity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fairlead.core.cesql.faults import OperationError, Value
from fairlead.core.cesql.values import HIGHEST, LOWEST, Type, integer_of, text_of, truth_of

# Unicode's White_Space; `str.strip` alone would take the control characters U+001C to U+001F with it.
_SPACES = "".join(map(chr, range(0x2000, 0x200B)))
_WHITE_SPACE = f"\t\n\v\f\r \x85\xa0\u1680{_SPACES}\u2028\u2029\u202f\u205f\u3000"


@dataclass(frozen=True, slots=True)
class Function:
    """One function of fixed arity, or with any number of further arguments of type `rest`.

    `parameters` are cast before the call; None takes any type.
    """

    parameters: tuple[Type | None, ...]
    returns: Type
    call: Callable[..., Value]
    rest: Type | None = None

    def takes(self, arguments: int) -> bool:
        """Whether it can be called with so many arguments."""
        fixed = len(self.parameters)
        return arguments == fixed if self.rest is None else arguments >= fixed


def find(name: str, arguments: int) -> Function | None:
    """The function of that name (upper case) and arity, or None."""
    return next((function for function in FUNCTIONS.get(name, ()) if function.takes(arguments)), None)


def _concat(*parts: str) -> str:
    return "".join(parts)


def _concat_ws(delimiter: str, *parts: str) -> str:
    return delimiter.join(parts)


def _trim(text: str) -> str:
    return text.strip(_WHITE_SPACE)


def _left(text: str, count: int) -> str:
    if count < 0:
        raise OperationError("functionEvaluation", "LEFT needs a length of 0 or more", text)
    return text[:count]


def _right(text: str, count: int) -> str:
    if count < 0:
        raise OperationError("functionEvaluation", "RIGHT needs a length of 0 or more", text)
    return text[max(len(text) - count, 0) :]


def _substring(text: str, position: int, length: int = HIGHEST) -> str:
    if abs(position) > len(text):
        message = f"SUBSTRING begins at {position}, beyond the string's {len(text)} characters"
        raise OperationError("functionEvaluation", message, "")
    if length < 0:
        raise OperationError("functionEvaluation", "SUBSTRING needs a length of 0 or more", "")
    if position == 0:
        return ""
    start = position - 1 if position > 0 else len(text) + position
    return text[start : start + length]


def _abs(number: int) -> int:
    if number == LOWEST:
        raise OperationError("math", "the absolute value does not fit in 32 bits", HIGHEST)
    return abs(number)


FUNCTIONS: dict[str, tuple[Function, ...]] = {
    "ABS": (Function((int,), int, _abs),),
    "BOOL": (Function((None,), bool, truth_of),),
    "CONCAT": (Function((), str, _concat, rest=str),),
    "CONCAT_WS": (Function((str,), str, _concat_ws, rest=str),),
    "INT": (Function((None,), int, integer_of),),
    "LEFT": (Function((str, int), str, _left),),
    "LENGTH": (Function((str,), int, len),),
    "LOWER": (Function((str,), str, str.lower),),
    "RIGHT": (Function((str, int), str, _right),),
    "STRING": (Function((None,), str, text_of),),
    "SUBSTRING": (Function((str, int), str, _substring), Function((str, int, int), str, _substring)),
    "TRIM": (Function((str,), str, _trim),),
    "UPPER": (Function((str,), str, str.upper),),
}
