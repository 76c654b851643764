# SPDX-License-Identifier: Apache-2.0
"""`POST /events`: the one hot call. A request becomes events, the events are stored, then it is answered."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fairlead.core.codec import decode_request
from fairlead.core.log import Appended
from fairlead.engine.ingest import Ingest
from fairlead.web.request import Request
from fairlead.web.response import Response, json_response


class Intake:
    """Takes events over HTTP, in any content mode of the CloudEvents HTTP binding."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    async def post(self, request: Request) -> Response:
        """202 once every event is on disk, in input order. All or nothing.

        Raises:
            MalformedJson, InvalidEvent, UnsupportedMediaType, TooLarge: as the codec.
            Forbidden, EventConflict, StoreFull, StoreBusy, Overloaded, Stopping: as `Ingest.accept`.
        """
        request.query()
        limits = request.limits
        body = await request.body()
        content_type = request.header(b"content-type")
        events = decode_request(
            None if content_type is None else content_type.decode("latin-1"),
            request.headers,
            body,
            max_events=limits.batch_events,
            max_event_bytes=limits.event_bytes,
        )
        return accepted(await self._ingest.accept(request.principal, events))


class Place(msgspec.Struct, frozen=True):
    """Where one event stands in the log."""

    id: str
    source: str
    partition: int
    position: int
    duplicate: bool


class Accepted(msgspec.Struct, frozen=True):
    """The body of the answer, in input order."""

    accepted: list[Place]


def accepted(appended: Sequence[Appended]) -> Response:
    """The answer that says where each event stands."""
    places = []
    for one in appended:
        entry = one.entry
        event = entry.event
        places.append(Place(event.id, event.source, entry.partition, entry.position, one.duplicate))
    return json_response(Accepted(places), 202)
