# SPDX-License-Identifier: Apache-2.0
"""Arithmetic on integers of 32 bits (CESQL 1.0, 3.4).

Where a result does not fit, the operator returns the nearest integer there is, along with the error, as the
specification has ABS do.
"""

from __future__ import annotations

from collections.abc import Callable

from fairlead.core.cesql.faults import OperationError
from fairlead.core.cesql.values import HIGHEST, LOWEST


def negated(number: int) -> int:
    """The minus value. Raises OperationError where it does not fit."""
    return _bounded(-number)


def _quotient(dividend: int, divisor: int) -> int:
    if divisor == 0:
        raise OperationError("math", "division by zero", 0)
    quotient = abs(dividend) // abs(divisor)  # rounded towards zero, unlike Python's
    return _bounded(quotient if (dividend < 0) is (divisor < 0) else -quotient)


def _remainder(dividend: int, divisor: int) -> int:
    if divisor == 0:
        raise OperationError("math", "division by zero", 0)
    remainder = abs(dividend) % abs(divisor)
    return -remainder if dividend < 0 else remainder


def _bounded(number: int) -> int:
    if LOWEST <= number <= HIGHEST:
        return number
    raise OperationError("math", "the result does not fit in 32 bits", HIGHEST if number > 0 else LOWEST)


ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "+": lambda left, right: _bounded(left + right),
    "-": lambda left, right: _bounded(left - right),
    "*": lambda left, right: _bounded(left * right),
    "/": _quotient,
    "%": _remainder,
}
"""By operator; each raises OperationError."""
