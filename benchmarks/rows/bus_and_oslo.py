# SPDX-License-Identifier: Apache-2.0
"""The bus route against oslo.messaging's own notifier and listener on the same broker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.figures import Figure
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
        passage = pass_through(folder / "bus", SECONDS, node)
        out, into = oslo(folder, node, durable=True)
        quick_out, quick_in = oslo(folder, node, durable=False)
    detail = f"{passage}; oslo.messaging on quorum queues {{:,.0f}}/s, on its default ones {{:,.0f}}/s"
    names = ("bus route, against oslo.messaging's notifier", "bus route, against its listener")
    return [
        Figure(names[0], passage.whole / out, 4.0, "times", False, detail.format(out, quick_out)),
        Figure(names[1], passage.whole / into, 4.0, "times", False, detail.format(into, quick_in)),
    ]
