# SPDX-License-Identifier: Apache-2.0
"""oslo.messaging's own notifier and listener, as a peer on the same broker.

    python -W ignore benchmarks/oslo_peer.py rabbit://user:password@host:port/vhost CONFIG SECONDS

One thread notifies through `messagingv2` for so many seconds; then a listener with the executor `threading`
takes what is in the queue. The body is as great as ours. Prints JSON: notifications a second, out and in.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time

import oslo_messaging
from oslo_config import cfg

logging.disable(logging.CRITICAL)
PAYLOAD = {"n": 1, "pad": "x" * 220}  # with the envelope 600 bytes


class Endpoint:
    def __init__(self, wanted: int) -> None:
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


def main(url: str, config: str, seconds: float) -> None:
    conf = cfg.ConfigOpts()
    conf([], project="bench", default_config_files=[config])
    transport = oslo_messaging.get_notification_transport(conf, url=url)
    target = oslo_messaging.Target(topic="bench")
    endpoint = Endpoint(1)
    listener = oslo_messaging.get_notification_listener(transport, [target], [endpoint], executor="threading")
    listener.start()  # declares the queue
    notifier = oslo_messaging.Notifier(transport, "bench.host", driver="messagingv2", topics=["bench"])
    notifier.info({}, "bench.warm", PAYLOAD)
    assert endpoint.over.wait(30), "oslo's listener got nothing"
    listener.stop()
    listener.wait()
    sent, begun = 0, time.monotonic()
    while time.monotonic() < begun + seconds:
        notifier.info({}, "bench.state", PAYLOAD)
        sent += 1
    out = sent / (time.monotonic() - begun)
    endpoint = Endpoint(sent)
    listener = oslo_messaging.get_notification_listener(transport, [target], [endpoint], executor="threading")
    listener.start()
    assert endpoint.over.wait(60), f"oslo's listener got {endpoint.taken} of {sent}"
    listener.stop()
    listener.wait()
    print(json.dumps({"out": out, "in": (sent - 1) / (endpoint.last_at - endpoint.first_at)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
