# SPDX-License-Identifier: Apache-2.0
"""A receiver with the library, as a process: by REST, and on a bus where it is given one, into one inbox.

    python -m benchmarks.library_receiver SECRET INBOX PORT [AMQP_URL QUEUE]

Its handler does nothing: what is applied is the event's place, durably. When the first delivery has come by
REST it prints the monotonic time, which all processes of a machine share.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from fairlead import Event, Receiver, Transaction

Call = Callable[..., Awaitable[Any]]


def handle(event: Event, transaction: Transaction) -> None:
    """Take it."""


def told(app: Call) -> Call:
    """The same application; it tells of the first request with an event."""
    waiting = True

    async def outer(scope: MutableMapping[str, Any], receive: Call, send: Call) -> None:
        nonlocal waiting
        if waiting and (b"content-type", b"application/cloudevents+json") in scope.get("headers", ()):
            waiting = False
            print(time.monotonic(), flush=True)
        await app(scope, receive, send)

    return outer


def main(secret: str, inbox: str, port: str, *bus: str) -> None:
    receiver = Receiver(handle, secrets=[secret], inbox=inbox)
    if bus:
        threading.Thread(target=receiver.consume, args=bus, daemon=True).start()
    uvicorn.run(told(receiver.asgi), host="127.0.0.1", port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
