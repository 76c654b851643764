# SPDX-License-Identifier: Apache-2.0
"""What a receiver says over HTTP, before any framework is in sight."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from fairlead.core.answer import AnswerDocument, Stale
from fairlead.errors import Fault, Problem

JSON, PROBLEM = "application/json", "application/problem+json"


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
    headers = {"content-type": PROBLEM if answer.type else JSON}
    if retry_after_seconds is not None:
        headers["retry-after"] = str(retry_after_seconds)
    return Reply(answer.status, headers, answer.encode())


def of_stale(stale: Stale) -> Reply:
    """The 409 that names the inbox's pair."""
    return Reply(stale.status, {"content-type": PROBLEM}, stale.encode())


def of_problem(problem: Problem) -> Reply:
    """An RFC 9457 problem (interface, section 2)."""
    document: dict[str, Any] = {
        "type": problem.urn,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        **problem.members,
    }
    if problem.faults:
        document["errors"] = [_fault(fault) for fault in problem.faults]
    headers = {"content-type": PROBLEM, **{name.lower(): value for name, value in problem.headers.items()}}
    if problem.status == 401:
        headers.setdefault("www-authenticate", "StandardWebhooks")
    if problem.retry_after_seconds is not None:
        headers["retry-after"] = str(problem.retry_after_seconds)
    return Reply(problem.status, headers, msgspec.json.encode(document))


def _fault(fault: Fault) -> dict[str, Any]:
    names = ("index", "pointer", "header", "query", "detail", "hint")
    return {name: value for name in names if (value := getattr(fault, name)) is not None}
