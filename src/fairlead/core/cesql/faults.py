# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a CESQL expression (CESQL 1.0, 3.3): when it is read, and when it is evaluated."""

from __future__ import annotations

from typing import Literal

Value = str | int | bool
ErrorKind = Literal["math", "cast", "missingAttribute", "missingFunction", "functionEvaluation"]


class CesqlSyntaxError(ValueError):
    """An expression that is not CESQL; `column` counts characters from 1, the message says what is wrong."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(f"column {column}: {message}")
        self.message = message
        self.column = column


class EvaluationError(Exception):
    """One error of an evaluation.

    Attributes:
        kind: the name that the CESQL kit gives it.
        column: where the operator, function or attribute stands that it arose in; from 1.
        value: what that operator or function returns along with the error.
    """

    def __init__(self, kind: ErrorKind, message: str, column: int, value: Value) -> None:
        super().__init__(message)
        self.kind = kind
        self.column = column
        self.value = value

    def __str__(self) -> str:
        # Made only when somebody looks: filters meet missing attributes all the time and drop the error.
        return f"column {self.column}: {self.args[0]}"


class OperationError(Exception):
    """What a function or an operator cannot do with its operands, and the value it returns all the same."""

    def __init__(self, kind: ErrorKind, message: str, value: Value) -> None:
        super().__init__(message)
        self.kind = kind
        self.value = value
