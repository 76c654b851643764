# SPDX-License-Identifier: Apache-2.0
"""Everything that can be looked at, in one place: events, lanes and statuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fairlead.engine.arrivals import Arrivals
from fairlead.engine.log_room import LogRoom
from fairlead.engine.queries.events import EventQueries
from fairlead.engine.queries.fates import Fates
from fairlead.engine.queries.lanes import LaneQueries
from fairlead.engine.queries.status import StatusQueries
from fairlead.engine.revisions import Revisions
from fairlead.ports import Clock, Store
from fairlead.telemetry import Telemetry

if TYPE_CHECKING:
    from fairlead.engine.sending.dispatcher import Dispatcher


class Queries:
    """The questions, by their nouns.

    Lists come as `Page`: `items` ready for JSON, `next`, and further `members` (`counts` of lanes).
    """

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        clock: Clock,
        telemetry: Telemetry,
        *,
        arrivals: Arrivals,
        revisions: Revisions,
        phase: Callable[[], str],
        log_room: LogRoom,
    ) -> None:
        events = EventQueries(store, Fates(store, dispatcher, revisions), arrivals, clock)
        lanes = LaneQueries(store, dispatcher, revisions)
        status = StatusQueries(store, dispatcher, clock, telemetry, phase=phase, log_room=log_room)
        self.events = events.events
        self.lanes = lanes.lanes
        self.skips = lanes.skips
        self.attempts = lanes.attempts
        self.channels = lanes.channels
        self.status = status.status
        self.statuses = status.statuses
        self.readiness = status.readiness
        self.metrics_text = status.metrics_text
