# SPDX-License-Identifier: Apache-2.0
"""A relay that counts how often it sends each event, by partition, and writes that to `sent.json` at its end.

    python -m benchmarks.counting_relay serve …

A publish counts when it is handed to the link, whatever the broker then does with it.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairlead.cli import main
from fairlead.ports import Delivery
from fairlead.transports.amqp_link import AmqpLink
from fairlead.transports.http import HttpSender

bus: Counter[tuple[int, int]] = Counter()
rest: Counter[tuple[int, int]] = Counter()


def counted(send: Callable[..., Any], sent: Counter[tuple[int, int]]) -> Callable[..., Any]:
    def outer(self: object, delivery: Delivery, *rest: Any) -> Any:
        partition = delivery.fence.channel.partition
        sent.update((partition, parcel.entry.position) for parcel in delivery.parcels)
        return send(self, delivery, *rest)

    return outer


def repeated() -> dict[int, int]:
    """By partition, how many sends were beyond an event's first."""
    found: Counter[int] = Counter()
    for (partition, _), times in (bus + rest).items():
        found[partition] += times - 1
    return dict(found)


if __name__ == "__main__":
    AmqpLink.publish = counted(AmqpLink.publish, bus)  # type: ignore[method-assign]  # that is its purpose
    HttpSender.send = counted(HttpSender.send, rest)  # type: ignore[method-assign]
    try:
        main()
    finally:
        document = {"bus": bus.total(), "rest": rest.total(), "repeated": repeated()}
        Path("sent.json").write_text(json.dumps(document))
        sys.stdout.flush()
