# SPDX-License-Identifier: Apache-2.0
"""A subscription from close by: lanes, skips, attempts, channels, replays (interface, sections 4 to 6)."""

from __future__ import annotations

from typing import Literal, TypedDict, get_args

from fairlead.core.durations import parse_time
from fairlead.core.members import Members
from fairlead.core.outcome import OutcomeKind
from fairlead.engine.commands.operating import LaneState, Operating
from fairlead.engine.commands.replaying import ReplayRequest
from fairlead.engine.queries.queries import Queries
from fairlead.web.request import Body, Request
from fairlead.web.response import Response, json_response, page_response
from fairlead.web.router import Route

MOST_KEYS = 1000
LANE_STATES: tuple[LaneState, ...] = get_args(LaneState)
OUTCOMES: tuple[OutcomeKind, ...] = get_args(OutcomeKind)
RECEIVERS: tuple[Literal["plain", "library"], ...] = ("plain", "library")
SETTLES: tuple[Literal["applied", "confirm"], ...] = ("applied", "confirm")
_GREATEST = 2**63 - 1


class LanesApi:
    """What operators look at, and what they do about it."""

    def __init__(self, operating: Operating, queries: Queries) -> None:
        self._operating = operating
        self._queries = queries

    def routes(self) -> list[Route]:
        at = "/subscriptions/{id}"
        return [
            Route("POST", f"{at}/replay", self.replay),
            Route("GET", f"{at}/lanes", self.lanes),
            Route("POST", f"{at}/lanes/retry", self.retry),
            Route("POST", f"{at}/lanes/release", self.release),
            Route("POST", f"{at}/lanes/skip", self.skip),
            Route("GET", f"{at}/skips", self.skips),
            Route("GET", f"{at}/attempts", self.attempts),
            Route("GET", f"{at}/channels", self.channels),
        ]

    async def lanes(self, request: Request) -> Response:
        """Held and parked lanes."""
        query = request.query("state", "limit", "after")
        page = await self._queries.lanes(
            request.principal,
            request.params["id"],
            state=query.choice("state", LANE_STATES),
            limit=query.limit,
            after=query.after,
        )
        return page_response(page)

    async def skips(self, request: Request) -> Response:
        """What was not delivered on purpose."""
        query = request.query("limit", "after")
        page = await self._queries.skips(
            request.principal, request.params["id"], limit=query.limit, after=query.after
        )
        return page_response(page)

    async def attempts(self, request: Request) -> Response:
        """Attempts, newest first."""
        query = request.query("key", "outcome", "partition", "position", "limit", "after")
        page = await self._queries.attempts(
            request.principal,
            request.params["id"],
            key=query.text("key"),
            outcome=query.choice("outcome", OUTCOMES),
            partition=query.integer("partition"),
            position=query.integer("position"),
            limit=query.limit,
            after=query.after,
        )
        return page_response(page)

    async def channels(self, request: Request) -> Response:
        """Every channel, by partition."""
        query = request.query("limit", "after")
        page = await self._queries.channels(
            request.principal, request.params["id"], limit=query.limit, after=query.after
        )
        return page_response(page)

    async def retry(self, request: Request) -> Response:
        """Try heads now."""
        named = await _lanes_named(request)
        return _affected(await self._operating.retry(request.principal, request.params["id"], **named))

    async def release(self, request: Request) -> Response:
        """Give lanes a new schedule."""
        named = await _lanes_named(request)
        return _affected(await self._operating.release(request.principal, request.params["id"], **named))

    async def skip(self, request: Request) -> Response:
        """Drop the head of a lane, on record."""
        request.query()
        body = await request.members(("key", "position", "reason"))
        key = _any_text(body, "key")
        if "position" not in body:
            body.fault("position", "is missing", "GET …/lanes shows the head's position")
        position = body.integer("position", 0, 1, _GREATEST)
        reason = body.text("reason") or ""
        if len(reason) > 1000:
            body.fault("reason", "must be at most 1000 characters")
        body.check()
        id = request.params["id"]
        skipped = self._operating.skip(request.principal, id, key=key or "", position=position, reason=reason)
        return _affected(await skipped)

    async def replay(self, request: Request) -> Response:
        """Begin again at an earlier place."""
        request.query()
        body = await request.members(("position", "time", "event", "key", "receiver", "settles"))
        wanted = _replay(body)
        body.check()
        replayed = await self._operating.replay(request.principal, request.params["id"], wanted)
        return json_response(replayed.document(), 202)


class LanesNamed(TypedDict):
    key: str | None
    keys: list[str] | None
    state: LaneState | None


async def _lanes_named(request: Request) -> LanesNamed:
    """The body of `retry` and `release`: exactly one of `key`, `keys` and `state`."""
    request.query()
    body = await request.members(("key", "keys", "state"))
    given = [name for name in ("key", "keys", "state") if name in body]
    if len(given) != 1 and not body.faults:
        body.whole("must have exactly one of key, keys and state", 'send {"key":"…"} or {"state":"parked"}')
    key = _any_text(body, "key") if "key" in body else None
    keys: list[str] | None = None
    if "keys" in body:
        keys = [key for key in body.array("keys") if isinstance(key, str)]
        if len(keys) != len(body.array("keys")) or not 1 <= len(keys) <= MOST_KEYS:
            body.fault("keys", f"must be 1 to {MOST_KEYS} strings")
    state = body.one_of("state", LANE_STATES)
    body.check()
    return {"key": key, "keys": keys, "state": state}


def _replay(body: Body) -> ReplayRequest:
    """What to replay; faults are noted in the body."""
    given = [name for name in ("position", "time", "event") if name in body]
    if len(given) != 1 and not body.faults:
        body.whole("must have exactly one of position, time and event")
    position = event = time = None
    if "position" in body:
        place = body.nested("position", ("partition", "position"))
        _required(place, "partition", "position")
        position = (place.integer("partition", 0, 0, 65_535), place.integer("position", 1, 1, _GREATEST))
    if "event" in body:
        named = body.nested("event", ("source", "id"))
        event = (named.required_text("source"), named.required_text("id"))
    if "time" in body:
        try:
            time = parse_time(body.text("time") or "")
        except ValueError as error:
            body.fault("time", str(error))
    return ReplayRequest(
        position=position,
        time=time,
        event=event,
        key=_any_text(body, "key") if "key" in body else None,
        receiver=body.one_of("receiver", RECEIVERS),
        settles=body.one_of("settles", SETTLES),
    )


def _required(members: Members, *names: str) -> None:
    for name in names:
        if name not in members:
            members.fault(name, "is missing")


def _any_text(body: Body, name: str) -> str | None:
    """A key may hold any characters: it is what publishers made of it."""
    value = body.raw(name)
    if not isinstance(value, str) or not value:
        body.fault(name, "is missing" if value is None else "must be a string that is not empty")
        return None
    return value


def _affected(count: int) -> Response:
    return json_response({"affected": count})
