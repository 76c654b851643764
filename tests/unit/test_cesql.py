# SPDX-License-Identifier: Apache-2.0
"""CESQL 1.0: the CloudEvents project's kit, and what it leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.cesql import CesqlSyntaxError, compile_expression
from fairlead.core.cesql.parser import MAX_CHARACTERS, MAX_DEPTH

KIT = Path(__file__).parents[1] / "vectors" / "cesql"
EVENT = {"specversion": "1.0", "id": "a-1", "source": "/heat", "type": "org.example.state"}


class _Loader(yaml.SafeLoader):
    """YAML as the kit means it: times are strings."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _kit() -> list[Any]:
    return [
        pytest.param(case, id=f"{path.stem}: {case['name']}")
        for path in sorted(KIT.glob("*.yaml"))
        for case in yaml.load(path.read_text(), _Loader)["tests"]  # noqa: S506  a SafeLoader
    ]


@pytest.mark.parametrize("case", _kit())
def test_kit(case: dict[str, Any]) -> None:
    expression = str(case["expression"])
    if case.get("error") == "parse":
        with pytest.raises(CesqlSyntaxError):
            compile_expression(expression)
        return
    event = case.get("event") or {**EVENT, **case.get("eventOverrides", {})}
    value, error = compile_expression(expression).evaluate(event)
    assert (error and error.kind) == case.get("error")
    assert value == case["result"]
    assert type(value) is type(case["result"])


def test_the_kit_is_all_there() -> None:
    assert len(_kit()) > 180
