# SPDX-License-Identifier: Apache-2.0
"""API keys over HTTP: make, list, revoke (interface, section 6). Only an `admin` may."""

from __future__ import annotations

from typing import Any, Protocol

from fairlead.core.durations import format_time, nearest, parse_time
from fairlead.core.members import Members
from fairlead.core.policy import ACTIONS, Action, Grant, Principal
from fairlead.engine.pages import Page, from_cursor, to_cursor
from fairlead.engine.permissions import ANY
from fairlead.errors import Forbidden, NotFound
from fairlead.ports import ApiKey, Clock
from fairlead.web.request import Body, Request
from fairlead.web.response import NO_CONTENT, Response, json_response, page_response
from fairlead.web.router import Route

MOST_GRANTS = 100
MOST_PATTERNS = 1000
PATTERNS = ("sources", "types", "subscriptions")


class KeyBook(Protocol):
    """Where the keys are (`fairlead.auth.keys`)."""

    async def configured(self) -> bool: ...

    async def add(
        self, name: str, grants: tuple[Grant, ...], expires_at: float | None
    ) -> tuple[ApiKey, str]: ...

    async def list(self) -> list[ApiKey]: ...

    async def revoke(self, id: str) -> bool: ...


class KeysApi:
    """The calls on keys."""

    def __init__(self, keys: KeyBook, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/keys", self.create),
            Route("GET", "/keys", self.list),
            Route("DELETE", "/keys/{id}", self.revoke),
        ]

    async def create(self, request: Request) -> Response:
        """201 with the key itself, this once."""
        request.query()
        _require_admin(request.principal)
        body = await request.members(("name", "grants", "expires_at"))
        name = body.required_text("name")
        if len(name) > 200:
            body.fault("name", "must be at most 200 characters")
        grants = _grants(body)
        expires_at = self._expiry(body)
        body.check()
        key, text = await self._keys.add(name, grants, expires_at)
        return json_response({**_shown(key), "key": text}, 201, headers={"location": f"/keys/{key.id}"})

    async def list(self, request: Request) -> Response:
        """Every key by creation, without the key itself."""
        query = request.query("limit", "after")
        _require_admin(request.principal)
        place = from_cursor(query.after, tuple[float, str])
        keys = sorted(await self._keys.list(), key=_place)
        found = [key for key in keys if place is None or _place(key) > place]
        items = [_shown(key) for key in found[: query.limit]]
        following = to_cursor(_place(found[query.limit - 1])) if len(found) > query.limit else None
        return page_response(Page(items, following))

    async def revoke(self, request: Request) -> Response:
        """204; calls with the key are refused from now on."""
        request.query()
        _require_admin(request.principal)
        id = request.params["id"]
        if not await self._keys.revoke(id):
            raise NotFound(f"there is no key {id!r}; GET /keys lists those there are")
        return NO_CONTENT

    def _expiry(self, body: Body) -> float | None:
        text = body.text("expires_at")
        if text is None:
            return None
        try:
            expires_at = parse_time(text)
        except ValueError as error:
            body.fault("expires_at", str(error))
            return None
        if expires_at <= self._clock.now():
            body.fault("expires_at", "must lie in the future")
        return expires_at


def _require_admin(principal: Principal) -> None:
    """Raises Forbidden; an admin of some sources could make a key for all of them, so may not either."""
    if not principal.may("admin", source=ANY, type=ANY, subscription=ANY):
        raise Forbidden(
            f"{principal.name!r} may not manage keys; it needs a key with an `admin` grant without limits"
        )


def _grants(body: Body) -> tuple[Grant, ...]:
    given = body.array("grants")
    if not 1 <= len(given) <= MOST_GRANTS:
        body.fault("grants", f"must be 1 to {MOST_GRANTS} grants", 'such as [{"may":["publish"]}]')
        return ()
    grants = []
    for at, one in enumerate(given):
        members = Members(one, f"/grants/{at}", body.faults, ("may", *PATTERNS))
        sources, types, subscriptions = (_patterns(members, name) for name in PATTERNS)
        grants.append(Grant(_may(members), sources, types, subscriptions))
    return tuple(grants)


def _may(members: Members) -> tuple[Action, ...]:
    given = members.array("may")
    if not given:
        members.fault("may", "must name at least one action", f"there are {', '.join(ACTIONS)}")
    for name in given:
        if name not in ACTIONS:
            meant = nearest(name, ACTIONS) if isinstance(name, str) else None
            hint = f"did you mean {meant}?" if meant else f"there are {', '.join(ACTIONS)}"
            members.fault("may", "names an action that there is not", hint)
    return tuple(action for action in ACTIONS if action in given)


def _patterns(members: Members, name: str) -> tuple[str, ...] | None:
    if name not in members:
        return None
    patterns = members.array(name)
    texts = tuple(one for one in patterns if isinstance(one, str) and one)
    if len(texts) != len(patterns) or not 1 <= len(texts) <= MOST_PATTERNS:
        members.fault(name, f"must be 1 to {MOST_PATTERNS} strings", "leave it out for all")
    for text in texts:
        if "*" in text[:-1]:
            members.fault(name, "may have * at the end only")
    return texts


def _place(key: ApiKey) -> tuple[float, str]:
    return key.created_at, key.id


def _shown(key: ApiKey) -> dict[str, Any]:
    """A key for people; what it is itself is not kept."""
    grants = []
    for grant in key.grants:
        shown: dict[str, Any] = {"may": list(grant.may)}
        shown |= {name: list(value) for name in PATTERNS if (value := getattr(grant, name)) is not None}
        grants.append(shown)
    return {
        "id": key.id,
        "name": key.name,
        "grants": grants,
        "created_at": format_time(key.created_at),
        "expires_at": None if key.expires_at is None else format_time(key.expires_at),
        "last_used_at": None if key.last_used_at is None else format_time(key.last_used_at),
    }
