# SPDX-License-Identifier: Apache-2.0
"""`python -m fairlead.testing.simulation`: run seeds; the first that is violated tells its story."""

from __future__ import annotations

import argparse
import sys
import time

from fairlead.testing.simulation.configurations import CONFIGURATIONS
from fairlead.testing.simulation.world import World


def main() -> int:
    """Run what the command line asks for; 1 if anything was violated."""
    parser = argparse.ArgumentParser(prog="python -m fairlead.testing.simulation")
    parser.add_argument("--config", default="rest", choices=[*CONFIGURATIONS, "every"])
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument(
        "--trace", action="store_true", help="tell the story of each, not only of the first that is violated"
    )
    arguments = parser.parse_args()
    names = list(CONFIGURATIONS) if arguments.config == "every" else [arguments.config]
    return 1 if sum(_run(name, arguments) for name in names) else 0


def _run(name: str, arguments: argparse.Namespace) -> int:
    bad = 0
    began = time.process_time()
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        outcome = World(seed, CONFIGURATIONS[name]).play(logged=arguments.trace)
        if arguments.trace:
            sys.stdout.write("\n".join(outcome.story) + "\n")
        if outcome.violation is not None:
            bad += 1
            if bad == 1 and not arguments.trace:
                story = World(seed, CONFIGURATIONS[name]).play(logged=True).story
                sys.stdout.write("\n".join(story) + "\n")
            sys.stdout.write(f"{name} seed {seed}: {outcome.violation}\n")
    each = (time.process_time() - began) / arguments.seeds * 1000
    sys.stdout.write(f"{name}: {bad} of {arguments.seeds} seeds violated, {each:.0f} ms of processor each\n")
    return bad


if __name__ == "__main__":
    sys.exit(main())
