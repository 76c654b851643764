# SPDX-License-Identifier: Apache-2.0
"""Each rule of the protocol's model is taken out, and each of its errors put in: the simulator must notice.

A mutant has a seed that is known to find it, or a story of its own where hardly any seed does. Where the code
has changed so much that the known seed finds it no longer, others are tried: some out of a thousand must.
"""

from __future__ import annotations

import importlib
import random
from typing import Any

import pytest

from fairlead.testing.simulation.configurations import CONFIGURATIONS
from fairlead.testing.simulation.mutants import MUTANTS, Mutant
from fairlead.testing.simulation.stories import SCENARIOS
from fairlead.testing.simulation.world import World

SEEDS = 1000
NEEDS_A_BUS = {"settle_set", "confirm", "cumack"}


def finds(mutant: Mutant) -> str | None:
    """What the simulator says of a mutant."""
    found = mutant.play(mutant.found_by)
    if found is None and mutant.found_by is not None:
        other = mutant.search(0, SEEDS)
        found = None if other is None else other[1]
    return found


@pytest.mark.parametrize("name", MUTANTS)
def test_the_mutant_is_caught(name: str) -> None:
    assert finds(MUTANTS[name]), f"{SEEDS} seeds of {MUTANTS[name].configuration!r} found nothing"


@pytest.mark.parametrize("name", MUTANTS)
def test_what_catches_the_mutant_finds_nothing_in_the_code_as_it_is(name: str) -> None:
    mutant = MUTANTS[name]
    if mutant.found_by is None:
        assert SCENARIOS[name]().play().violation is None
    else:
        assert World(mutant.found_by, CONFIGURATIONS[mutant.configuration]).play().violation is None


def test_every_rule_and_mutant_of_the_model_that_needs_no_bus_is_there() -> None:
    model: Any = importlib.import_module("tests.simulation.protocol_model")
    assert {one.name for one in MUTANTS.values() if one.rule} == set(model.RULES) - NEEDS_A_BUS
    assert {one.name for one in MUTANTS.values() if not one.rule} == set(model.MUTANTS) - NEEDS_A_BUS


@pytest.mark.soak
@pytest.mark.timeout(14_400)
@pytest.mark.parametrize("name", [one.name for one in MUTANTS.values() if one.found_by is not None])
def test_fresh_seeds_catch_the_mutant(name: str) -> None:
    assert MUTANTS[name].search(random.SystemRandom().randrange(10**9), SEEDS) is not None
