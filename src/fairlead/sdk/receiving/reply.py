# SPDX-License-Identifier: Apache-2.0
"""What a receiver says over HTTP, before any framework is in sight."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from fairlead.core.answer import AnswerDocument, Stale
from fairlead.core.problem import MEDIA_TYPE, problem_document
from fairlead.errors import Problem

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer: status, headers but `content-length`, body."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def retry_after_seconds(self) -> int | None:
        """What `retry-after` says."""
        value = self.headers.get("retry-after")
        return None if value is None else int(value)


def of_answer(answer: AnswerDocument, retry_after_seconds: int | None = None) -> Reply:
    """The reply that carries an answer (interface, section 7)."""
    headers = {"content-type": MEDIA_TYPE if answer.type else JSON}
    if retry_after_seconds is not None:
        headers["retry-after"] = str(retry_after_seconds)
    return Reply(answer.status, headers, answer.encode())


def of_stale(stale: Stale) -> Reply:
    """The 409 that names the inbox's pair."""
    return Reply(stale.status, {"content-type": MEDIA_TYPE}, stale.encode())


def of_problem(problem: Problem) -> Reply:
    """An RFC 9457 problem (interface, section 2)."""
    headers = {"content-type": MEDIA_TYPE, **{name.lower(): value for name, value in problem.headers.items()}}
    if problem.status == 401:
        headers.setdefault("www-authenticate", "StandardWebhooks")
    if problem.retry_after_seconds is not None:
        headers["retry-after"] = str(problem.retry_after_seconds)
    return Reply(problem.status, headers, msgspec.json.encode(problem_document(problem)))
