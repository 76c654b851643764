# SPDX-License-Identifier: Apache-2.0
"""A stored backlog of 200,000 delivered in CloudEvents batches of 100, against one by one."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from benchmarks.backlog import write
from benchmarks.figures import Figure
from benchmarks.machine import Sink, relay, sink, until
from fairlead.core.subscription import BatchOptions, DeliveryOptions

EVENTS = 200_000
ROUNDS = 3


def drain(folder: Path, backlog: Path, target: Sink) -> float:
    """Events a second from the relay's first delivery until it reports no lag."""
    shutil.copytree(backlog, folder)
    before = target.requests()
    with relay(folder) as process:
        until(lambda: target.requests() > before, "the first delivery")
        begun = time.monotonic()
        until(lambda: process.call("GET", "/subscriptions/bench")["status"]["lag_events"] == 0, "the end")
        seconds = time.monotonic() - begun
    shutil.rmtree(folder)
    return EVENTS / seconds


def measure(folder: Path) -> list[Figure]:
    single, batched = folder / "single", folder / "batched"
    with sink(folder) as target:
        write(single / "bench.db", target.url, events=EVENTS)
        options = DeliveryOptions(batch=BatchOptions(max_events=100))
        write(batched / "bench.db", target.url, events=EVENTS, options=options)
        pairs = []
        for _ in range(ROUNDS):
            slow, fast = drain(folder / "run", single, target), drain(folder / "run", batched, target)
            pairs.append((fast / slow, fast, slow))
    ratio, fast, slow = sorted(pairs)[ROUNDS // 2]
    detail = f"{fast:,.0f}/s in batches, {slow:,.0f}/s one by one, {EVENTS:,} events; median of {ROUNDS}"
    return [Figure("backlog in batches of 100, against one by one", ratio, 4.0, "times", False, detail)]
