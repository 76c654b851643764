# SPDX-License-Identifier: Apache-2.0
"""The rule of imports (design, section 9): layers, drivers, and a core that cannot reach the world."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.unit.source_tree import MODULES, PACKAGE, ROOT, parsed, statements

CORE = [path for path in MODULES if path.parent.name == "core" or "core" in path.relative_to(PACKAGE).parts]
IMPURE = {
    "asyncio", "concurrent", "http.client", "http.server", "logging", "multiprocessing", "os", "pathlib",
    "random", "secrets", "select", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile",
    "threading", "time",
}  # fmt: skip
IO_LIBRARIES = {"httptools", "pyreqwest", "aiohttp", "sqlite3", "uvicorn", "uvloop"}
PURE_THIRD_PARTY = {"msgspec", "cryptography"}


@cache
def _imports(path: Path) -> frozenset[str]:
    """Every module that `path` imports when it runs; what only type checkers see does not count."""
    found = list(statements(parsed(path)))
    unseen = {
        inner
        for node in found
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in statements(node)
    }
    names: set[str] = set()
    for node in found:
        if node in unseen:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add(node.module or "")
    return frozenset(names)


def test_the_layers_hold_without_an_exception() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ignore_imports" not in (ROOT / "pyproject.toml").read_text()


def test_the_core_reaches_no_clock_no_randomness_and_no_world() -> None:
    for path in CORE:
        names = _imports(path)
        roots = {name.split(".")[0] for name in names}
        assert not (roots | names) & IMPURE, path
        assert roots <= {"fairlead", *PURE_THIRD_PARTY, *sys.stdlib_module_names}


def test_only_drivers_import_libraries_that_do_io() -> None:
    for path in MODULES:
        if path.relative_to(PACKAGE).parts[0] != "drivers":
            assert not {name.split(".")[0] for name in _imports(path)} & IO_LIBRARIES, path


@pytest.mark.parametrize("folder", ["engine", "sdk", "stores", "transports", "auth", "bridges"])
def test_the_middle_layers_import_no_framework(folder: str) -> None:
    known = {"fairlead", "msgspec", *sys.stdlib_module_names}
    known |= {"django"} if folder == "sdk" else set()  # the view that Django wants, loaded only by its users
    for path in (PACKAGE / folder).rglob("*.py"):
        assert {name.split(".")[0] for name in _imports(path)} <= known, path
