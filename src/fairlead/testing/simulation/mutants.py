# SPDX-License-Identifier: Apache-2.0
"""The rules of the protocol's model, each taken out, and its deliberate errors, each put in: same names.

Each must be caught. `found_by` is a seed that does; `search` looks for one afresh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from fairlead.testing.simulation import mutants_channel as channel
from fairlead.testing.simulation import mutants_lanes as lanes
from fairlead.testing.simulation.configurations import CONFIGURATIONS
from fairlead.testing.simulation.patching import Patch
from fairlead.testing.simulation.scenarios import SCENARIOS
from fairlead.testing.simulation.world import Switches, World


@dataclass(frozen=True, slots=True)
class Mutant:
    """One way to be wrong.

    Attributes:
        rule: it is a rule taken out, not an error put in.
        configuration: the world in which it shows.
        found_by: a seed of that world; None: hardly any does, but the scenario of that name.
        apply: changes the code; or `switches` changes the world.
    """

    name: str
    rule: bool
    configuration: str
    found_by: int | None
    apply: Callable[[], Patch] = tuple
    switches: Switches | None = None

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """While the code is wrong."""
        with ExitStack() as stack:
            for change in self.apply():
                stack.enter_context(change)
            yield

    def play(self, seed: int | None) -> str | None:
        """What one seed finds, or the scenario (None); None if it finds nothing."""
        with self.in_force():
            if seed is None:
                return SCENARIOS[self.name]().play().violation
            return World(seed, CONFIGURATIONS[self.configuration], switches=self.switches).play().violation

    def search(self, first: int, seeds: int) -> tuple[int, str] | None:
        """The first seed that finds it, and what it finds."""
        for seed in range(first, first + seeds):
            if (found := self.play(seed)) is not None:
                return seed, found
        return None


_MUTANTS = (
    Mutant("dup_floor", True, "rest", 13, channel.dup_floor),
    Mutant("floor_holds", True, "rest", 0, lanes.floor_holds),
    Mutant("gen_reset", True, "replays", 0, channel.gen_reset),
    Mutant("gen_ack", True, "replays", 0, channel.gen_ack),
    Mutant("skip_first", True, "rest-skip", 0, lanes.skip_first),
    Mutant("replay_hold", True, "replays", 2, channel.replay_hold),
    Mutant("fence_chan", True, "far", 1, channel.fence_chan),
    Mutant("page_scan", True, "rest", 22, lanes.page_scan),
    Mutant("scan_keep", True, "rest", None, lanes.scan_keep),
    Mutant("one_flight", True, "rest", 0, lanes.one_flight),
    Mutant("filter_pos", True, "filters", 3, channel.filter_pos),
    Mutant("filter_ack", True, "zombie-filters", None, channel.filter_ack),
    Mutant("key_lock", True, "ext-repeats", 23, switches=Switches(key_locked=False)),
    Mutant("probe_turn", True, "breaker", None, lanes.probe_turn),
    Mutant("skip_named", True, "rest-skip", None, channel.skip_named),
    Mutant("undo_skip", True, "undo", 1, switches=Switches(undo_alone=True)),
    Mutant("noprev", False, "split", 2, channel.noprev),
    Mutant("noapplied", False, "rest", 1, channel.noapplied),
    Mutant("cursor_first", False, "rest", 0, lanes.cursor_first),
    Mutant("hold_later", False, "rest", 0, lanes.hold_later),
    Mutant("nogen", False, "replays", 0, channel.nogen),
    Mutant("zombie_flush", False, "zombie", 17, channel.zombie_flush),
    Mutant("floor_scan", False, "rest", 0, lanes.floor_scan),
    Mutant("two_flight", False, "plain-next", 0, lanes.two_flight),
    Mutant("batch_all", False, "batch", 2, channel.batch_all),
    Mutant("unhold_early", False, "rest", 1, lanes.unhold_early),
    Mutant("fail_settles", False, "rest", 0, lanes.fail_settles),
    Mutant("park_forgets", False, "rest", 0, lanes.park_forgets),
    Mutant("gen_reused", False, "replays", 0, channel.gen_reused),
)
MUTANTS = {mutant.name: mutant for mutant in _MUTANTS}
