# SPDX-License-Identifier: Apache-2.0
"""The public names: few, sorted, there, and loaded only when asked for."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import fairlead

SOURCE = Path(__file__).parents[2] / "src"
WITH_ALL = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if "__all__ = " in path.read_text()
)


def _constants_classes_rest(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_the_package_exports_what_the_interface_names() -> None:
    interface = {"Event", "EventRefused", "Inbox", "OutboxFull", "Publisher", "Receipt", "Receiver"}
    assert {*interface, "Reject", "Relay", "Transaction"} <= set(fairlead.__all__)
    assert len(fairlead.__all__) <= 14


@pytest.mark.filterwarnings("ignore")  # of what OpenStack's libraries import
@pytest.mark.parametrize("module", WITH_ALL)
def test_exported_names_are_sorted_and_exist(module: str) -> None:
    loaded = import_module(module)
    names = list(loaded.__all__)
    assert names == sorted(set(names), key=_constants_classes_rest)
    for name in names:
        assert getattr(loaded, name) is not None


def test_dir_lists_every_public_name() -> None:
    assert set(fairlead.__all__) <= set(dir(fairlead))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Publihser'"):
        _ = fairlead.Publihser  # type: ignore[attr-defined]


def test_importing_the_package_loads_nothing_of_it() -> None:
    code = "import sys, fairlead; print([n for n in sys.modules if n.startswith('fairlead.')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "['fairlead.version']"


def test_type_checkers_see_every_lazy_name_at_its_home() -> None:
    tree = ast.parse(Path(fairlead.__file__).read_text())
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("fairlead.")
        and node.module != "fairlead.version"
        for alias in node.names
    }
    assert seen == fairlead._HOMES
