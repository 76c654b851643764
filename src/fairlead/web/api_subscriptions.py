# SPDX-License-Identifier: Apache-2.0
"""Subscriptions over HTTP: make, read, change, delete (interface, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from fairlead.core.durations import format_time
from fairlead.core.subscription import State, Subscription
from fairlead.core.subscription_format import parse, render
from fairlead.engine.commands.subscribing import Put, Subscribing
from fairlead.engine.pages import Page
from fairlead.engine.queries.queries import Queries
from fairlead.errors import Fault, InvalidHeader, NotFound, RevisionMismatch, SubscriptionExists
from fairlead.ports import Clock
from fairlead.web.request import Request
from fairlead.web.response import NO_CONTENT, Response, json_response, page_response
from fairlead.web.router import Route

STATES: tuple[State, ...] = get_args(State)


class SubscriptionsApi:
    """The calls on subscriptions.

    Args:
        defaults: `[delivery]`, as a subscription's `config` would say it.
    """

    def __init__(
        self, subscribing: Subscribing, queries: Queries, clock: Clock, defaults: Mapping[str, Any]
    ) -> None:
        self._subscribing = subscribing
        self._queries = queries
        self._clock = clock
        self._defaults = defaults

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/subscriptions", self.create),
            Route("GET", "/subscriptions", self.list),
            Route("GET", "/subscriptions/{id}", self.get),
            Route("PUT", "/subscriptions/{id}", self.put),
            Route("DELETE", "/subscriptions/{id}", self.delete),
            Route("POST", "/subscriptions/{id}/pause", self.pause),
            Route("POST", "/subscriptions/{id}/resume", self.resume),
            Route("POST", "/subscriptions/{id}/secret", self.rotate_secret),
        ]

    async def create(self, request: Request) -> Response:
        """201; the relay makes the id."""
        request.query()
        document = await request.json()
        id = self._subscribing.new_id()
        wanted = self._parse(document, id, None, id_made=True)
        return await self._shown(await self._subscribing.create(request.principal, wanted))

    async def put(self, request: Request) -> Response:
        """201 for a new one, 200 for one replaced whole, 202 while its new filter is not in force yet.

        Preconditions come before the body: whoever lost a race learns that, and not what else was wrong.
        """
        request.query()
        id = request.params["id"]
        only_if_absent = _only_if_absent(request)
        revisions = request.revisions(b"if-match")
        document = await request.json()
        while True:
            previous = await self._find(request, id)
            if only_if_absent and previous is not None:
                raise SubscriptionExists(
                    f"there is a subscription {id!r} already; PUT without If-None-Match replaces it, "
                    f"fairlead subscriptions set {id} changes it"
                )
            expected = _expected(id, revisions, previous)
            wanted = self._parse(document, id, previous)
            try:
                put = await self._subscribing.create(
                    request.principal, wanted, replace=True, only_if_absent=only_if_absent, if_match=expected
                )
            except (RevisionMismatch, SubscriptionExists, NotFound):
                if only_if_absent or revisions:
                    raise
                continue  # changed meanwhile, and no revision was asked for: it replaces what stands now
            return await self._shown(put)

    async def get(self, request: Request) -> Response:
        """The subscription with its status."""
        request.query()
        return await self._one(await self._subscribing.get(request.principal, request.params["id"]))

    async def list(self, request: Request) -> Response:
        """Subscriptions by id."""
        query = request.query("state", "limit", "after")
        page = await self._subscribing.list(
            request.principal,
            state=query.choice("state", STATES),
            limit=query.limit,
            after=query.after,
        )
        statuses = await self._queries.statuses(page.items)
        items = [render(one, status) for one, status in zip(page.items, statuses, strict=True)]
        return page_response(Page(items, page.next))

    async def delete(self, request: Request) -> Response:
        """204, also when something is in flight."""
        request.query()
        await self._subscribing.delete(request.principal, request.params["id"])
        return NO_CONTENT

    async def pause(self, request: Request) -> Response:
        """Stop sending, keep events; repeatable."""
        request.query()
        (await request.members((), optional=True)).check()
        return await self._one(await self._subscribing.pause(request.principal, request.params["id"]))

    async def resume(self, request: Request) -> Response:
        """Be active, from any state; repeatable."""
        request.query()
        (await request.members((), optional=True)).check()
        return await self._one(await self._subscribing.resume(request.principal, request.params["id"]))

    async def rotate_secret(self, request: Request) -> Response:
        """A new secret; the one before it signs too until `previous_until`, or `signs_no_more`."""
        request.query()
        body = await request.members(("secret",), optional=True)
        secret = body.text("secret")
        body.check()
        rotation = await self._subscribing.rotate_secret(request.principal, request.params["id"], secret)
        shown = {"secret": rotation.secret, "previous_until": format_time(rotation.previous_until)}
        if rotation.answer_secret is not None:
            shown["answer_secret"] = rotation.answer_secret
        if rotation.silenced is not None:
            shown["signs_no_more"] = rotation.silenced
        return json_response(shown)

    def _parse(
        self, document: object, id: str, previous: Subscription | None, *, id_made: bool = False
    ) -> Subscription:
        now = self._clock.now()
        return parse(document, id=id, previous=previous, defaults=self._defaults, now=now, id_made=id_made)

    async def _find(self, request: Request, id: str) -> Subscription | None:
        try:
            return await self._subscribing.get(request.principal, id)
        except NotFound:
            return None

    async def _one(self, subscription: Subscription) -> Response:
        document = render(subscription, await self._queries.status(subscription))
        return json_response(document, headers={"etag": _etag(subscription)})

    async def _shown(self, put: Put) -> Response:
        subscription = put.subscription
        status = await self._queries.status(subscription)
        pending = put.pending and not put.created  # a new one has no older filter that could be in force
        if pending:
            status["filter_pending"] = True
        headers = {"etag": _etag(subscription)}
        if put.created:
            headers["location"] = f"/subscriptions/{subscription.id}"
        code = 201 if put.created else 202 if pending else 200
        return json_response(render(subscription, status, show=put.secret_shown), code, headers=headers)


def _etag(subscription: Subscription) -> str:
    return f'"{subscription.revision}"'


def _only_if_absent(request: Request) -> bool:
    tags = request.revisions(b"if-none-match")
    if tags:
        hint = "to change a revision that you know use If-Match"
        fault = Fault(header="if-none-match", detail="must be *", hint=hint)
        raise InvalidHeader("if-none-match must be * here", faults=[fault])
    return tags is not None


def _expected(id: str, revisions: list[int] | None, previous: Subscription | None) -> int | None:
    """The revision that `If-Match` asks for, None where it asks for none; raises RevisionMismatch."""
    if revisions is None:
        return None
    if previous is None:
        raise RevisionMismatch(f"there is no subscription {id!r}, and If-Match asks for one")
    if revisions and previous.revision not in revisions:
        raise RevisionMismatch(
            f"subscription {id!r} is at revision {previous.revision}; read it again, then change that",
            members={"revision": previous.revision},
        )
    return previous.revision
