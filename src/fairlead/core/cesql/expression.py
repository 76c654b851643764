# SPDX-License-Identifier: Apache-2.0
"""One compiled CESQL expression: what callers hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fairlead.core.cesql.compiler import evaluator_of, zero_of
from fairlead.core.cesql.faults import CesqlSyntaxError, EvaluationError, Value
from fairlead.core.cesql.functions import FUNCTIONS, find
from fairlead.core.cesql.parser import parse
from fairlead.core.cesql.tree import Binary, Call, Chain, In, Like, Node, Unary
from fairlead.core.durations import nearest


class Result(NamedTuple):
    """What an evaluation returned: always a value, and the error that ended it, if any."""

    value: Value
    error: EvaluationError | None


class Expression:
    """A CESQL 1.0 expression, ready to be evaluated many times; immutable, safe between threads.

    `unknown_function` says which function it calls that there is not, and where: None for none. Such an
    expression evaluates, to an error; whoever keeps one should refuse it.
    """

    __slots__ = ("_evaluate", "_root", "text", "unknown_function")

    def __init__(self, text: str, root: Node) -> None:
        self.text = text
        self.unknown_function = _unknown_function(root)
        self._root = root
        self._evaluate = evaluator_of(root)

    def evaluate(self, attributes: Mapping[str, Value]) -> Result:
        """The value for an event's context attributes, and the error if one arose; never raises."""
        try:
            return Result(self._evaluate(attributes), None)
        except EvaluationError as error:
            own = error.column == self._root.column  # no two nodes of a tree stand in one column
            return Result(error.value if own else zero_of(self._root), error)

    def holds(self, attributes: Mapping[str, Value]) -> bool:
        """Whether the value is the boolean TRUE and no error arose (CESQL 1.0, 1.2); never raises."""
        # "If the output value is not a Boolean or any errors are returned, the event MUST NOT pass": a value
        # beside an error is a placeholder, not an answer, and a string 'true' is no Boolean.
        try:
            return self._evaluate(attributes) is True
        except EvaluationError:
            return False


def compile_expression(text: str) -> Expression:
    """Read and compile an expression.

    Raises:
        CesqlSyntaxError: with the column and what was expected there.
    """
    return Expression(text, parse(text))


def _unknown_function(node: Node) -> CesqlSyntaxError | None:
    match node:
        case Call(name, arguments, column) if find(name, len(arguments)) is None:
            return CesqlSyntaxError(_no_such_function(name, len(arguments)), column)
        case Call(_, children, _) | Chain(_, children, _):
            pass
        case In(operand, members, _, _):
            children = (operand, *members)
        case Unary(_, operand, _) | Like(operand, _, _, _):
            children = (operand,)
        case Binary(_, left, right, _):
            children = (left, right)
        case _:
            return None
    return next((found for child in children if (found := _unknown_function(child)) is not None), None)


def _no_such_function(name: str, arguments: int) -> str:
    if name in FUNCTIONS:
        return f"{name} does not take {arguments} argument{'' if arguments == 1 else 's'}"
    meant = nearest(name, FUNCTIONS)
    hint = f"did you mean {meant}?" if meant else f"there are {', '.join(FUNCTIONS)}"
    return f"there is no function {name}; {hint}"
