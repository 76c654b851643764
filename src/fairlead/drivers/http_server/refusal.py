# SPDX-License-Identifier: Apache-2.0
"""What the server itself answers, before any app is asked."""

from __future__ import annotations

import itertools
import logging
import time
from typing import Any

import httptools
import msgspec

from fairlead.core.problem import MEDIA_TYPE, problem_document
from fairlead.errors import Internal, InvalidHeader, Overloaded, Problem

_CLIENTS = (httptools.HttpParserError, UnicodeDecodeError)  # what a request's target can be guilty of
_serial = itertools.count(1)
_log = logging.getLogger(__name__)


def unparsed(error: httptools.HttpParserError) -> Problem:
    """Why a request could not be read to its end: by its own fault, or by ours, which is logged.

    Senders take a 400 as final: what another attempt may cure must not be one.
    """
    cause = error.__context__
    if not isinstance(error, httptools.HttpParserCallbackError) or isinstance(cause, _CLIENTS):
        return InvalidHeader(f"the request is not HTTP/1.1: {error}")
    _log.error("request failed while it was read", exc_info=cause)
    if isinstance(cause, MemoryError):
        return Overloaded("there is no memory for the request; send it again", retry_after_seconds=10)
    return Internal("the relay failed while it read the request; its log has the details")


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
