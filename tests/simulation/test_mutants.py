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
from fairlead.testing.simulation.mutants import HARMLESS, MUTANTS, Mutant
from fairlead.testing.simulation.stories import SCENARIOS
from fairlead.testing.simulation.world import World

SEEDS = 1000
SEEDS_OF_THE_HARMLESS = 20
BUS = "bus/"
ON_REST_ONLY = {"one_flight", "probe_turn", "two_flight"}


def finds(mutant: Mutant) -> str | None:
    """What the simulator says of a mutant."""
    found = mutant.play(mutant.found_by)
    if found is None and isinstance(mutant.found_by, int):
        other = mutant.search(0, SEEDS)
        found = None if other is None else other[1]
    return found


@pytest.mark.parametrize("name", MUTANTS)
def test_the_mutant_is_caught(name: str) -> None:
    assert finds(MUTANTS[name]), f"{SEEDS} seeds of {MUTANTS[name].configuration!r} found nothing"


@pytest.mark.parametrize("name", MUTANTS)
def test_what_catches_the_mutant_finds_nothing_in_the_code_as_it_is(name: str) -> None:
    mutant = MUTANTS[name]
    if isinstance(mutant.found_by, str):
        assert SCENARIOS[mutant.found_by]().play().violation is None
    else:
        assert World(mutant.found_by, CONFIGURATIONS[mutant.configuration]).play().violation is None


def test_every_rule_and_mutant_of_the_model_is_there_on_each_transport_it_is_about() -> None:
    model: Any = importlib.import_module("tests.simulation.protocol_model")
    for known, rules in ((set(model.RULES), True), (set(model.MUTANTS), False)):
        names = {one.name for one in MUTANTS.values() if one.rule is rules}
        assert known == {name.removeprefix(BUS) for name in names} & known
        assert {
            name.removeprefix(BUS) for name in names if name.startswith(BUS)
        } & known == known - ON_REST_ONLY


@pytest.mark.parametrize("configuration", ["all", "bus"])
@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_is_not_caught(name: str, configuration: str) -> None:
    mutant = Mutant(name, rule=False, configuration=configuration, found_by=0, apply=HARMLESS[name])
    assert mutant.search(0, SEEDS_OF_THE_HARMLESS) is None


@pytest.mark.soak
@pytest.mark.timeout(14_400)
@pytest.mark.parametrize("name", [one.name for one in MUTANTS.values() if isinstance(one.found_by, int)])
def test_fresh_seeds_catch_the_mutant(name: str) -> None:
    assert MUTANTS[name].search(random.SystemRandom().randrange(10**9), SEEDS) is not None
