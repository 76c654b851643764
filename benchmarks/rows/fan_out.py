# SPDX-License-Identifier: Apache-2.0
"""Accepting costs one row whatever the number of subscriptions: 100 of which 99 match nothing, against 1.

The two relays are loaded in turn, a second at a time, and the ratio is taken over all turns: what else the
machine does meanwhile meets both alike.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.machine import Load, RelayProcess, relay, sink, wrk

SECONDS = 1
TURNS = 24
IDLE = 99


def measure(folder: Path) -> list[Figure]:
    loads: tuple[list[Load], list[Load]] = ([], [])
    with sink(folder) as target, relay(folder / "one") as one, relay(folder / "many") as many:
        relays: tuple[RelayProcess, RelayProcess] = (one, many)
        for process in relays:
            process.subscribe("bench", target.url)
        for number in range(IDLE):
            filters = [{"prefix": {"type": f"org.other{number}."}}]
            many.subscribe(f"idle-{number}", target.url, filters=filters)
        for turn in range(TURNS):
            for which in (0, 1) if turn % 2 else (1, 0):
                loads[which].append(wrk(relays[which].url, folder, seconds=SECONDS))
    alone, among = (sum(one.events for one in those) / sum(one.seconds for one in those) for those in loads)
    detail = f"{among:,.0f}/s with {IDLE + 1}, {alone:,.0f}/s with 1; {TURNS} turns of {SECONDS} s each"
    measure = f"accept with {IDLE + 1} subscriptions, against 1"
    return [Figure(measure, among / alone, 0.9, "times", False, detail)]
