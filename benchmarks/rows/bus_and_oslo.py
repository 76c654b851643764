# SPDX-License-Identifier: Apache-2.0
"""The bus route against oslo.messaging's own notifier and listener on the same broker.

Our route accepts, publishes, consumes and answers at once, so the peer is measured with both of its ends at
once too. What each of them does while the other rests is measured beside it.
"""

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
ENDS = {
    "at_once": "notifier and listener at once",
    "out": "notifier alone",
    "in": "listener alone",
}


def oslo(folder: Path, node: RabbitNode, *, durable: bool) -> dict[str, float]:
    """Its notifications a second by `ENDS`; with queues that outlive the broker, or as it comes."""
    config = folder / f"{durable}.conf"
    config.write_text(f"[oslo_messaging_rabbit]\nrabbit_quorum_queue = {durable}\n")
    url = f"rabbit://guest:guest@127.0.0.1:{node.port}/{node.add_vhost()}"
    command = [sys.executable, "-W", "ignore", str(PEER), url, str(config), str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rates: dict[str, float] = json.loads(done.stdout)
    return rates


def measure(folder: Path) -> list[Figure]:
    folder.mkdir(parents=True)
    with RabbitNode() as node:
        passages = {batch: pass_through(folder / f"by{batch}", SECONDS, node, batch) for batch in (1, BATCH)}
        durable = oslo(folder, node, durable=True)
        quick = oslo(folder, node, durable=False)
    figures = []
    for batch, passage in passages.items():
        for end, name in ENDS.items():
            rates = f"on quorum queues {durable[end]:,.0f}/s, on its default ones {quick[end]:,.0f}/s"
            detail = f"{passage}; oslo.messaging {rates}"
            measure = f"bus route, against oslo.messaging's {name}" + in_batches(batch)
            figures.append(Figure(measure, passage.whole / durable[end], 4.0, "times", False, detail))
    return figures
