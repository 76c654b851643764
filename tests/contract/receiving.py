# SPDX-License-Identifier: Apache-2.0
"""What the receiver's tests share: a secret, events, and a handler that remembers what it took."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairlead import Event, Receiver
from fairlead.sdk.receiving.reply import Reply
from fairlead.testing.receiver_kit import ReceiverKit, SignedRequest

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes, ok").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"another secret of 32 bytes, fine").decode()


def event(n: int = 1, subject: str = "k1", **more: Any) -> Event:
    return Event(f"a-{n}", "/heat", "org.example.state", subject=subject, data={"n": n}, **more)


@dataclass
class Taken:
    """A sync handler; `fail` decides what it raises for which n."""

    events: list[Event] = field(default_factory=list)
    fail: Callable[[int], Exception | None] = lambda n: None

    def __call__(self, event: Event, transaction: object) -> None:
        error = self.fail(event.data["n"])
        if error is not None:
            raise error
        self.events.append(event)

    @property
    def numbers(self) -> list[int]:
        return [event.data["n"] for event in self.events]


def receiver_at(place: Path, handler: Any, **options: Any) -> Receiver:
    return Receiver(handler, secrets=[SECRET], inbox=place / "inbox.db", **options)


def kit() -> ReceiverKit:
    return ReceiverKit(SECRET)


def send(receiver: Receiver, request: SignedRequest) -> Reply:
    return receiver.handle(request.method, request.headers, request.body)


urlpatterns: list[Any] = []
"""Django's, which wants them in a module; a test puts its own in."""
