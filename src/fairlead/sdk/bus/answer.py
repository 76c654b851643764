# SPDX-License-Identifier: Apache-2.0
"""The answer to one delivery on a bus, and what may go to the relay together (interface, section 8)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from fairlead.core.answer import MOST_ANSWER_BYTES, MOST_ANSWERS
from fairlead.core.signature import ID, SIGNATURE, TIMESTAMP, Signer
from fairlead.sdk.receiving.reply import JSON


@dataclass(frozen=True, slots=True)
class BusAnswer:
    """An answer, signed when it is sent: the relay takes a POST of the last five minutes only.

    Attributes:
        id: its `webhook-id`.
        subscription: whose answer it is, for the path of a POST.
        reply_to: the queue that waits for it; None where the delivery named none.
        joins: that queue takes arrays of answers too; over `POST` they always may be.
    """

    id: str
    subscription: str
    body: bytes
    secret: str
    reply_to: str | None
    joins: bool = False
    content_type: str = JSON


def together(answers: Iterable[BusAnswer]) -> Iterator[list[BusAnswer]]:
    """What may be one body: of one subscription, secret and queue, in order, as much as the relay takes."""
    groups: dict[tuple[object, ...], list[BusAnswer]] = {}
    for answer in answers:
        alike = (answer.subscription, answer.secret, answer.reply_to, answer.joins)
        groups.setdefault(alike, []).append(answer)
    for group in groups.values():
        part: list[BusAnswer] = []
        size_bytes = 2
        for answer in group:
            if part and (len(part) == MOST_ANSWERS or size_bytes + len(answer.body) + 1 > MOST_ANSWER_BYTES):
                yield part
                part, size_bytes = [], 2
            part.append(answer)
            size_bytes += len(answer.body) + 1
        yield part


def body_of(group: Sequence[BusAnswer]) -> bytes:
    """One answer as it is, or the array of several; it goes under the first one's `webhook-id`."""
    if len(group) == 1:
        return group[0].body
    return b"[" + b",".join([answer.body for answer in group]) + b"]"


def signed(secret: str, id: str, body: bytes, now: float) -> dict[str, str]:
    """The headers of Standard Webhooks for a body of ours."""
    timestamp = int(now)
    return {ID: id, TIMESTAMP: str(timestamp), SIGNATURE: _signer(secret).header(id, timestamp, body)}


@lru_cache(maxsize=64)
def _signer(secret: str) -> Signer:
    return Signer([secret])
