# SPDX-License-Identifier: Apache-2.0
"""The shape of the code: no file and no function gets away (design, section 9)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.unit.source_tree import MODULES, ROOT, parsed, statements

MOST_LINES_OF_A_MODULE = 299
MOST_LINES_OF_A_FUNCTION = 49
VAGUE = {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT / "src"))


def _functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in statements(tree) if isinstance(node, Function))


def _length(function: Function) -> int:
    """Lines from `def` on, without the docstring and without functions defined inside."""
    length = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        length -= (first.end_lineno or first.lineno) - first.lineno + 1
    return length


@cache
def _shape(path: Path) -> tuple[bool, dict[str, int]]:
    """Whether a module says what it is, and how long its functions are; parsed once for all tests."""
    tree = parsed(path)
    lengths = {f"{_name(path)}:{one.lineno} {one.name}": _length(one) for one in _functions(tree)}
    return bool(ast.get_docstring(tree)), lengths


def test_every_module_stays_under_300_lines() -> None:
    lengths = {_name(path): len(path.read_text().splitlines()) for path in MODULES}
    long = {name: length for name, length in lengths.items() if length > MOST_LINES_OF_A_MODULE}
    assert not long, "two nouns in one file: split it"


def test_every_function_stays_under_50_lines() -> None:
    lengths = {name: length for path in MODULES for name, length in _shape(path)[1].items()}
    assert not {name: length for name, length in lengths.items() if length > MOST_LINES_OF_A_FUNCTION}


def test_every_module_has_its_licence_its_docstring_and_a_name_that_says_something() -> None:
    for path in MODULES:
        text = path.read_text()
        assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n"), path
        assert path.stem not in VAGUE, path
        package_mark = path.name == "__init__.py" and len(text.splitlines()) == 1
        assert package_mark or _shape(path)[0], f"{path}: say in a sentence what it is"


def test_nothing_is_left_for_later() -> None:
    marks = ("TO" + "DO", "FIX" + "ME", "X" + "XX:")
    left = [_name(path) for path in MODULES if any(mark in path.read_text() for mark in marks)]
    assert not left
