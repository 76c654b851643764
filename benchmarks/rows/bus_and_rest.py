# SPDX-License-Identifier: Apache-2.0
"""The bus route against the REST route, with the same receiver: what a bus costs, or saves."""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.routes import pass_through
from tests.servers.rabbitmq import RabbitNode

SECONDS = 3
ROUNDS = 2


def measure(folder: Path) -> list[Figure]:
    found = []
    with RabbitNode() as node:
        for number in range(ROUNDS):
            bus = pass_through(folder / f"bus{number}", SECONDS, node)
            rest = pass_through(folder / f"rest{number}", SECONDS)
            found.append((bus.whole / rest.whole, f"bus {bus}; REST {rest}"))
    ratio, detail = sorted(found)[0]
    return [
        Figure(
            "bus route, against the REST route", ratio, 1.0, "times", False, f"{detail}; worse of {ROUNDS}"
        )
    ]
