# SPDX-License-Identifier: Apache-2.0
"""CESQL 1.0 text to tree: a Pratt parser (CESQL 1.0, section 2).

Operators bind in the order of the specification's tables and its reference grammar, tightest first: unary
`NOT -`; `LIKE`, `IN`; `* / %`; `+ -`; comparisons; `AND`; `OR`; `XOR`. So `NOT a = b` is `(NOT a) = b`. Equal
ones group from the left.
"""

from __future__ import annotations

from fairlead.core.cesql.faults import CesqlSyntaxError
from fairlead.core.cesql.lexer import Token, tokens_of
from fairlead.core.cesql.tree import Attribute, Binary, Call, Chain, Exists, In, Like, Literal, Node, Unary

MAX_CHARACTERS = 16_384
MAX_DEPTH = 64
"""Levels of nesting, chains of operators included: keeps evaluation far from the stack's end."""

_UNARY = 80
_STRENGTH = {
    "LIKE": 70, "IN": 70, "NOT": 70,
    "*": 60, "/": 60, "%": 60,
    "+": 50, "-": 50,
    "=": 40, "!=": 40, "<>": 40, "<": 40, "<=": 40, ">": 40, ">=": 40,
    "AND": 30, "OR": 20, "XOR": 10,
}  # fmt: skip
_INTEGER_LIMIT = 2**31


def parse(expression: str) -> Node:
    """The tree of an expression.

    Raises:
        CesqlSyntaxError: not CESQL, longer than `MAX_CHARACTERS`, or nested deeper than `MAX_DEPTH`.
    """
    if len(expression) > MAX_CHARACTERS:
        raise CesqlSyntaxError(f"an expression has at most {MAX_CHARACTERS} characters", MAX_CHARACTERS + 1)
    return _Parser(tokens_of(expression)).parse()


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def parse(self) -> Node:
        tree, _ = self._expression(0, 0)
        if self._next.kind != "end":
            raise self._expected("an operator or the end of the expression")
        return tree

    # -- tokens ----------------------------------------------------------------------------------------

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _sees(self, kind: str, *texts: str) -> bool:
        return self._next.kind == kind and self._next.text in texts

    def _need(self, symbol: str) -> None:
        if not self._sees("symbol", symbol):
            raise self._expected(repr(symbol))
        self._at += 1

    def _expected(self, what: str) -> CesqlSyntaxError:
        return CesqlSyntaxError(f"expected {what}, found {self._next.shown}", self._next.column)

    # -- expressions; each returns the node and the levels below it -----------------------------------------

    def _expression(self, strength: int, level: int) -> tuple[Node, int]:
        self._bound(level, self._next)
        left, depth = self._operand(level)
        while True:
            token = self._next
            binds = _STRENGTH.get(token.text, -1) if token.kind in ("symbol", "keyword") else -1
            if binds <= strength:
                return left, depth
            self._take()
            left, depth = self._operation(left, depth, token, binds, level)
            self._bound(level + depth, token)

    def _bound(self, levels: int, token: Token) -> None:
        if levels > MAX_DEPTH:
            raise CesqlSyntaxError(f"nested deeper than {MAX_DEPTH} levels", token.column)

    def _operation(self, left: Node, depth: int, token: Token, binds: int, level: int) -> tuple[Node, int]:
        operator = "!=" if token.text == "<>" else token.text
        negated = operator == "NOT"
        if negated:
            if not self._sees("keyword", "LIKE", "IN"):
                raise self._expected("LIKE or IN after NOT")
            operator = self._take().text
        if operator == "LIKE":
            return Like(left, self._pattern(), negated, token.column), depth + 1
        if operator == "IN":
            members, deepest = self._list(level)
            if not members:
                raise CesqlSyntaxError("a set needs at least one member", token.column)
            return In(left, members, negated, token.column), max(depth, deepest) + 1
        right, right_depth = self._expression(binds, level + 1)
        if operator in ("AND", "OR"):
            if isinstance(left, Chain) and left.operator == operator:
                return Chain(operator, (*left.operands, right), left.column), max(depth, right_depth + 1)
            return Chain(operator, (left, right), token.column), max(depth, right_depth) + 1
        return Binary(operator, left, right, token.column), max(depth, right_depth) + 1

    def _pattern(self) -> str:
        if self._next.kind != "string":
            raise self._expected("a string literal as the pattern of LIKE")
        return self._take().text

    def _operand(self, level: int) -> tuple[Node, int]:
        token = self._take()
        if token.kind == "string":
            return Literal(token.text, token.column), 0
        if token.kind == "integer":
            return self._integer(token, 1, token), 0
        if token.kind == "name":
            return self._call(token, level) if self._sees("symbol", "(") else (self._attribute(token), 0)
        if token.kind == "keyword" and token.text in ("TRUE", "FALSE"):
            return Literal(token.text == "TRUE", token.column), 0
        if token.kind == "keyword" and token.text == "EXISTS":
            return Exists(self._attribute(self._take()).name, token.column), 0
        if token.kind == "keyword" and token.text == "NOT":
            operand, depth = self._expression(_UNARY, level + 1)
            return Unary("NOT", operand, token.column), depth + 1
        if token.kind == "symbol" and token.text == "(":
            inner = self._expression(0, level + 1)
            self._need(")")
            return inner
        if token.kind == "symbol" and token.text in "+-":
            return self._signed(token, level)
        self._at -= 1
        raise self._expected("an attribute, a literal, a function, NOT, EXISTS or '('")

    def _signed(self, sign: Token, level: int) -> tuple[Node, int]:
        # The sign belongs to the literal, or -2147483648 could not be written.
        if self._next.kind == "integer":
            return self._integer(self._take(), -1 if sign.text == "-" else 1, sign), 0
        if sign.text == "+":
            raise self._expected("digits after '+'")
        operand, depth = self._expression(_UNARY, level + 1)
        return Unary("-", operand, sign.column), depth + 1

    def _integer(self, token: Token, sign: int, first: Token) -> Literal:
        # Eleven digits are out of range whatever they are; int() of thousands would be slow.
        digits = token.text.lstrip("0") or "0"
        value = sign * int(digits) if len(digits) <= 10 else _INTEGER_LIMIT
        if not -_INTEGER_LIMIT <= value < _INTEGER_LIMIT:
            raise CesqlSyntaxError("integers have 32 bits: -2147483648 to 2147483647", first.column)
        return Literal(value, first.column)

    def _attribute(self, token: Token) -> Attribute:
        if token.kind not in ("name", "integer") or "_" in token.text:
            self._at -= 1
            raise self._expected("the name of an attribute (letters and digits)")
        return Attribute(token.text.lower(), token.column)

    def _call(self, name: Token, level: int) -> tuple[Node, int]:
        if any(character.isdigit() for character in name.text) or name.text.startswith("_"):
            raise CesqlSyntaxError(f"{name.text!r} cannot name a function", name.column)
        arguments, deepest = self._list(level)
        return Call(name.text.upper(), arguments, name.column), deepest + 1

    def _list(self, level: int) -> tuple[tuple[Node, ...], int]:
        self._need("(")
        items: list[Node] = []
        deepest = 0
        while not self._sees("symbol", ")"):
            if items:
                self._need(",")
            item, depth = self._expression(0, level + 1)
            items.append(item)
            deepest = max(deepest, depth)
        self._need(")")
        return tuple(items), deepest
