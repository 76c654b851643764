# SPDX-License-Identifier: Apache-2.0
"""The shape of the code: no file and no function gets away (design, section 9)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "src" / "fairlead").rglob("*.py"))
MOST_LINES_OF_A_MODULE = 299
MOST_LINES_OF_A_FUNCTION = 49
VAGUE = {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT / "src"))


def _functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _length(function: Function) -> int:
    """Lines from `def` on, without the docstring and without functions defined inside."""
    length = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        length -= (first.end_lineno or first.lineno) - first.lineno + 1
    return length


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_stays_under_300_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES_OF_A_MODULE, "two nouns in one file: split it"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_function_stays_under_50_lines(path: Path) -> None:
    tree = ast.parse(path.read_text())
    long = {one.name: _length(one) for one in _functions(tree) if _length(one) > MOST_LINES_OF_A_FUNCTION}
    assert not long


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_has_its_licence_its_docstring_and_a_name_that_says_something(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    assert path.stem not in VAGUE
    package_mark = path.name == "__init__.py" and len(text.splitlines()) == 1
    assert package_mark or ast.get_docstring(ast.parse(text)), "say in one sentence what the module is"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_nothing_is_left_for_later(path: Path) -> None:
    text = path.read_text()
    for mark in ("TO" + "DO", "FIX" + "ME", "X" + "XX:"):
        assert mark not in text
