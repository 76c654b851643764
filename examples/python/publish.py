# SPDX-License-Identifier: Apache-2.0
"""Publishes one event through a durable outbox: `python publish.py http://127.0.0.1:3247`.

The relay may be down: the event is on disk when `publish` returns, and goes out when the relay is back, even
from the next run of this program.
"""

import sys

from fairlead import Event, Publisher

with Publisher(sys.argv[1], outbox="outbox.db") as publisher:
    publisher.publish(
        Event("a-1", "/heat", "org.example.state", subject="k1", data={"n": 1}),
    )
    left = publisher.flush(timeout=2)
    print(f"{left} events wait for the relay" if left else "the relay has it")
