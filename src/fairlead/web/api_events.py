# SPDX-License-Identifier: Apache-2.0
"""`GET /events`: the log, searched or followed (interface, section 3)."""

from __future__ import annotations

from fairlead.core.log import EventQuery
from fairlead.engine.queries.queries import Queries
from fairlead.web.intake import Intake
from fairlead.web.request import Request
from fairlead.web.response import Response, page_response
from fairlead.web.router import Route

PARAMETERS = ("key", "source", "id", "subject", "type", "accepted_after", "follow", "limit", "after")


class EventsApi:
    """The calls on events."""

    def __init__(self, intake: Intake, queries: Queries) -> None:
        self._intake = intake
        self._queries = queries

    def routes(self) -> list[Route]:
        return [Route("POST", "/events", self._intake.post), Route("GET", "/events", self.list)]

    async def list(self, request: Request) -> Response:
        """Events by partition and position; with `follow=true` it waits for the first new one, up to 30 s."""
        query = request.query(*PARAMETERS)
        wanted = EventQuery(
            key=query.text("key"),
            source=query.text("source"),
            id=query.text("id"),
            subject=query.text("subject"),
            type=query.text("type"),
            accepted_after=query.time("accepted_after"),
            limit=query.limit,
        )
        page = await self._queries.events(
            request.principal, wanted, after=query.after, follow=query.flag("follow")
        )
        return page_response(page)
