# SPDX-License-Identifier: Apache-2.0
"""CESQL tree to closures (CESQL 1.0, section 3).

Evaluation is the specification's fail-fast mode: the first error ends it, and the expression returns the zero
value of its type along with that error. Operators stop early (`AND`, `OR`, `IN`) and evaluate from the left.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping

from fairlead.core.cesql.arithmetic import ARITHMETIC, negated
from fairlead.core.cesql.faults import EvaluationError, OperationError, Value
from fairlead.core.cesql.functions import Function, find
from fairlead.core.cesql.like import compile_pattern
from fairlead.core.cesql.tree import Attribute, Binary, Call, Chain, Exists, In, Like, Literal, Node, Unary
from fairlead.core.cesql.values import ZERO, CastError, Type, cast, integer_of, text_of, truth_of

Attributes = Mapping[str, Value]
Evaluate = Callable[[Attributes], Value]
_Test = Callable[[Attributes], bool]

_REQUIRED = frozenset({"id", "source", "specversion", "type"})
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def evaluator_of(node: Node) -> Evaluate:
    """The closure that evaluates `node` on an event's attributes; it raises EvaluationError, nothing else."""
    match node:
        case Literal(value, _):
            return lambda attributes: value
        case Attribute(name, column):
            return _attribute(name, column)
        case Exists(name, _):
            return (lambda attributes: True) if name in _REQUIRED else (lambda attributes: name in attributes)
        case Unary("NOT"):
            return _not(node)
        case Unary():
            return _minus(node)
        case Chain():
            return _chain(node)
        case Binary("=" | "!="):
            return _equal(node)
        case Binary("XOR"):
            left, right = _truth(node.left, node.column), _truth(node.right, node.column)
            return lambda attributes: left(attributes) is not right(attributes)
        case Binary(symbol) if symbol in _COMPARE:
            return _compare(node)
        case Binary():
            return _arithmetic(node)
        case Like():
            return _like(node)
        case In():
            return _in(node)
        case Call():
            return _call(node)


def zero_of(node: Node) -> Value:
    """What an expression returns along with an error that arose below it: the zero value of its type."""
    match node:
        case Unary("-") | Binary("+" | "-" | "*" | "/" | "%"):
            return 0
        case Call(name, arguments, _):
            function = find(name, len(arguments))
            return False if function is None else ZERO[function.returns]
        case _:
            return False


def _attribute(name: str, column: int) -> Evaluate:
    message = f"the event has no attribute {name!r}"

    def evaluate(attributes: Attributes) -> Value:
        value = attributes.get(name)
        if value is None:
            raise EvaluationError("missingAttribute", message, column, False)
        return value

    return evaluate


# -- operands, cast to what their operator takes ------------------------------------------------------------


def _truth(node: Node, column: int) -> _Test:
    inner = evaluator_of(node)

    def evaluate(attributes: Attributes) -> bool:
        value = inner(attributes)
        if value is True or value is False:
            return value
        try:
            return truth_of(value)
        except CastError as error:
            raise EvaluationError("cast", str(error), column, False) from None

    return evaluate


def _integer(node: Node, column: int, zero: Value) -> Callable[[Attributes], int]:
    inner = evaluator_of(node)

    def evaluate(attributes: Attributes) -> int:
        value = inner(attributes)
        try:
            return integer_of(value)
        except CastError as error:
            raise EvaluationError("cast", str(error), column, zero) from None

    return evaluate


def _cast(value: Value, target: Type, column: int) -> Value:
    try:
        return cast(value, target)
    except CastError as error:
        raise EvaluationError("cast", str(error), column, False) from None


# -- logic ---------------------------------------------------------------------------------------------------


def _not(node: Unary) -> Evaluate:
    inner, column = evaluator_of(node.operand), node.column

    def evaluate(attributes: Attributes) -> bool:
        value = inner(attributes)
        if value is True or value is False:
            return not value
        # The text of CESQL 1.0 casts integers to booleans, its kit ("Invalid int cast") refuses them here and
        # returns true; a filter passes nothing either way, so the kit decides.
        if isinstance(value, int):
            raise EvaluationError("cast", "NOT takes a Boolean, not an Integer", column, True)
        try:
            return not truth_of(value)
        except CastError as error:
            raise EvaluationError("cast", str(error), column, False) from None

    return evaluate


def _chain(node: Chain) -> Evaluate:
    tests = tuple(_truth(operand, node.column) for operand in node.operands)
    decisive = node.operator == "OR"

    def evaluate(attributes: Attributes) -> bool:
        for test in tests:
            if test(attributes) is decisive:
                return decisive
        return not decisive

    return evaluate


# -- comparison ----------------------------------------------------------------------------------------------


def _equal(node: Binary) -> Evaluate:
    left, right, column = evaluator_of(node.left), evaluator_of(node.right), node.column
    wanted = node.operator == "="

    def evaluate(attributes: Attributes) -> bool:
        one, other = left(attributes), right(attributes)
        if type(one) is not type(other):
            one = _cast(one, type(other), column)  # `=` is ambiguous: the right side decides (3.7)
        return (one == other) is wanted

    def evaluate_literal(attributes: Attributes) -> bool:
        one = left(attributes)
        if type(one) is not literal_type:
            one = _cast(one, literal_type, column)
        return (one == literal) is wanted

    if isinstance(node.right, Literal):
        literal = node.right.value
        literal_type: Type = type(literal)
        return evaluate_literal
    return evaluate


def _compare(node: Binary) -> Evaluate:
    left, right = _integer(node.left, node.column, False), _integer(node.right, node.column, False)
    compare = _COMPARE[node.operator]
    return lambda attributes: compare(left(attributes), right(attributes))


def _like(node: Like) -> Evaluate:
    inner, matches, wanted = evaluator_of(node.operand), compile_pattern(node.pattern), not node.negated
    return lambda attributes: matches(text_of(inner(attributes))) is wanted


def _in(node: In) -> Evaluate:
    inner, column, wanted = evaluator_of(node.operand), node.column, not node.negated
    members = tuple(map(evaluator_of, node.members))
    literals = [member.value for member in node.members if isinstance(member, Literal)]
    texts = frozenset(map(text_of, literals)) if len(literals) == len(members) else None

    def evaluate(attributes: Attributes) -> bool:
        value = inner(attributes)
        if texts is not None and isinstance(value, str):
            return (value in texts) is wanted
        target = type(value)
        for member in members:
            if _cast(member(attributes), target, column) == value:
                return wanted
        return not wanted

    return evaluate


# -- arithmetic ----------------------------------------------------------------------------------------------


def _minus(node: Unary) -> Evaluate:
    inner, column = _integer(node.operand, node.column, 0), node.column

    def evaluate(attributes: Attributes) -> int:
        number = inner(attributes)
        try:
            return negated(number)
        except OperationError as error:
            raise EvaluationError(error.kind, str(error), column, error.value) from None

    return evaluate


def _arithmetic(node: Binary) -> Evaluate:
    left, right = _integer(node.left, node.column, 0), _integer(node.right, node.column, 0)
    compute, column = ARITHMETIC[node.operator], node.column

    def evaluate(attributes: Attributes) -> int:
        one, other = left(attributes), right(attributes)
        try:
            return compute(one, other)
        except OperationError as error:
            raise EvaluationError(error.kind, str(error), column, error.value) from None

    return evaluate


# -- functions -----------------------------------------------------------------------------------------------


def _call(node: Call) -> Evaluate:
    function, column = find(node.name, len(node.arguments)), node.column
    arguments = tuple(map(evaluator_of, node.arguments))
    if function is None:
        return _missing_function(node)
    targets = _targets(function, len(arguments))
    call, zero = function.call, ZERO[function.returns]

    def evaluate(attributes: Attributes) -> Value:
        try:
            return call(
                *(
                    argument(attributes) if target is None else cast(argument(attributes), target)
                    for argument, target in zip(arguments, targets, strict=True)
                )
            )
        except OperationError as error:
            raise EvaluationError(error.kind, str(error), column, error.value) from None
        except CastError as error:
            raise EvaluationError("cast", str(error), column, zero) from None

    return evaluate


def _targets(function: Function, count: int) -> tuple[Type | None, ...]:
    return function.parameters + (function.rest,) * (count - len(function.parameters))


def _missing_function(node: Call) -> Evaluate:
    def evaluate(attributes: Attributes) -> Value:
        message = f"there is no function {node.name} of {len(node.arguments)} arguments"
        raise EvaluationError("missingFunction", message, node.column, False)

    return evaluate
