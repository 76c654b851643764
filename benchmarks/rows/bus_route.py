# SPDX-License-Identifier: Apache-2.0
"""Accepted, published, confirmed, applied, answered, settled: against the bare client on the same broker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.routes import login, pass_through
from tests.servers.rabbitmq import RabbitNode

SECONDS = 4
ROUNDS = 3


def bare(node: RabbitNode, queue: str) -> float:
    """Messages a second of the bare client, into a queue of the same kind and out of it."""
    command = [sys.executable, "-m", "benchmarks.bare_amqp", login(node), queue, "3"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(folder: Path) -> list[Figure]:
    found = []
    with RabbitNode() as node:
        for number in range(ROUNDS):
            rate = bare(node, f"bare{number}")
            passage = pass_through(folder / f"run{number}", SECONDS, node)
            found.append((passage.whole / rate, str(passage), rate))
    ratio, passed, rate = sorted(found)[ROUNDS // 2]
    detail = f"{passed}; bare client {rate:,.0f}/s; median of {ROUNDS}"
    return [Figure("bus route end to end, against the bare client", ratio, 0.4, "times", False, detail)]
