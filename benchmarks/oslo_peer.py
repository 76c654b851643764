# SPDX-License-Identifier: Apache-2.0
"""oslo.messaging's own notifier and listener, as a peer on the same broker.

    python -W ignore benchmarks/oslo_peer.py rabbit://user:password@host:port/vhost CONFIG SECONDS

One thread notifies through `messagingv2` for so many seconds; then a listener with the executor `threading`
takes what is in the queue. Then both do so at once, the listener in a process of its own, as the two ends of
our route do. The body is as great as ours. Prints JSON, notifications a second: out, in, and at once from the
first one's call to the last one's arrival.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from typing import Any

import oslo_messaging
from oslo_config import cfg

logging.disable(logging.CRITICAL)
PAYLOAD = {"n": 1, "pad": "x" * 220}  # with the envelope 600 bytes


class Endpoint:
    """Counts to what is wanted; `over` is set when it has come."""

    def __init__(self, wanted: int = 1) -> None:
        self.wanted, self.taken = wanted, 0
        self.first_at = self.last_at = 0.0
        self.over = threading.Event()

    def info(self, context: object, publisher: str, type: str, payload: object, metadata: object) -> str:
        self.last_at = time.monotonic()
        self.first_at = self.first_at or self.last_at
        self.taken += 1
        if self.taken >= self.wanted:
            self.over.set()
        return str(oslo_messaging.NotificationResult.HANDLED)


class Peer:
    """The two of them on one broker."""

    def __init__(self, url: str, config: str) -> None:
        conf = cfg.ConfigOpts()
        conf([], project="bench", default_config_files=[config])
        self.transport = oslo_messaging.get_notification_transport(conf, url=url)
        options: dict[str, Any] = {"driver": "messagingv2", "topics": ["bench"]}
        self.notifier = oslo_messaging.Notifier(self.transport, "bench.host", **options)

    def listen(self, endpoint: Endpoint) -> Any:
        """Start a listener; its queue is declared when this returns."""
        listener = oslo_messaging.get_notification_listener(
            self.transport, [oslo_messaging.Target(topic="bench")], [endpoint], executor="threading"
        )
        listener.start()
        return listener

    def take(self, endpoint: Endpoint) -> Endpoint:
        """Listen until what is wanted has come."""
        listener = self.listen(endpoint)
        assert endpoint.over.wait(60), f"oslo's listener got {endpoint.taken} of {endpoint.wanted}"
        listener.stop()
        listener.wait()
        return endpoint

    def notify(self, seconds: float) -> tuple[int, float, float]:
        """Notify for so long; how often, and from when until when."""
        sent, begun = 0, time.monotonic()
        while time.monotonic() < begun + seconds:
            self.notifier.info({}, "bench.state", PAYLOAD)
            sent += 1
        return sent, begun, time.monotonic()


def one_by_one(peer: Peer, seconds: float) -> tuple[float, float]:
    """Notifications a second, out and in, while nobody does the other."""
    sent, begun, ended = peer.notify(seconds)
    endpoint = peer.take(Endpoint(sent))
    return sent / (ended - begun), (sent - 1) / (endpoint.last_at - endpoint.first_at)


def at_once(peer: Peer, command: list[str], seconds: float) -> float:
    """Notifications a second, from the first one's call to the last one's arrival in another process."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout is not None
        assert listener.stdout.readline(), "oslo's listener did not start"
        sent, begun, _ = peer.notify(seconds)
        output, _ = listener.communicate(f"{sent}\n")
    return sent / (float(output) - begun)


def listen_only(peer: Peer) -> None:
    """The other process: listens at once, is told later for how many, prints when the last one came."""
    endpoint = Endpoint(sys.maxsize)
    listener = peer.listen(endpoint)
    print("listening", flush=True)
    wanted = int(sys.stdin.readline())
    while endpoint.taken < wanted:
        time.sleep(0.02)
    print(endpoint.last_at, flush=True)
    listener.stop()
    listener.wait()


def main(url: str, config: str, seconds: float) -> None:
    peer = Peer(url, config)
    listener = peer.listen(warm := Endpoint())
    peer.notifier.info({}, "bench.warm", PAYLOAD)
    assert warm.over.wait(30), "oslo's listener got nothing"
    listener.stop()
    listener.wait()
    out, taken = one_by_one(peer, seconds)
    both = at_once(peer, [sys.executable, "-W", "ignore", __file__, url, config], seconds)
    print(json.dumps({"out": out, "in": taken, "at_once": both}))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        listen_only(Peer(*sys.argv[1:]))
    else:
        main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
