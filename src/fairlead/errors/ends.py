# SPDX-License-Identifier: Apache-2.0
"""What goes wrong at the two ends: in a receiver's inbox and handler, and in a publisher's outbox."""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.errors.root import FairleadError


class Reject(FairleadError):
    """Raise it in a handler: this event will never be taken, do not send it again.

    Its text reaches the relay and its operators; anything else that a handler raises means "again, later".
    """


class InboxError(FairleadError):
    """The inbox cannot serve this delivery now; nothing was stored and the relay will send it again."""


class InboxBusy(InboxError):
    """Another delivery of the same resource, or another writer, held its lock for too long."""


class LockLost(InboxError):
    """The delivery's lock ran out, or a newer generation began, before the commit."""


class OutboxError(FairleadError):
    """The outbox cannot take the event; nothing was stored."""


class OutboxFull(OutboxError):
    """The outbox holds as much as it may, or its disk does; publish again when the relay has taken some.

    The text says which, and what to do.
    """


class OutboxClosed(OutboxError):
    """The publisher was closed."""


class EventRefused(FairleadError):
    """The relay refused the event for good: it stands in `refused()` with the relay's problem.

    Attributes:
        refused_id: its number there, for `retry_refused` and `discard_refused`.
        problem: the relay's problem document (RFC 9457).
    """

    def __init__(self, message: str, *, refused_id: int, problem: Mapping[str, object]) -> None:
        super().__init__(message)
        self.refused_id = refused_id
        self.problem = dict(problem)
