# SPDX-License-Identifier: Apache-2.0
"""Takes events in order and once: `FAIRLEAD_SECRET=whsec_… uvicorn receive:app --port 8080`.

What the handler writes through `transaction` is stored together with the receiver's own memory of the event,
or not at all; so each event takes effect once, whatever crashes.
"""

import os

from starlette.applications import Starlette
from starlette.routing import Route

from fairlead import Event, Receiver, Reject

STATES = "CREATE TABLE IF NOT EXISTS state (resource TEXT PRIMARY KEY, n INTEGER)"


def handle(event: Event, transaction) -> None:
    if "n" not in event.data:
        raise Reject("the event has no n")  # never: the relay parks it and tells its operator
    transaction.execute(STATES)
    transaction.execute("REPLACE INTO state VALUES (?, ?)", (event.key, event.data["n"]))


receiver = Receiver(handle, secrets=os.environ["FAIRLEAD_SECRET"].split(), inbox="inbox.db")
app = Starlette(routes=[Route("/hook", receiver.asgi)])
