# SPDX-License-Identifier: Apache-2.0
"""What the relay's answer to a batch means for the outbox (interface, section 11); pure.

202                          accepted, in input order
400, 409, 413 with indexes   those events are refused; the others go again
400, 409, 413 without        one of them is at fault: smaller batches find out which
anything else, or nothing    kept, and tried again later, in order
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from fairlead.sdk.publishing.records import Receipt, Waiting

REFUSALS = (400, 409, 413)
MAX_RETRY_AFTER_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """The relay has all of them."""

    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Some of them will never be taken: index in the batch → problem document."""

    problems: dict[int, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Smaller:
    """One of them, unknown which, or their sum, is too much: try with fewer."""


@dataclass(frozen=True, slots=True)
class Later:
    """Nothing was decided; `retry_after_seconds` is the relay's wish, if it had one."""

    detail: str
    retry_after_seconds: float | None = None


Meaning = Accepted | Refused | Smaller | Later


class _Accepted(msgspec.Struct, frozen=True):
    id: str
    partition: int
    position: int
    duplicate: bool


class _Answer(msgspec.Struct, frozen=True):
    accepted: list[_Accepted]


_answer = msgspec.json.Decoder(_Answer)


def judge(status: int, headers: Mapping[str, str], body: bytes, batch: Sequence[Waiting]) -> Meaning:
    """Read the relay's answer to `batch`; header names in lower case."""
    if status == 202:
        return _accepted(body, batch)
    if status in REFUSALS:
        return _refused(status, body, len(batch))
    wish = headers.get("retry-after", "")
    retry_after = min(float(wish), MAX_RETRY_AFTER_SECONDS) if wish.isdecimal() else None
    return Later(f"the relay answered {status}{_detail(body)}", retry_after)


def batch_body(batch: Sequence[Waiting]) -> bytes:
    """The events as one `application/cloudevents-batch+json` body."""
    return b"[" + b",".join(row.body for row in batch) + b"]"


def _accepted(body: bytes, batch: Sequence[Waiting]) -> Meaning:
    try:
        answers = _answer.decode(body).accepted
    except msgspec.MsgspecError as error:
        return Later(f"the 202 is not a relay's: {error}")
    if [one.id for one in answers] != [row.id for row in batch]:
        return Later("the 202 does not list the events that were sent; is the URL a relay's?")
    return Accepted(tuple(Receipt(a.id, a.partition, a.position, a.duplicate) for a in answers))


def _refused(status: int, body: bytes, size: int) -> Meaning:
    problem = _problem(body) or {
        "type": "about:blank",
        "title": "The relay refused the event",
        "status": status,
    }
    faults = problem.get("errors")
    indexes: dict[int, list[Any]] = {}
    for fault in faults if isinstance(faults, list) else ():
        index = fault.get("index") if isinstance(fault, dict) else None
        if isinstance(index, int) and 0 <= index < size:
            indexes.setdefault(index, []).append(fault)
    if indexes:
        return Refused({index: {**problem, "errors": its} for index, its in indexes.items()})
    return Refused({0: problem}) if size == 1 else Smaller()


def _problem(body: bytes) -> dict[str, Any] | None:
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
    return document if isinstance(document, dict) else None


def _detail(body: bytes) -> str:
    problem = _problem(body)
    detail = problem.get("detail") or problem.get("title") if problem else None
    return f": {detail}" if isinstance(detail, str) else ""
