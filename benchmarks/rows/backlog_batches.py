# SPDX-License-Identifier: Apache-2.0
"""A stored backlog of 200,000 delivered in CloudEvents batches of 100, against one by one."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.backlog import write
from benchmarks.figures import Figure
from benchmarks.machine import Sink, relay, sink, until
from fairlead.core.subscription import BatchOptions, DeliveryOptions

EVENTS = 200_000


def drain(folder: Path, target: Sink, options: DeliveryOptions) -> float:
    """Events a second from the relay's first delivery until it reports no lag."""
    write(folder / "bench.db", target.url, events=EVENTS, options=options)
    before = target.requests()
    with relay(folder) as process:
        until(lambda: target.requests() > before, "the first delivery")
        begun = time.monotonic()
        until(lambda: process.call("GET", "/subscriptions/bench")["status"]["lag_events"] == 0, "the end")
        return EVENTS / (time.monotonic() - begun)


def measure(folder: Path) -> list[Figure]:
    with sink(folder) as target:
        single = drain(folder / "single", target, DeliveryOptions())
        batched = drain(folder / "batched", target, DeliveryOptions(batch=BatchOptions(max_events=100)))
    detail = f"{batched:,.0f}/s in batches, {single:,.0f}/s one by one, {EVENTS:,} events"
    return [
        Figure("backlog in batches of 100, against one by one", batched / single, 4.0, "times", False, detail)
    ]
