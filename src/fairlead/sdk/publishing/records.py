# SPDX-License-Identifier: Apache-2.0
"""What the outbox holds and says, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from fairlead.core.codec import decode_structured
from fairlead.core.event import Event


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a published event.

    Attributes:
        id: the event's.
        partition, position: its place in the relay's log; None while it is only stored in the outbox.
        duplicate: whether the relay had it already; None while it is only stored.
    """

    id: str
    partition: int | None = None
    position: int | None = None
    duplicate: bool | None = None


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event that the relay refused for good.

    Attributes:
        id: its number, for `retry_refused` and `discard_refused`.
        event: the event as published.
        problem: the relay's problem document (RFC 9457), its `errors` those of this event.
        refused_at: aware, UTC.
    """

    id: int
    event: Event
    problem: dict[str, Any]
    refused_at: datetime


@dataclass(frozen=True, slots=True)
class Lost:
    """Events that were not stored and had nobody to tell: notifications of OpenStack's services.

    Attributes:
        count: how many, since the file was made.
        last_at: when the last ones were, aware UTC.
        reason: why they were not.
    """

    count: int
    last_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """How an outbox stands, over all processes that share it.

    Attributes:
        waiting: events that the relay has not accepted yet.
        refused: events in the refused table.
        oldest: when the first waiting event was stored, aware UTC; None if none waits.
        size_bytes: what both tables hold, of `max_bytes`.
        last_error: why this process's last try to forward failed; None if it did not.
        lost: events that were not stored; None if every one was, or its publisher was told.
    """

    waiting: int
    refused: int
    oldest: datetime | None
    size_bytes: int
    last_error: str | None = None
    lost: Lost | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """One event on its way to the relay: its number in the outbox and its JSON."""

    seq: int
    id: str
    source: str
    body: bytes
    awaited: bool


Decision = Receipt | dict[str, Any]
"""What the relay decided on an event: a receipt, or the problem with which it refused it."""

Decided = tuple[Waiting, Decision]
"""An event that was sent, and what came of it."""


def decision_row(decision: Decision) -> tuple[int | None, int | None, bool | None, bytes | None]:
    """A decision as the outbox keeps it: partition, position, duplicate, problem."""
    if isinstance(decision, Receipt):
        return decision.partition, decision.position, decision.duplicate, None
    return None, None, None, problem_json(decision)


def decision_of(
    partition: int | None, position: int | None, duplicate: int | None, problem: bytes | None
) -> Decision:
    """A decision read back; a receipt without the event's id."""
    return Receipt("", partition, position, bool(duplicate)) if problem is None else _problem(problem)


def refused_of(seq: int, body: bytes, problem: bytes, at: float) -> RefusedEvent:
    """A refused event read back."""
    return RefusedEvent(seq, decode_structured(body), _problem(problem), datetime.fromtimestamp(at, UTC))


def lost_of(count: int, last_at: float, reason: str) -> Lost:
    """What was lost, read back."""
    return Lost(count, datetime.fromtimestamp(last_at, UTC), reason)


def problem_json(problem: dict[str, Any]) -> bytes:
    """A problem document as the outbox keeps it."""
    return msgspec.json.encode(problem)


def _problem(text: bytes) -> dict[str, Any]:
    return msgspec.json.decode(text, type=dict[str, Any])
