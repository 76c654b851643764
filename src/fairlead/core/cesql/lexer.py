# SPDX-License-Identifier: Apache-2.0
"""The words of a CESQL expression (CESQL 1.0, 2.2 to 2.4)."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from fairlead.core.cesql.faults import CesqlSyntaxError

TokenKind = Literal["name", "keyword", "integer", "string", "symbol", "end"]

KEYWORDS = frozenset({"AND", "OR", "XOR", "NOT", "LIKE", "EXISTS", "IN", "TRUE", "FALSE"})

_TOKEN = re.compile(
    r"""[ \t\r\n]*(?:
        (?P<string>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")
      | (?P<word>[A-Za-z0-9_]+)
      | (?P<symbol><>|!=|<=|>=|[-=<>+*/%(),])
      | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """One word; `text` is upper case for keywords, unescaped for strings; `column` counts from 1."""

    kind: TokenKind
    text: str
    column: int

    @property
    def shown(self) -> str:
        """The token as an error message names it."""
        return "the end of the expression" if self.kind == "end" else repr(self.text)


def tokens_of(expression: str) -> list[Token]:
    """The tokens of an expression, `end` last.

    Raises:
        CesqlSyntaxError: a character that begins no token, or a string that is not closed.
    """
    tokens: list[Token] = []
    at = 0
    while not tokens or tokens[-1].kind != "end":
        match = _TOKEN.match(expression, at)
        if match is None:
            raise _stray(expression, at)
        tokens.append(_token(match))
        at = match.end()
    return tokens


def _token(match: re.Match[str]) -> Token:
    kind = match.lastgroup or "end"
    text, column = match[kind], match.start(kind) + 1
    if kind == "string":
        # Only the quote that delimits the string can be escaped in it; any other backslash stands for itself
        # and is left to the patterns of LIKE.
        return Token("string", text[1:-1].replace("\\" + text[0], text[0]), column)
    if kind == "word":
        if text.isdigit():
            return Token("integer", text, column)
        upper = text.upper()
        return Token("keyword", upper, column) if upper in KEYWORDS else Token("name", text, column)
    return Token("symbol" if kind == "symbol" else "end", text, column)


def _stray(expression: str, at: int) -> CesqlSyntaxError:
    at += len(expression[at:]) - len(expression[at:].lstrip(" \t\r\n"))
    character = expression[at]
    if character in "'\"":
        return CesqlSyntaxError(f"the string that begins with {character} is not closed", at + 1)
    return CesqlSyntaxError(f"{character!r} means nothing here; strings stand in quotes", at + 1)
