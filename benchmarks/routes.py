# SPDX-License-Identifier: Apache-2.0
"""Events through a relay to a receiver with the library, over a bus or by REST: what the bus rows measure."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import RelayProcess, connects, cpu_seconds, free_port, relay, until, wrk
from tests.servers.rabbitmq import RabbitNode

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NAME = "bench"
AT_ONCE = 256  # publishes under way, as the bare client has
LOOK_SECONDS = 0.1  # a relay asked for its status every few milliseconds would do little else
LIBRARY = {"receiver": "library", "secret": SECRET}


@dataclass(frozen=True)
class Passage:
    """What one load has shown.

    Attributes:
        whole: events a second, from the first publish until everything is settled.
        accepted: events a second while the load lasted.
        relay_us, receiver_us: CPU per event of the two processes.
    """

    whole: float
    accepted: float
    relay_us: float
    receiver_us: float

    def __str__(self) -> str:
        cpu = f"{self.relay_us:.0f} + {self.receiver_us:.0f} µs of relay and receiver"
        return f"{self.whole:,.0f}/s settled, {self.accepted:,.0f}/s accepted, {cpu}"


def login(node: RabbitNode) -> str:
    """A broker's address with the login in it, as client libraries take it."""
    return f"amqp://guest:guest@127.0.0.1:{node.port}/%2F"


def bus_target(node: RabbitNode) -> dict[str, Any]:
    return {"sink": f"amqp://127.0.0.1:{node.port}", "protocol": "AMQP"}


def rest_target(hook: str) -> dict[str, Any]:
    return {"sink": hook, "protocol": "HTTP"}


@contextlib.contextmanager
def receiver(folder: Path, node: RabbitNode | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A receiver's process and the address of its hook; on the bus too where there is a node."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.library_receiver", SECRET, str(folder / "inbox.db")]
    command += [str(port), *([login(node), f"fairlead.{NAME}.0"] if node is not None else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        until(lambda: connects(port), "the receiver")
        yield process, f"http://127.0.0.1:{port}/hook"
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def settled(process: RelayProcess) -> bool:
    """Whether nothing is owed any more."""
    return bool(process.call("GET", f"/subscriptions/{NAME}")["status"]["lag_events"] == 0)


def pass_through(folder: Path, seconds: int, node: RabbitNode | None = None, batch: int = 1) -> Passage:
    """Load a relay for some seconds and wait for the last answer: over the node's bus, or by REST.

    Args:
        batch: events in a request of the load.
    """
    with relay(folder) as process, receiver(folder, node) as (taker, hook):
        target = rest_target(hook) if node is None else bus_target(node)
        subscribe(process, target)
        before = process.cpu_seconds(), cpu_seconds(taker.pid)
        begun = time.monotonic()
        load = wrk(process.url, folder, seconds=seconds, connections=AT_ONCE // batch, batch=batch)
        until(lambda: settled(process), "the last answer", pause_seconds=LOOK_SECONDS)
        took_seconds = time.monotonic() - begun
        spent = [
            (after - at) * 1e6 / load.events
            for after, at in zip((process.cpu_seconds(), cpu_seconds(taker.pid)), before, strict=True)
        ]
        return Passage(load.events / took_seconds, load.events / load.seconds, *spent)


def subscribe(process: RelayProcess, target: dict[str, Any], *further: dict[str, Any]) -> None:
    """Subscribe with these targets; back when a first event has gone through."""
    config = LIBRARY | {"route": list(further)}
    process.call("PUT", f"/subscriptions/{NAME}", {**target, "config": config})
    process.publish({"specversion": "1.0", "id": "first", "source": "/bench", "type": "org.example.state"})
    until(lambda: settled(process), f"the first event by {target['protocol']}")
