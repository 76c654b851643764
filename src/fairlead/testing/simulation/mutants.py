# SPDX-License-Identifier: Apache-2.0
"""The rules of the protocol's model, each taken out, and its deliberate errors, each put in: same names.

Each must be caught. `found_by` is a seed that does; `search` looks for one afresh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from fairlead.testing.simulation import mutants_bus as bus
from fairlead.testing.simulation import mutants_channel as channel
from fairlead.testing.simulation import mutants_lanes as lanes
from fairlead.testing.simulation.configurations import CONFIGURATIONS
from fairlead.testing.simulation.patching import Patch
from fairlead.testing.simulation.stories import SCENARIOS
from fairlead.testing.simulation.world import Switches, World


@dataclass(frozen=True, slots=True)
class Mutant:
    """One way to be wrong.

    Attributes:
        rule: it is a rule taken out, not an error put in.
        configuration: the world in which it shows.
        found_by: a seed of that world; or, where hardly any finds it, the name of a scenario.
        apply: changes the code; or `switches` changes the world.
    """

    name: str
    rule: bool
    configuration: str
    found_by: int | str
    apply: Callable[[], Patch] = tuple
    switches: Switches | None = None

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """While the code is wrong."""
        with ExitStack() as stack:
            for change in self.apply():
                stack.enter_context(change)
            yield

    def play(self, seed: int | str) -> str | None:
        """What one seed finds, or a scenario; None if it finds nothing."""
        with self.in_force():
            if isinstance(seed, str):
                return SCENARIOS[seed]().play().violation
            return World(seed, CONFIGURATIONS[self.configuration], switches=self.switches).play().violation

    def search(self, first: int, seeds: int) -> tuple[int, str] | None:
        """The first seed that finds it, and what it finds."""
        for seed in range(first, first + seeds):
            if (found := self.play(seed)) is not None:
                return seed, found
        return None


_MUTANTS = (
    Mutant("dup_floor", True, "rest", 1, channel.dup_floor),
    Mutant("floor_holds", True, "rest", 0, lanes.floor_holds),
    Mutant("gen_reset", True, "replays", 0, channel.gen_reset),
    Mutant("gen_ack", True, "replays", 0, channel.gen_ack),
    Mutant("skip_first", True, "rest-skip", 5, lanes.skip_first),
    Mutant("replay_hold", True, "replays", 16, channel.replay_hold),
    Mutant("fence_chan", True, "far", 1, channel.fence_chan),
    Mutant("page_scan", True, "rest", 5, lanes.page_scan),
    Mutant("scan_keep", True, "rest", "scan_keep", lanes.scan_keep),
    Mutant("one_flight", True, "rest", 0, lanes.one_flight),
    Mutant("filter_pos", True, "filters", 3, channel.filter_pos),
    Mutant("filter_ack", True, "zombie-filters", "filter_ack", channel.filter_ack),
    Mutant("key_lock", True, "ext-repeats", 16, switches=Switches(key_locked=False)),
    Mutant("probe_turn", True, "breaker", "probe_turn", lanes.probe_turn),
    Mutant("skip_named", True, "rest-skip", "skip_named", channel.skip_named),
    Mutant("undo_skip", True, "undo", 1, switches=Switches(undo_alone=True)),
    Mutant("noprev", False, "split", 1, channel.noprev),
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
_ON_A_BUS = (
    Mutant("bus/dup_floor", True, "all", 8, channel.dup_floor),
    Mutant("bus/floor_holds", True, "all", 0, lanes.floor_holds),
    Mutant("bus/gen_reset", True, "bus-replays", 0, channel.gen_reset),
    Mutant("bus/gen_ack", True, "bus-replays", 1, bus.gen_ack),
    Mutant("bus/skip_first", True, "all-skip", 8, lanes.skip_first),
    Mutant("bus/replay_hold", True, "bus-replays", 0, channel.replay_hold),
    Mutant("bus/fence_chan", True, "all", 6, channel.fence_chan),
    Mutant("bus/page_scan", True, "bus", 8, lanes.page_scan),
    Mutant("bus/scan_keep", True, "bus", "scan_keep_bus", lanes.scan_keep),
    Mutant("bus/filter_pos", True, "bus-filters", 1, channel.filter_pos),
    Mutant("bus/filter_ack", True, "bus-filters", "filter_ack_bus", channel.filter_ack),
    Mutant("bus/settle_set", True, "bus-settle", 0, bus.settle_set),
    Mutant("bus/key_lock", True, "bus-ext", 43, switches=Switches(key_locked=False)),
    Mutant("bus/skip_named", True, "all-skip", "skip_named_bus", channel.skip_named),
    Mutant("bus/undo_skip", True, "bus-undo", 0, switches=Switches(undo_alone=True)),
    Mutant("bus/noprev", False, "all", 5, channel.noprev),
    Mutant("bus/noapplied", False, "all", 2, channel.noapplied),
    Mutant("bus/confirm", False, "bus", 0, bus.confirm),
    Mutant("bus/cumack", False, "bus", 5, bus.cumack),
    Mutant("bus/cursor_first", False, "bus", 0, lanes.cursor_first),
    Mutant("bus/hold_later", False, "bus", 0, lanes.hold_later),
    Mutant("bus/nogen", False, "bus-replays", 0, channel.nogen),
    Mutant("bus/zombie_flush", False, "all", 3, channel.zombie_flush),
    Mutant("bus/floor_scan", False, "all", 0, lanes.floor_scan),
    Mutant("bus/batch_all", False, "all-batch", 0, channel.batch_all),
    Mutant("bus/unhold_early", False, "bus", 0, bus.unhold_early),
    Mutant("bus/fail_settles", False, "bus", 0, bus.fail_settles),
    Mutant("bus/park_forgets", False, "bus", 1, lanes.park_forgets),
    Mutant("bus/gen_reused", False, "bus-replays", 0, channel.gen_reused),
    # the project's own
    Mutant("bus/unsigned", False, "bus", 9, bus.unsigned),
    Mutant("bus/any_secret", False, "bus", 13, bus.any_secret),
    Mutant("bus/early_epoch", False, "bus", 0, bus.early_epoch),
    Mutant("bus/unlocked", False, "bus-one-node", "unlocked", bus.unlocked),
    Mutant("bus/no_window", False, "bus", 5, bus.no_window),
    Mutant("bus/resend_tail", False, "bus", 6, bus.resend_tail),
    Mutant("bus/unchained", False, "bus", 0, bus.unchained),
    Mutant("bus/no_drain", False, "all", 4, bus.no_drain),
    Mutant("bus/failed_moves", False, "all", "failed", bus.failed_moves),
    Mutant("bus/any_word", False, "confirm-wait", 1, bus.any_word),
    Mutant("bus/leaves", False, "confirm-wait", 16, bus.leaves),
    Mutant("bus/leaves_off", False, "confirm-off", 0, bus.leaves),
    Mutant("bus/snapshots", False, "bus-ext", 11, switches=Switches(snapshots=True)),
    Mutant("bus/floor_back", False, "ext", "floor_back", bus.floor_back),
    Mutant("bus/another_p", False, "all", "another_p", channel.gen_reused),
    Mutant("bus/old_filter", False, "bus-filters", "filter_ack_bus", bus.noepoch),
)
MUTANTS = {mutant.name: mutant for mutant in (*_MUTANTS, *_ON_A_BUS)}
HARMLESS = {"noepoch": bus.noepoch, "noseq": bus.noseq}
"""Order needs neither while the inbox is durable; `flepoch` does where a filter grows behind a zombie."""
