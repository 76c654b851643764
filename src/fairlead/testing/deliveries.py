# SPDX-License-Identifier: Apache-2.0
"""Deliveries for tests of senders: one channel, one fence, and values that a test need not spell out."""

from __future__ import annotations

import time
from base64 import b64encode
from typing import Any

from fairlead.core.channel import ChannelId, Fence
from fairlead.core.event import Event
from fairlead.core.log import Entry
from fairlead.core.subscription import DeliveryOptions, Matching, Secrets, Subscription, Target
from fairlead.ports import Delivery, Parcel

SECRET = "whsec_" + b64encode(b"a" * 32).decode()
FENCE = Fence(ChannelId("console", 5), lease=1, generation=1795359000123, epoch=7)


class SetClock:
    """Wall time that a test sets, monotonic time that a test moves on."""

    def __init__(self) -> None:
        self.wall = float(int(time.time()))
        self.ahead = 0.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


def event(**changes: Any) -> Event:
    """An event of key `/heat k1` with the data `{"n": 1}`, but for the changes."""
    members = {"id": "a-1", "source": "/heat", "type": "org.example.state", "subject": "k1", "data": {"n": 1}}
    return Event(**(members | changes))


def parcel(
    position: int = 41, of: Event | None = None, *, prev: int = 0, skipped: tuple[int, ...] = ()
) -> Parcel:
    one = of or event()
    return Parcel(Entry(5, position, one.key, one, 1795359000.0), prev, skipped)


def subscription(target: Target, secrets: Secrets | None = None, **options: Any) -> Subscription:
    """The subscription `console` to one target; `options` are those of `DeliveryOptions`."""
    return Subscription(
        "console", Matching(), (target,), DeliveryOptions(**options), secrets or Secrets(SECRET)
    )


def delivery(target: Target, *parcels: Parcel, to: Subscription | None = None, **options: Any) -> Delivery:
    """A delivery of these parcels; no parcel is a fence; with the option `batch` it is a batch."""
    whole = to or subscription(target, **options)
    return Delivery(
        whole, target, FENCE, 38, parcels, batch=whole.options.batch is not None and bool(parcels)
    )
