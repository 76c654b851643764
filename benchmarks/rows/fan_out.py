# SPDX-License-Identifier: Apache-2.0
"""Accepting costs one row whatever the number of subscriptions: 100 of which 99 match nothing, against 1."""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.machine import relay, sink, wrk

SECONDS = 6
ROUNDS = 3


def accept_rate(folder: Path, url: str, idle: int) -> float:
    with relay(folder) as process:
        process.subscribe("bench", url)
        for number in range(idle):
            process.subscribe(f"idle-{number}", url, filters=[{"prefix": {"type": f"org.other{number}."}}])
        load = wrk(process.url, folder, seconds=SECONDS)
        return load.requests / load.seconds


def measure(folder: Path) -> list[Figure]:
    with sink(folder) as target:
        pairs = []
        for number in range(ROUNDS):
            one = accept_rate(folder / f"one{number}", target.url, 0)
            many = accept_rate(folder / f"many{number}", target.url, 99)
            pairs.append((many / one, many, one))
    ratio, many, one = sorted(pairs)[len(pairs) // 2]
    detail = f"{many:,.0f}/s with 100, {one:,.0f}/s with 1; median of {ROUNDS}"
    return [Figure("accept with 100 subscriptions, against 1", ratio, 0.9, "times", False, detail)]
