# SPDX-License-Identifier: Apache-2.0
"""Accepted, fsynced, delivered, in order, signed: against the bare client on the same sink."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.machine import BATCH, Sink, in_batches, relay, sink, until, wrk

SECONDS = 8
ROUNDS = 3


def bare(url: str) -> float:
    """Requests a second of the bare client."""
    command = [sys.executable, "-m", "benchmarks.bare_client", url, "3"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def end_to_end(folder: Path, url: str, delivered: object, batch: int) -> tuple[float, float]:
    """Events a second from the first publish to the last delivery, and the accept rate alone."""
    assert callable(delivered)
    with relay(folder) as process:
        process.subscribe("bench", url)
        before = delivered()
        begun = time.monotonic()
        load = wrk(process.url, folder, seconds=SECONDS, batch=batch)
        until(lambda: delivered() - before >= load.events, "the last delivery")
        seconds = time.monotonic() - begun
        return load.events / seconds, load.events / load.seconds


def measure(folder: Path) -> list[Figure]:
    with sink(folder) as target:
        return [_against_bare(folder / f"by{batch}", target, batch) for batch in (1, BATCH)]


def _against_bare(folder: Path, target: Sink, batch: int) -> Figure:
    """The median of some rounds in which the bare client and the relay take turns."""
    rounds = []
    for number in range(ROUNDS):
        rate = bare(target.url)
        whole, accepted = end_to_end(folder / f"run{number}", target.url, target.requests, batch)
        rounds.append((whole / rate, whole, accepted, rate))
    ratio, whole, accepted, rate = sorted(rounds)[ROUNDS // 2]
    detail = (
        f"{whole:,.0f}/s delivered, {accepted:,.0f}/s accepted, bare client {rate:,.0f}/s; median of {ROUNDS}"
    )
    name = "accept to delivered, against the bare client" + in_batches(batch)
    return Figure(name, ratio, 0.35, "times", False, detail)
