# SPDX-License-Identifier: Apache-2.0
"""The bus route against oslo.messaging's own notifier and listener on the same broker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.machine import BATCH, in_batches
from benchmarks.routes import pass_through
from tests.servers.rabbitmq import RabbitNode

PEER = Path(__file__).parents[1] / "oslo_peer.py"
SECONDS = 4


def oslo(folder: Path, node: RabbitNode, *, durable: bool) -> tuple[float, float]:
    """Its notifications a second, out and in; with queues that outlive the broker, or as it comes."""
    config = folder / f"{durable}.conf"
    config.write_text(f"[oslo_messaging_rabbit]\nrabbit_quorum_queue = {durable}\n")
    url = f"rabbit://guest:guest@127.0.0.1:{node.port}/{node.add_vhost()}"
    command = [sys.executable, "-W", "ignore", str(PEER), url, str(config), str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rates = json.loads(done.stdout)
    return rates["out"], rates["in"]


def measure(folder: Path) -> list[Figure]:
    folder.mkdir(parents=True)
    with RabbitNode() as node:
        passages = {batch: pass_through(folder / f"by{batch}", SECONDS, node, batch) for batch in (1, BATCH)}
        durable = oslo(folder, node, durable=True)
        quick = oslo(folder, node, durable=False)
    figures = []
    for batch, passage in passages.items():
        for place, peer in enumerate(("notifier", "listener")):
            rates = f"on quorum queues {durable[place]:,.0f}/s, on its default ones {quick[place]:,.0f}/s"
            detail = f"{passage}; oslo.messaging {rates}"
            name = f"bus route, against oslo.messaging's {peer}" + in_batches(batch)
            figures.append(Figure(name, passage.whole / durable[place], 4.0, "times", False, detail))
    return figures
