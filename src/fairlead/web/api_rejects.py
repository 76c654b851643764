# SPDX-License-Identifier: Apache-2.0
"""Foreign formats in, and what of them could not be taken (interface, section 6)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from fairlead.core.durations import format_time
from fairlead.core.log import PAGE_BYTES, Appended
from fairlead.core.policy import Principal
from fairlead.engine.pages import Page, from_cursor, to_cursor
from fairlead.engine.permissions import ANY
from fairlead.errors import (
    EventConflict,
    Fault,
    Forbidden,
    InvalidEvent,
    MalformedJson,
    NotFound,
    TooLarge,
    UnsupportedMediaType,
)
from fairlead.ports import Reject, Rejects
from fairlead.web.body import read_beginning, too_large
from fairlead.web.intake import accepted
from fairlead.web.request import Request
from fairlead.web.response import NO_CONTENT, Response, page_response
from fairlead.web.router import Route


class Bridge(Protocol):
    """One foreign format (`fairlead.bridges`).

    Attributes:
        source: of its events, and of its rejects.
    """

    source: str

    async def take(
        self, principal: Principal, path: str, headers: Mapping[str, str], body: bytes
    ) -> Sequence[Appended]:
        """Translate and store. What cannot be translated is kept as a reject, and its Problem raised."""

    async def keep_beginning(
        self, principal: Principal, path: str, headers: Mapping[str, str], body: bytes, size_bytes: int
    ) -> None:
        """Keep the beginning of what is too large, as a reject. Raises Forbidden as `take` would."""

    async def take_again(self, principal: Principal, reject: Reject) -> Sequence[Appended]:
        """Translate a reject anew. Raises the Problem where that is still not possible."""


class Rejecter(Protocol):
    """Whoever kept a reject and can try it again: a bridge, or a source of messages."""

    async def take_again(self, principal: Principal, reject: Reject) -> Sequence[Appended]:
        """As `Bridge.take_again`."""


class StillRejected(InvalidEvent):
    """What was rejected before is rejected again."""

    title, status = "It still cannot be taken as an event", 422


class BridgesApi:
    """`PUT /bridges/{name}/…` for each bridge; the path after the name is theirs."""

    def __init__(self, bridges: Mapping[str, Bridge]) -> None:
        self._bridges = bridges

    def routes(self) -> list[Route]:
        return [
            Route("PUT", f"/bridges/{name}/{{path...}}", partial(self.put, bridge))
            for name, bridge in self._bridges.items()
        ]

    async def put(self, bridge: Bridge, request: Request) -> Response:
        """204 once it is on disk."""
        path = request.params["path"]
        headers, limits = request.texts, request.limits
        body, size = await read_beginning(
            request.receive,
            request.header(b"content-length"),
            keep_bytes=limits.event_bytes,
            most_bytes=limits.request_bytes,
        )
        if size > len(body):
            # The sender may never look at the answer (Imagefactory does not), so people must be able to.
            await bridge.keep_beginning(request.principal, path, headers, body, size)
            raise too_large(size, limits.event_bytes)
        await bridge.take(request.principal, path, headers, body)
        return NO_CONTENT


class RejectsApi:
    """The calls on rejects.

    Args:
        rejecters: by the `source` of the rejects they keep.
    """

    def __init__(self, rejects: Rejects, rejecters: Mapping[str, Rejecter]) -> None:
        self._rejects = rejects
        self._rejecters = rejecters

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/rejects", self.list),
            Route("DELETE", "/rejects/{id}", self.delete),
            Route("POST", "/rejects/{id}/replay", self.replay),
        ]

    async def list(self, request: Request) -> Response:
        """Rejects, oldest first."""
        query = request.query("source", "limit", "after")
        source = query.text("source")
        _require(request.principal, "read", source or ANY)
        found = await self._rejects.rejects(source, from_cursor(query.after, str), query.limit + 1)
        items = [_shown(one) for one in found[: query.limit]]
        full = len(found) > query.limit or sum(len(one.body) for one in found) >= PAGE_BYTES
        following = to_cursor(found[: query.limit][-1].id) if full else None
        return page_response(Page(items, following))

    async def delete(self, request: Request) -> Response:
        """204; it is gone for good."""
        request.query()
        reject = await self._find(request)
        await self._rejects.delete_reject(reject.id)
        return NO_CONTENT

    async def replay(self, request: Request) -> Response:
        """202 as `POST /events`, and the reject is gone; 422 where it still cannot be taken."""
        request.query()
        (await request.members((), optional=True)).check()
        reject = await self._find(request)
        rejecter = self._rejecters.get(reject.source)
        if rejecter is None:
            raise StillRejected(f"nothing here takes what comes from {reject.source!r}")
        if reject.size_bytes > len(reject.body):
            raise StillRejected(
                f"only the first {len(reject.body)} of its {reject.size_bytes} bytes were kept "
                "(limits.event_bytes); it must be sent anew",
                members={"limit_bytes": len(reject.body)},
            )
        try:
            appended = await rejecter.take_again(request.principal, reject)
        except (MalformedJson, InvalidEvent, UnsupportedMediaType, TooLarge, EventConflict) as error:
            raise StillRejected(error.detail, faults=error.faults) from error
        await self._rejects.delete_reject(reject.id)
        return accepted(appended)

    async def _find(self, request: Request) -> Reject:
        id = request.params["id"]
        _require(request.principal, "operate", None)
        reject = await self._rejects.reject(id)
        if reject is None:
            raise NotFound(f"there is no reject {id!r}; GET /rejects lists those there are")
        _require(request.principal, "operate", reject.source)
        return reject


def _require(principal: Principal, action: Any, source: str | None) -> None:
    actions = {action, "operate"}
    if not any(principal.may(one, source=source, subscription=ANY) for one in actions):
        where = "" if source in (None, ANY) else f" of {source!r}"
        raise Forbidden(
            f"{principal.name!r} may not {action} rejects{where}; it needs a grant that says so",
            faults=[Fault(header="authorization", detail=f"has no grant to {action} rejects")],
        )


def _shown(reject: Reject) -> dict[str, Any]:
    return {
        "id": reject.id,
        "source": reject.source,
        "received_at": format_time(reject.received_at),
        "reason": reject.reason,
        "headers": dict(reject.headers),
        "body_base64": b64encode(reject.body).decode(),
        "size_bytes": reject.size_bytes,
    }
