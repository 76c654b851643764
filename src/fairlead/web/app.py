# SPDX-License-Identifier: Apache-2.0
"""The relay's HTTP interface as one ASGI application."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fairlead.core.policy import ANYONE
from fairlead.engine.node import Node
from fairlead.engine.sourcing.sources import Sources
from fairlead.errors import Problem
from fairlead.ports import Authenticator, Clock
from fairlead.web.access import Access
from fairlead.web.api_acks import AcksApi
from fairlead.web.api_events import EventsApi
from fairlead.web.api_health import PROBED, HealthApi
from fairlead.web.api_keys import KeyBook, KeysApi
from fairlead.web.api_lanes import LanesApi
from fairlead.web.api_rejects import Bridge, BridgesApi, Rejecter, RejectsApi
from fairlead.web.api_subscriptions import SubscriptionsApi
from fairlead.web.body import Disconnected, Receive
from fairlead.web.intake import Intake
from fairlead.web.limits import BodyLimits
from fairlead.web.openapi import openapi_document
from fairlead.web.problems import defect_response, problem_response
from fairlead.web.request import Request
from fairlead.web.response import Response, Send, send_response
from fairlead.web.router import Route, Router

Scope = dict[str, Any]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}\Z")


class WebApp:
    """The ASGI application; made by `create_app`.

    Attributes:
        router: the calls there are.
    """

    def __init__(self, routes: Sequence[Route], access: Access, limits: BodyLimits) -> None:
        self.router = Router(routes)
        self._access = access
        self._limits = limits
        self._id_prefix = f"{time.time_ns() // 1_000_000:x}"
        self._serial = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _lifespan(scope, receive, send)
            return
        request = self._request(scope, receive)
        try:
            response = await self._answer(request)
        except Problem as problem:
            response = problem_response(problem, request.id)
        except Disconnected:
            return  # there is nobody to answer
        except Exception as error:  # whatever it is: the caller gets an answer, the log the rest
            response = defect_response(error, request.id, f"{request.method} {request.path}")
        await send_response(send, response, request.id.encode())

    def _request(self, scope: Scope, receive: Receive) -> Request:
        headers = scope["headers"]
        named = dict(headers)
        given = named.get(b"x-request-id")
        if given is not None and _REQUEST_ID.match(given):
            id = given.decode()
        else:
            id = f"{self._id_prefix}-{next(self._serial):x}"
        return Request(
            scope["method"],
            scope["path"],
            scope.get("raw_path") or scope["path"].encode(),
            scope.get("query_string", b""),
            headers,
            named,
            receive,
            id,
            self._limits,
            scope.get("client"),
        )

    async def _answer(self, request: Request) -> Response:
        access, named = self._access, request.named
        is_open = await access.open()
        is_probe = request.raw_path in PROBED
        access.check_browser(named.get(b"host"), named.get(b"origin"), is_open=is_open, is_probe=is_probe)
        route, request.params = self.router.find(request.method, request.raw_path)
        if is_open or not route.login:
            request.principal = ANYONE
        else:
            request.principal = await access.principal(request.texts)
        return await route.handler(request)


def create_app(
    node: Node,
    *,
    authenticators: Sequence[Authenticator],
    keys: KeyBook,
    bridges: Mapping[str, Bridge],
    sources: Sources,
    clock: Clock,
    limits: BodyLimits,
    delivery_defaults: Mapping[str, Any],
    loopback: bool,
) -> WebApp:
    """The application over a node that has been started.

    Args:
        authenticators: asked in turn who calls, once `keys` says that authentication is configured.
        keys: the API keys that `/keys` manages; usually one of the authenticators too.
        bridges: foreign formats by name, at `/bridges/{name}/`.
        sources: the queues that events are taken from.
        delivery_defaults: `[delivery]` as a subscription's `config` would say it.
        loopback: the relay listens on loopback only: then no login is needed until one is configured.
    """
    access = Access(authenticators, keys.configured, loopback=loopback)
    rejecters: dict[str, Rejecter] = {
        **{bridge.source: bridge for bridge in bridges.values()},
        **sources.by_name,
    }
    parts = (
        EventsApi(Intake(node.ingest), node.queries),
        SubscriptionsApi(node.subscribing, node.queries, clock, delivery_defaults),
        LanesApi(node.operating, node.queries),
        AcksApi(node.answers),
        KeysApi(keys, clock),
        RejectsApi(node.store.rejects, rejecters),
        BridgesApi(bridges),
        HealthApi(node.queries, sources, openapi_document),
    )
    return WebApp([route for part in parts for route in part.routes()], access, limits)


async def _lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Nothing to start or stop here: whoever made the node does. Anything but `lifespan` is not for us."""
    while scope["type"] == "lifespan":
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
