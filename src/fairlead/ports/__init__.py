# SPDX-License-Identifier: Apache-2.0
"""The seams: what the engine asks of the world (design, section 9).

One Protocol per noun. Every method is a coroutine that never blocks the event loop; what it raises besides
the named errors is a defect. A store is the six nouns `Store` names; `fairlead.testing.store_contract` is the
suite that every store passes unchanged.
"""

from __future__ import annotations

from fairlead.ports.authenticator import Authenticator, Credentials
from fairlead.ports.bus import Bus, Link, LinkHealth, Published
from fairlead.ports.channels import Channels
from fairlead.ports.clock import Clock
from fairlead.ports.log import Log
from fairlead.ports.records import ApiKey, Attempts, Keys, Reject, Rejects, Subscriptions
from fairlead.ports.sender import Answer, Delivery, Parcel, Sender
from fairlead.ports.source import Received, Source, SourceHealth
from fairlead.ports.store import Store

__all__ = [
    "Answer",
    "ApiKey",
    "Attempts",
    "Authenticator",
    "Bus",
    "Channels",
    "Clock",
    "Credentials",
    "Delivery",
    "Keys",
    "Link",
    "LinkHealth",
    "Log",
    "Parcel",
    "Published",
    "Received",
    "Reject",
    "Rejects",
    "Sender",
    "Source",
    "SourceHealth",
    "Store",
    "Subscriptions",
]
