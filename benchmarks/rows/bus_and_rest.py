# SPDX-License-Identifier: Apache-2.0
"""The bus route against the REST route, with the same receiver: what a bus costs, or saves.

Bus, REST, REST, bus: what else the machine does meanwhile meets both alike.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.routes import Passage, pass_through
from tests.servers.rabbitmq import RabbitNode

SECONDS = 3
TURNS = ("bus", "REST", "REST", "bus")


def measure(folder: Path) -> list[Figure]:
    found: dict[str, list[Passage]] = {"bus": [], "REST": []}
    with RabbitNode() as node:
        for turn, route in enumerate(TURNS):
            place = folder / f"{turn}-{route}"
            found[route].append(pass_through(place, SECONDS, node if route == "bus" else None))
    bus, rest = (sum(one.whole for one in found[route]) / 2 for route in found)
    detail = "; ".join(f"{route} {one}" for route in found for one in found[route])
    return [Figure("bus route, against the REST route", bus / rest, 1.0, "times", False, detail)]
