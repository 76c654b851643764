# SPDX-License-Identifier: Apache-2.0
"""Accepted, published, confirmed, applied, answered, settled: against the bare client on the same broker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.machine import BATCH, in_batches
from benchmarks.routes import login, pass_through
from tests.servers.rabbitmq import RabbitNode

SECONDS = 4
ROUNDS = 3


def bare(node: RabbitNode, queue: str) -> float:
    """Messages a second of the bare client, into a queue of the same kind and out of it."""
    command = [sys.executable, "-m", "benchmarks.bare_amqp", login(node), queue, "3"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(folder: Path) -> list[Figure]:
    with RabbitNode() as node:
        return [_against_bare(folder / f"by{batch}", node, batch) for batch in (1, BATCH)]


def _against_bare(folder: Path, node: RabbitNode, batch: int) -> Figure:
    """The median of some rounds in which the bare client and the route take turns."""
    rounds = []
    for number in range(ROUNDS):
        rate = bare(node, f"bare{batch}-{number}")
        passage = pass_through(folder / f"run{number}", SECONDS, node, batch)
        rounds.append((passage.whole / rate, str(passage), rate))
    ratio, passed, rate = sorted(rounds)[ROUNDS // 2]
    detail = f"{passed}; bare client {rate:,.0f}/s; median of {ROUNDS}"
    name = "bus route end to end, against the bare client" + in_batches(batch)
    return Figure(name, ratio, 0.4, "times", False, detail)
