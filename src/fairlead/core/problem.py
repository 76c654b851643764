# SPDX-License-Identifier: Apache-2.0
"""A problem as an RFC 9457 document (interface, section 2): the same from every place that answers HTTP."""

from __future__ import annotations

from typing import Any

from fairlead.errors import Fault, Problem

MEDIA_TYPE = "application/problem+json"

_PLACES = ("index", "pointer", "header", "query", "detail", "hint")


def problem_document(problem: Problem, request_id: str | None = None) -> dict[str, Any]:
    """The document that tells a caller what was wrong, where, and what to do; with `request_id` if given."""
    document: dict[str, Any] = {
        "type": problem.urn,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        **problem.members,
    }
    if problem.faults:
        document["errors"] = [_error(fault) for fault in problem.faults]
    if request_id is not None:
        document["request_id"] = request_id
    return document


def _error(fault: Fault) -> dict[str, Any]:
    return {name: value for name in _PLACES if (value := getattr(fault, name)) is not None}
