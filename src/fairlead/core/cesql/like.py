# SPDX-License-Identifier: Apache-2.0
"""The patterns of `LIKE` (CESQL 1.0, 3.4.3): `%` any characters, `_` one, `\\%` and `\\_` themselves."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

_PIECE = re.compile(r"\\[%_]|%|_|[^\\%_]+|\\", re.DOTALL)


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """A test of whether a whole string matches `pattern`.

    The pieces between the `%` are searched one after the other, each leftmost: that finds a match if there
    is one, and takes time proportional to text times pattern, where one regular expression with many `.*`
    could take for ever.
    """
    pieces = _pieces(pattern)
    if len(pieces) == 1:
        whole = re.compile(pieces[0], re.DOTALL)
        return lambda text: whole.fullmatch(text) is not None
    first, *middle, last = (re.compile(piece, re.DOTALL) for piece in pieces)
    tail = re.compile(f"(?:{last.pattern})\\Z", re.DOTALL)
    return partial(_matches, first, [piece for piece in middle if piece.pattern], tail, _width(pattern))


def _pieces(pattern: str) -> list[str]:
    """The pattern cut at its `%`, each piece as a regular expression of fixed width."""
    pieces = [""]
    for match in _PIECE.finditer(pattern):
        part = match[0]
        if part == "%":
            pieces.append("")
        elif part == "_":
            pieces[-1] += "."
        else:
            pieces[-1] += re.escape(part[1:] if part in ("\\%", "\\_") else part)
    return pieces


def _width(pattern: str) -> int:
    """How many characters the piece behind the last `%` matches."""
    width = 0
    for match in _PIECE.finditer(pattern):
        part = match[0]
        width = 0 if part == "%" else width + (1 if part in ("\\%", "\\_") else len(part))
    return width


def _matches(
    first: re.Pattern[str], middle: list[re.Pattern[str]], tail: re.Pattern[str], tail_width: int, text: str
) -> bool:
    match = first.match(text)
    for piece in middle:
        if match is None:
            return False
        match = piece.search(text, match.end())
    if match is None:
        return False
    start = len(text) - tail_width
    return start >= match.end() and tail.match(text, start) is not None
