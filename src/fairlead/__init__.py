# SPDX-License-Identifier: Apache-2.0
"""Fairlead: ordered, durable, authenticated notifications between the components of a platform.

The names users need; each is loaded when it is first asked for, so that importing one does not
load the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from fairlead.version import __version__

if TYPE_CHECKING:
    from fairlead.core.event import Event
    from fairlead.embedded import Relay
    from fairlead.errors import EventRefused, FairleadError, OutboxFull, Problem, Reject
    from fairlead.sdk.inbox.port import Inbox, Transaction
    from fairlead.sdk.inbox.sqlite_transaction import SqliteTransaction
    from fairlead.sdk.publishing.publisher import Publisher
    from fairlead.sdk.publishing.records import Receipt
    from fairlead.sdk.receiving.receiver import Receiver

_HOMES = {
    "Event": "fairlead.core.event",
    "EventRefused": "fairlead.errors",
    "FairleadError": "fairlead.errors",
    "Inbox": "fairlead.sdk.inbox.port",
    "OutboxFull": "fairlead.errors",
    "Problem": "fairlead.errors",
    "Publisher": "fairlead.sdk.publishing.publisher",
    "Receipt": "fairlead.sdk.publishing.records",
    "Receiver": "fairlead.sdk.receiving.receiver",
    "Reject": "fairlead.errors",
    "Relay": "fairlead.embedded",
    "SqliteTransaction": "fairlead.sdk.inbox.sqlite_transaction",
    "Transaction": "fairlead.sdk.inbox.port",
}

__all__ = [
    "Event",
    "EventRefused",
    "FairleadError",
    "Inbox",
    "OutboxFull",
    "Problem",
    "Publisher",
    "Receipt",
    "Receiver",
    "Reject",
    "Relay",
    "SqliteTransaction",
    "Transaction",
    "__version__",
]


if not TYPE_CHECKING:  # else a type checker would take every misspelt name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'fairlead' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
