# SPDX-License-Identifier: Apache-2.0
"""Reading a request's body, bounded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fairlead.errors import FairleadError, TooLarge

Receive = Callable[[], Awaitable[dict[str, Any]]]


class Disconnected(FairleadError):
    """The client went away before its body was complete: there is nobody to answer."""


async def read_body(receive: Receive, declared: bytes | None, limit_bytes: int) -> bytes:
    """The whole body.

    Args:
        declared: the `Content-Length` header; a longer body is refused before it is read, and one of unknown
            length as soon as it is too long.

    Raises:
        TooLarge: more than `limit_bytes`. Disconnected: the client went away.
    """
    if declared is not None and int(declared) > limit_bytes:
        raise too_large(int(declared), limit_bytes)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > limit_bytes:
            raise too_large(len(body), limit_bytes)
        return body
    parts: list[bytes] = []
    size = 0
    while message["type"] == "http.request":
        part = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise too_large(None, limit_bytes)
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()
    raise Disconnected("the client went away before its body was complete")


async def read_beginning(
    receive: Receive, declared: bytes | None, *, keep_bytes: int, most_bytes: int
) -> tuple[bytes, int]:
    """The first `keep_bytes` of a body, and how long it is, as far as it was told or `most_bytes` go.

    Raises:
        Disconnected: the client went away.
    """
    kept = bytearray()
    size = 0
    while size <= most_bytes:
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected("the client went away before its body was complete")
        part = message.get("body", b"")
        kept += part[: keep_bytes - len(kept)]
        size += len(part)
        if not message.get("more_body"):
            break
    return bytes(kept), size if declared is None else int(declared)


def too_large(size: int | None, limit_bytes: int) -> TooLarge:
    """The problem of a body beyond a limit."""
    found = "goes on and on" if size is None else f"has {size} bytes"
    return TooLarge(
        f"the body {found}; at most {limit_bytes} bytes are taken", members={"limit_bytes": limit_bytes}
    )
