# SPDX-License-Identifier: Apache-2.0
"""The page that names a test for every rule names tests that there are, and every rule has one."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "reference" / "conformance.md").read_text()
NAMED = re.compile(r"`((?:unit|contract|acceptance|simulation|fuzz)/\w+\.py)(?:::(test_\w+))?`")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| rule |")]
MUSTS = (
    "unit/test_cloudevents_musts.py",
    "unit/test_standard_webhooks_musts.py",
    "contract/test_cloudevents_wire.py",
    "contract/test_standard_webhooks_wire.py",
)


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED.findall(PAGE))))
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    text = (ROOT / "tests" / file).read_text()
    assert re.search(rf"^(?:async )?def {name}\(" if name else "^def test_", text, re.MULTILINE)


@pytest.mark.parametrize("row", ROWS)
def test_every_rule_has_a_test(row: str) -> None:
    rule, tests = row.strip("| ").split(" | ", 1)
    assert rule
    assert NAMED.search(tests)


@pytest.mark.parametrize("file", MUSTS)
def test_every_test_of_a_rule_is_named(file: str) -> None:
    written = re.findall(r"^def (test_\w+)\(", (ROOT / "tests" / file).read_text(), re.MULTILINE)
    assert [name for name in written if f"`{file}::{name}`" not in PAGE] == []
