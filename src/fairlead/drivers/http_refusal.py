# SPDX-License-Identifier: Apache-2.0
"""What the server itself answers, before any app is asked."""

from __future__ import annotations

import itertools
import time
from typing import Any

import msgspec

from fairlead.core.problem import MEDIA_TYPE, problem_document
from fairlead.errors import Overloaded, Problem

_serial = itertools.count(1)


def rendered(problem: Problem) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """A problem met before any app: status, headers that also close the connection, body."""
    request_id = f"c{time.time_ns() // 1_000_000:x}-{next(_serial)}"
    body = msgspec.json.encode(problem_document(problem, request_id))
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
    ]
    if problem.retry_after_seconds is not None:
        headers.append((b"retry-after", str(problem.retry_after_seconds).encode()))
    return problem.status, headers, body


async def overloaded(scope: Any, receive: Any, send: Any) -> None:
    """The app of a connection too many."""
    problem = Overloaded(
        "too many connections are open (limits.connections); keep connections and use fewer",
        retry_after_seconds=1,
    )
    status, headers, body = rendered(problem)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
