# SPDX-License-Identifier: Apache-2.0
"""The reference model of the protocol: it finds nothing in the rules, and does find what a rule is there for.

`protocol_model.py` is kept as it was reviewed, one file of the standard library; `mutants` borrows its names.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest

model: Any = importlib.import_module("tests.simulation.protocol_model")


@pytest.mark.parametrize(
    "config", ["all", "all-batch", "ext", "rest", "filters", "replays", "pos", "plain-next"]
)
def test_the_rules_hold(config: str) -> None:
    assert model.run(config, seeds=40)["bad"] == {}


@pytest.mark.parametrize(
    ("config", "rule", "seed"),
    [
        ("rest", "dup_floor", 3),
        ("all", "floor_holds", 1),
        ("all-skip", "skip_first", 3),
        ("ext", "key_lock", 7),
    ],
)
def test_without_a_rule_they_do_not(config: str, rule: str, seed: int) -> None:
    assert model.run(config, seeds=1, start=seed, off=(rule,))["bad"]
