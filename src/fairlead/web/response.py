# SPDX-License-Identifier: Apache-2.0
"""An HTTP answer as a value, and how it is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from fairlead.engine.pages import Page

Send = Callable[[dict[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON = b"application/json"
_AS_JSON: tuple[Header, ...] = ((b"content-type", JSON),)
_encode = msgspec.json.Encoder(decimal_format="number").encode


class Response(msgspec.Struct, frozen=True):
    """One answer; `content-length`, `x-request-id` and `cache-control` are added when it is sent."""

    status: int
    body: bytes = b""
    headers: tuple[Header, ...] = ()


NO_CONTENT = Response(204)
_NOT_CACHED: Header = (b"cache-control", b"no-store")


def json_response(
    document: object, status: int = 200, *, headers: Mapping[str, str] | None = None
) -> Response:
    """A document as JSON."""
    if not headers:
        return Response(status, _encode(document), _AS_JSON)
    named = tuple((name.lower().encode(), value.encode()) for name, value in headers.items())
    return Response(status, _encode(document), (*_AS_JSON, *named))


def page_response(page: Page[Any]) -> Response:
    """A list (interface, section 1)."""
    return json_response({"items": page.items, "next": page.next, **page.members})


async def send_response(send: Send, response: Response, request_id: bytes) -> None:
    """Send an answer whole. Answers are never cached: what they show changes by itself."""
    headers = [*response.headers, (b"x-request-id", request_id), _NOT_CACHED]
    if response.status != 204:
        headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
