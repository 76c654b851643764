# SPDX-License-Identifier: Apache-2.0
"""Events in: the only way into the log, for every source (design, section 3)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fairlead.core.event import Event
from fairlead.core.log import Appended
from fairlead.core.policy import Principal
from fairlead.engine.arrivals import Arrivals
from fairlead.engine.log_room import LogRoom
from fairlead.engine.permissions import ANY
from fairlead.engine.settings import EngineSettings
from fairlead.errors import FairleadError, Fault, Forbidden, Overloaded, Stopping, TooLarge
from fairlead.ports import Clock, Log
from fairlead.telemetry import Telemetry

if TYPE_CHECKING:
    from fairlead.engine.sending.dispatcher import Dispatcher


class Ingest:
    """Takes events: authorises, appends, hands over. What it returned is on disk, fsynced.

    Attributes:
        arrivals: rings after every append.
        room: what the log may still take.
    """

    def __init__(
        self, log: Log, dispatcher: Dispatcher, clock: Clock, settings: EngineSettings, telemetry: Telemetry
    ) -> None:
        self.arrivals = Arrivals()
        self.room = LogRoom(log, clock, settings.limits.log_bytes)
        self._log = log
        self._dispatcher = dispatcher
        self._clock = clock
        self._limits = settings.limits
        self._telemetry = telemetry
        self._waiting_bytes = 0
        self._waiting_requests = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        self._second_thoughts: set[asyncio.Task[None]] = set()

    async def accept(self, principal: Principal, events: Sequence[Event]) -> list[Appended]:
        """Append all events or none; return when they are on disk, in input order.

        The same event again is a duplicate and changes nothing. Cancelling leaves open whether they were
        taken, as a lost answer does: publish them again.

        Raises:
            Forbidden: no grant to publish; `faults` carry the indexes, and nothing was stored.
            TooLarge: an event above `event_bytes`, or more than `batch_events` of them.
            EventConflict: another event stands under the same source, id and key.
            StoreFull: the disk reserve or `log_bytes` is reached. StoreBusy: the store is locked.
            Overloaded: too much waits for a commit. Stopping: after `stop`.
            StoreFailed: the commit failed; serving ends.
        """
        if not events and not self._stopping:
            return []
        size = self._admit(principal, events)
        await self.room.demand()
        began = self._clock.monotonic()
        self._waiting_bytes += size
        self._waiting_requests += 1
        self._idle.clear()
        try:
            appended = await self._log.append(events, self._clock.now())
        except asyncio.CancelledError:
            self._hand_over_later(events)
            raise
        finally:
            self._waiting_bytes -= size
            self._waiting_requests -= 1
            if not self._waiting_requests:
                self._idle.set()
        self._dispatcher.offer(appended)
        self.arrivals.ring()
        telemetry = self._telemetry
        duplicates = sum([one.duplicate for one in appended])
        telemetry.duplicates.value += duplicates
        telemetry.accepted.value += len(appended) - duplicates
        telemetry.accept_seconds.observe(self._clock.monotonic() - began)
        return appended

    async def stop(self) -> None:
        """Take nothing more; return when what was being taken is on disk. Idempotent."""
        self._stopping = True
        self.arrivals.close()
        await self._idle.wait()
        if self._second_thoughts:
            await asyncio.gather(*self._second_thoughts)

    def _admit(self, principal: Principal, events: Sequence[Event]) -> int:
        """Refuse what may not or cannot be taken; the events' size in bytes."""
        if self._stopping:
            raise Stopping("the relay is stopping; send it again in a moment", retry_after_seconds=1)
        limits = self._limits
        if len(events) > limits.batch_events:
            raise TooLarge(
                f"{len(events)} events in one request; at most {limits.batch_events} are taken at once",
                members={"limit_events": limits.batch_events},
            )
        if not principal.may("publish", source=ANY, type=ANY):
            _authorise(principal, events)
        size = 0
        for index, event in enumerate(events):
            own = event.size
            if own > limits.event_bytes:
                raise _too_large(index, own, limits.event_bytes)
            size += own
        # A lone request is taken whatever its size: it must not wait for itself.
        full = self._waiting_requests >= limits.waiting_requests
        if self._waiting_requests and (full or self._waiting_bytes + size > limits.waiting_bytes):
            raise Overloaded(
                f"{self._waiting_requests} requests with {self._waiting_bytes} bytes wait for the disk",
                retry_after_seconds=1,
            )
        return size

    def _hand_over_later(self, events: Sequence[Event]) -> None:
        """The caller went away, the commit did not: learn where the events stand and tell the dispatcher.

        Appending them again is what finds out: it waits behind the first append and changes nothing.
        """

        async def hand_over() -> None:
            try:
                appended = await self._log.append(events, self._clock.now())
            except FairleadError:
                return  # then they were not stored, and nobody was told that they were
            self._dispatcher.offer([Appended(one.entry, duplicate=False) for one in appended])
            self.arrivals.ring()

        task = asyncio.get_running_loop().create_task(hand_over())
        self._second_thoughts.add(task)
        task.add_done_callback(self._second_thoughts.discard)


def _authorise(principal: Principal, events: Sequence[Event]) -> None:
    faults = [
        Fault(
            detail=f"{principal.name!r} may not publish type {event.type!r} from source {event.source!r}",
            index=index,
            pointer="/source",
            hint="use a key whose grant to publish covers them",
        )
        for index, event in enumerate(events)
        if not principal.may("publish", source=event.source, type=event.type)
    ]
    if faults:
        raise Forbidden(faults[0].detail, faults=faults)


def _too_large(index: int, size: int, limit: int) -> TooLarge:
    fault = Fault(detail=f"the event has {size} bytes; at most {limit} are taken", index=index, pointer="")
    return TooLarge(fault.detail, faults=[fault], members={"limit_bytes": limit})
