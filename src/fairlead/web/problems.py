# SPDX-License-Identifier: Apache-2.0
"""Every error as an RFC 9457 answer (interface, section 2)."""

from __future__ import annotations

import logging

import msgspec

from fairlead.core.problem import MEDIA_TYPE, problem_document
from fairlead.errors import Internal, Problem, Stopping, StoreCorrupt, StoreFailed
from fairlead.web.response import Response

CHALLENGE = 'Bearer realm="fairlead", Basic realm="fairlead", charset="UTF-8"'
"""What a 401 asks for, where nobody said it more precisely."""

_encode = msgspec.json.Encoder(decimal_format="number").encode
_log = logging.getLogger(__name__)


class StoreDamaged(Internal):
    """What was asked for stands in the store and cannot be read: the operator's disk, not our defect."""

    title = "The store is damaged"


def problem_response(problem: Problem, request_id: str) -> Response:
    """The answer that tells the caller what was wrong, where, and what to do."""
    headers = [(b"content-type", MEDIA_TYPE.encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    if problem.status == 401 and "WWW-Authenticate" not in problem.headers:
        headers.append((b"www-authenticate", CHALLENGE.encode()))
    if problem.retry_after_seconds is not None:
        headers.append((b"retry-after", str(problem.retry_after_seconds).encode()))
    body = _encode(problem_document(problem, request_id))
    return Response(problem.status, body, tuple(headers))


def defect_response(error: Exception, request_id: str, what: str) -> Response:
    """The answer to what should not have happened: nothing of it is shown, all of it is logged.

    Args:
        what: method and path, for the log.
    """
    extra = {"request_id": request_id, "request": what}
    if isinstance(error, StoreFailed):
        _log.error("request failed with the store", extra={**extra, "detail": str(error)})
        detail = "the store failed, and the relay ends; nothing is known of this request, so send it again"
        return problem_response(Stopping(detail, retry_after_seconds=10), request_id)
    if isinstance(error, StoreCorrupt):
        _log.error("request met damage in the store", extra={**extra, "detail": str(error)})
        return problem_response(StoreDamaged(str(error)), request_id)
    _log.error("request failed by a defect", extra=extra, exc_info=error)
    detail = f"the relay's log has the details under request_id {request_id}"
    return problem_response(Internal(detail), request_id)
