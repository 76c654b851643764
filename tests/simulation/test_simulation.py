# SPDX-License-Identifier: Apache-2.0
"""Whole relays in virtual time, with everything going wrong: a thousand seeds, and none may be violated.

What must hold, by name, is in `fairlead.testing.simulation.checker`. A failing seed says how to hear its
story.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from fairlead.testing.simulation.configurations import CONFIGURATIONS
from fairlead.testing.simulation.stories import SCENARIOS
from fairlead.testing.simulation.world import World

SEEDS_OF_EACH = -(-1000 // len(CONFIGURATIONS))
SOAK_SEEDS_OF_EACH = 2000


def play(name: str, seeds: range) -> None:
    """Run seeds of one configuration; the first that is violated fails the test."""
    for seed in seeds:
        violation = World(seed, CONFIGURATIONS[name]).play().violation
        again = f"python -m fairlead.testing.simulation --config {name} --seed {seed} --trace"
        assert violation is None, f"{violation}\n\nits story: {again}"


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_no_seed_is_violated(name: str) -> None:
    play(name, range(SEEDS_OF_EACH))


@pytest.mark.soak
@pytest.mark.timeout(14_400)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_no_fresh_seed_is_violated(name: str) -> None:
    first = random.SystemRandom().randrange(10**9)
    play(name, range(first, first + SOAK_SEEDS_OF_EACH))


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_stories_that_a_rule_was_made_for_end_well(name: str) -> None:
    assert SCENARIOS[name]().play().violation is None


def story(name: str, seed: int) -> str:
    """What happened, line by line."""
    return "\n".join(World(seed, CONFIGURATIONS[name]).play().story)


def test_where_answers_may_go_together_some_do() -> None:
    """Else `all-joined` would show nothing."""
    told = "".join(story("all-joined", seed) for seed in range(3))
    assert "is told [{" in told


def test_the_same_seed_tells_the_same_story() -> None:
    for name in CONFIGURATIONS:
        assert story(name, 3) == story(name, 3)
    assert story("rest", 3) != story("rest", 4)


def test_a_seed_can_be_replayed_in_another_process() -> None:
    """Whatever that one's hashes are."""
    program = [
        sys.executable,
        "-m",
        "fairlead.testing.simulation",
        "--config",
        "zombie",
        "--trace",
        "--seed",
        "5",
    ]
    told = [
        subprocess.run(
            program, env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True, text=True, check=True
        ).stdout.rpartition("\n")[0].rpartition("\n")[0]
        for salt in ("1", "2")
    ]  # fmt: skip
    assert told[0] == told[1]
    assert "sends" in told[0]


WHAT_HAPPENS = (
    "is killed", "is asked to stop", "another node takes over", "cannot start", "again",
    "disk: busy", "disk: full", "disk: reserve", "disk: lost", "disk: unknown",
    "receiver: down", "receiver: gone", "network: bad", "poison: /sim k0",
    "throttled(429", "throttled(503", "rejected(422", "gone(410", "stale(409", "chain(425",
    "delivered(200", "unavailable(None", "the answer was lost", "fence generation",
    "replayed Replayed", "far away: replayed", "in force", "pending",
    "StoreFailed", "StoreBusy", "StoreFull", "WrongState",
    "publishes", "is told", "seq", '"result":"fence"', '"result":"chain"', '"result":"rejected"',
    "100000000000000000", "as a ghost", "an answer goes over REST", "dies", "its connection ends",
    "broker: down", "broker: blocks", "broker: deletes", "broker: purges", "broker: loses", "broker: repeats",
    "broker: refuses", "broker: returns", "broker: does not confirm", "broker: gives", "broker: bad",
    "broker: takes what", "is cut off from the broker", "broker: is gone for good",
    "network: is gone for good",
)  # fmt: skip


def test_everything_that_can_go_wrong_does_go_wrong() -> None:
    """A simulation that has become tame proves nothing."""
    missing = set(WHAT_HAPPENS)
    for seed in range(12):
        for name in CONFIGURATIONS:
            if missing:
                told = story(name, seed)
                missing = {what for what in missing if what not in told}
    assert not missing
