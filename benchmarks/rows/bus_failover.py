# SPDX-License-Identifier: Apache-2.0
"""The broker is killed under full load: how long until REST carries on, and what is sent again for it.

With the clocks that a relay has by default. A publish that the dead broker had counts as sent, so what goes
again over REST is what was under way: at most the window of each channel.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.machine import relay, until, wrk
from benchmarks.routes import LOOK_SECONDS, bus_target, receiver, rest_target, settled, subscribe
from tests.servers.rabbitmq import RabbitNode

LOAD_SECONDS = 7
KILL_AFTER_SECONDS = 3.0
WINDOW = 256
DETECT_SECONDS = 15.0


def measure(folder: Path) -> list[Figure]:
    folder.mkdir(parents=True)
    with (
        RabbitNode() as node,
        receiver(folder, node) as (taker, hook),
        relay(folder, program="benchmarks.counting_relay") as process,
    ):
        subscribe(process, bus_target(node), rest_target(hook))
        load = threading.Thread(target=wrk, args=(process.url, folder), kwargs={"seconds": LOAD_SECONDS})
        load.start()
        time.sleep(KILL_AFTER_SECONDS)
        killed_at = time.monotonic()
        node.kill()
        assert taker.stdout is not None
        seconds = float(taker.stdout.readline()) - killed_at
        load.join()
        until(lambda: settled(process), "the last answer", pause_seconds=LOOK_SECONDS)
    sent = json.loads((folder / "sent.json").read_text())
    repeated = sent["repeated"]
    most, total = max(repeated.values()), sum(repeated.values())
    detail = f"{sent['bus']:,} over the bus, {sent['rest']:,} by REST, {total:,} of them again, all settled"
    return [
        Figure("broker killed to the first REST delivery", seconds, DETECT_SECONDS, "s", True, detail),
        Figure("sent again per switch, of the worst channel", most, WINDOW, "events", True, detail),
    ]
