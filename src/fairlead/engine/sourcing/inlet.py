# SPDX-License-Identifier: Apache-2.0
"""One source: its messages as events or as rejects, its state, and what it has counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from fairlead.core.durations import format_time, parse_time
from fairlead.core.event import Event
from fairlead.core.log import Appended
from fairlead.core.policy import Principal
from fairlead.core.source_message import SourceMessage, message_of, reject_headers
from fairlead.engine.ingest import Ingest
from fairlead.engine.reject_ids import RejectIds
from fairlead.errors import Fault, Problem, TooLarge
from fairlead.ports import Clock, Received, Reject, Source

State = Literal["up", "down", "waiting", "stopped"]
Format = Callable[[SourceMessage], Sequence[Event]]
"""The events of a whole message, always the same; raises the Problem that says why there are none."""

_log = logging.getLogger(__name__)


class Arrived(msgspec.Struct, frozen=True):
    """A message with what it is: events, or the reason why not (then there are none)."""

    inlet: Inlet
    received: Received
    events: Sequence[Event]
    reason: str | None = None

    @property
    def time(self) -> float | None:
        """When it was sent, as far as its first event says."""
        try:
            return parse_time(self.events[0].time or "") if self.events else None
        except ValueError:
            return None


class Inlet:
    """A source and what is known of it.

    Args:
        name: in the configuration; the `source` of its rejects.
        format: reads its messages.
        event_bytes: how much of a reject's body is kept.

    Attributes:
        source: the port, for `open`, `acknowledge` and `close`.
        accepted, duplicates, rejected: since the start.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        format: Format,
        ingest: Ingest,
        clock: Clock,
        *,
        event_bytes: int,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.name = name
        self.source = source
        self.accepted = 0
        self.duplicates = 0
        self.rejected = 0
        self._format = format
        self._ingest = ingest
        self._clock = clock
        self._event_bytes = event_bytes
        self._reject_ids = RejectIds(random_bytes)
        self._trouble = ""
        self._stopped = False
        self._shown: tuple[State, str] = ("down", "it has not been tried yet")
        self._since = clock.now()

    # -- messages ----------------------------------------------------------------------------------------

    def read(self, received: Received) -> Arrived:
        """What a message is. Never raises: whatever is wrong with one message is its own trouble."""
        try:
            return Arrived(self, received, self._events(received.message))
        except Problem as problem:
            return Arrived(self, received, (), reason_of(problem))
        except Exception as error:  # a defect of ours must not stop the queue, nor lose the message
            name = type(error).__name__
            _log.exception("a message could not be read", extra={"source": self.name})
            return Arrived(self, received, (), f"internal: a defect in the relay ({name}); its log says more")

    def reject_of(self, received: Received, reason: str) -> Reject:
        """What is kept of a message that cannot be taken; rejects are listed in the order of these calls."""
        message, now = received.message, self._clock.now()
        body = message.body[: self._event_bytes]
        if message.size_bytes > len(body):
            reason += f"; only the first {len(body)} of its {message.size_bytes} bytes are kept"
        id = self._reject_ids.next(now)
        return Reject(id, self.name, now, reason, reject_headers(message), body, message.size_bytes)

    async def take_again(self, principal: Principal, reject: Reject) -> Sequence[Appended]:
        """Read a reject anew, as the configuration is now, and store its events; the caller deletes it.

        Raises:
            Problem: it still cannot be taken, or as `Ingest.accept`.
        """
        events = self._events(message_of(reject.headers, reject.body, reject.size_bytes))
        return await self._ingest.accept(principal, events)

    def _events(self, message: SourceMessage) -> Sequence[Event]:
        if message.is_cut:
            limit = self._event_bytes
            detail = f"the message has {message.size_bytes} bytes; an event may have {limit}"
            hint = "send a reference to the data instead, or raise [limits] event_bytes"
            raise TooLarge(f"{detail}; {hint}", faults=[Fault(pointer="", detail=detail, hint=hint)])
        return self._format(message)

    # -- state -------------------------------------------------------------------------------------------

    def waits(self, why: str) -> None:
        """Nothing is taken for now, or ("") it goes on."""
        if why != self._trouble:
            self._trouble = why
            self.note()

    def stopped(self) -> None:
        """Nothing is taken any more."""
        self._stopped = True
        self.note()

    def note(self) -> None:
        """Look at the state; note when it changed, and say so in the log."""
        now = self._look()
        if now == self._shown:
            return
        if now[0] != self._shown[0]:
            self._since = self._clock.now()
        self._shown = now
        state, detail = now
        level = logging.INFO if state in ("up", "stopped") else logging.WARNING
        if state == "down" and self.source.health.begins:
            level = logging.DEBUG
        why = {"detail": detail} if detail else {}
        _log.log(level, "source %s", state, extra={"source": self.name, **why})

    def status(self) -> dict[str, Any]:
        """`name`, `state`, `since`, `detail`, `accepted`, `duplicates`, `rejected`."""
        state, detail = self._shown
        return {
            "name": self.name,
            "state": state,
            "since": format_time(self._since),
            "detail": detail,
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
        }

    def _look(self) -> tuple[State, str]:
        if self._stopped:
            return "stopped", ""
        health = self.source.health
        if self._trouble:
            return "waiting", self._trouble
        return ("up", "") if health.up else ("down", health.detail)


def reason_of(problem: Problem) -> str:
    """A problem as the reason of a reject."""
    return f"{problem.type}: {problem.detail}"
