# SPDX-License-Identifier: Apache-2.0
"""Free lanes beside 50,000 held ones and a backlog of a million; the relay's memory and its restart there."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.backlog import write
from benchmarks.figures import Figure
from benchmarks.machine import Sink, relay, sink, until

EVENTS = 1_000_000
HELD = 50_000
SECONDS = 15.0


def drain(folder: Path, target: Sink) -> tuple[float, float, float]:
    """Deliveries a second over some seconds, the greatest memory in MiB, seconds to the first delivery."""
    before = target.requests()
    with relay(folder, wait=False) as process:
        until(lambda: target.requests() > before, "the first delivery")
        started = time.monotonic() - process.started_at
        begun, first, most = time.monotonic(), target.requests(), 0.0
        while time.monotonic() < begun + SECONDS:
            time.sleep(0.5)
            most = max(most, process.rss_mib())
        return (target.requests() - first) / (time.monotonic() - begun), most, started


def measure(folder: Path) -> list[Figure]:
    with sink(folder) as target:
        write(folder / "free" / "bench.db", target.url, events=EVENTS)
        free, _, _ = drain(folder / "free", target)
        write(folder / "held" / "bench.db", target.url, events=EVENTS, held=HELD)
        held, memory, started = drain(folder / "held", target)
    detail = f"{held:,.0f}/s beside {HELD:,} held lanes, {free:,.0f}/s without; backlog {EVENTS:,}"
    return [
        Figure("free lanes beside 50,000 held ones", held / free, 0.8, "times", False, detail),
        Figure("memory with that backlog", memory, 300.0, "MiB", True, "greatest resident set in the run"),
        Figure("restart to the first delivery", started, 3.0, "s", True, "from the process's start"),
    ]
