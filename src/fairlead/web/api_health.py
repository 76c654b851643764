# SPDX-License-Identifier: Apache-2.0
"""Is it alive, is it ready, how does it go, what can it do (interface, section 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fairlead.engine.queries.queries import Queries
from fairlead.engine.sourcing.sources import Sources
from fairlead.telemetry import CONTENT_TYPE
from fairlead.web.request import Request
from fairlead.web.response import Response, json_response
from fairlead.web.router import Route

PROBED = frozenset((b"/healthz", b"/readyz"))


class HealthApi:
    """The calls that machines make. All but `/metrics` never need a login.

    Args:
        document: gives the OpenAPI document; asked for once.
    """

    def __init__(self, queries: Queries, sources: Sources, document: Callable[[], dict[str, Any]]) -> None:
        self._queries = queries
        self._sources = sources
        self._document = document
        self._openapi: Response | None = None

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/healthz", self.healthz, login=False),
            Route("GET", "/readyz", self.readyz, login=False),
            Route("GET", "/openapi.json", self.openapi, login=False),
            Route("GET", "/metrics", self.metrics),
        ]

    async def healthz(self, request: Request) -> Response:
        """200 as long as the process answers."""
        request.query()
        return json_response({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """200 when events are taken and delivered, else 503; strangers learn only that.

        A source that is down is no reason for 503: the relay is not less ready for its callers.
        """
        request.query()
        readiness = await self._queries.readiness()
        if sources := self._sources.status():
            readiness["sources"] = sources
        shown = readiness if request.local else {"status": readiness["status"]}
        return json_response(shown, 200 if readiness["status"] == "ready" else 503)

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        request.query()
        text = await self._queries.metrics_text(request.principal) + self._sources.metrics_text()
        return Response(200, text.encode(), ((b"content-type", CONTENT_TYPE.encode()),))

    async def openapi(self, request: Request) -> Response:
        """This interface as OpenAPI 3.1."""
        request.query()
        if self._openapi is None:
            self._openapi = json_response(self._document())
        return self._openapi
