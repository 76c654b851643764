# SPDX-License-Identifier: Apache-2.0
"""From the receiver library's *answer* to an outcome, over REST and on a bus (design, section 6). Pure."""

from __future__ import annotations

import re

from fairlead.core.answer import AnswerDocument
from fairlead.core.outcome import Outcome

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def outcome_of_answer(answer: AnswerDocument, position: int, status: int | None) -> Outcome:
    """What the library's answer says of an event; what it applied settles, whatever became of that one.

    Args:
        position: the event's.
        status: of the HTTP answer that carried it; None on a bus.
    """
    applied = answer.applied
    said = clean(answer.detail or "")
    fits = status is None or 200 <= status < 300
    match answer.result:
        case "applied" | "duplicate" if fits and applied is not None:
            if applied >= position:
                return Outcome("delivered", status, applied=applied)
            detail = f"answered {answer.result}, but applied is {applied} and the event {position}"
            return Outcome("unavailable", status, detail, applied=applied)
        case "rejected":
            detail = "the handler rejected it" + (f": {said}" if said else "")
            return Outcome("rejected", status, detail, applied=applied)
        case "failed":
            detail = "the handler failed" + (f": {said}" if said else "")
            return Outcome("unavailable", status, detail, failed=True, applied=applied)
        case "chain":
            detail = f"an earlier event of the resource is missing there; applied up to {applied}"
            return Outcome("chain", status, detail, applied=applied)
        case _:
            place = "" if status is None else f" {status} with"
            detail = f"answered{place} result {answer.result!r}, which does not fit"
            return Outcome("unavailable", status, detail, applied=applied)


def clean(text: str) -> str:
    """What a receiver said, as one line of at most 200 characters."""
    text = _UNPRINTABLE.sub(" ", text).strip()
    return text if len(text) <= 200 else f"{text[:199]}…"
