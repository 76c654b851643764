# SPDX-License-Identifier: Apache-2.0
"""What a verified delivery holds, and the reply: one event, a batch or a fence (interface, section 7)."""

from __future__ import annotations

import msgspec

from fairlead.core.answer import Result, Stale, encode_results
from fairlead.core.codec import BATCH, FENCE, STRUCTURED, decode_batch, decode_delivery
from fairlead.core.event import Event
from fairlead.core.stamps import Stamps, read_batch_stamps, read_fence, read_stamps, stamps_among
from fairlead.errors import InboxError, InvalidEvent, Overloaded, UnsupportedMediaType
from fairlead.sdk.receiving.applying import Answered, Applier
from fairlead.sdk.receiving.reply import JSON, Reply, of_answer, of_problem, of_stale

MAX_BATCH_EVENTS = 1000


def deliver(applier: Applier, content_type: str, body: bytes) -> Reply:
    """Take what a delivery holds.

    Raises:
        MalformedJson, InvalidEvent: the body is not what its type says, or lacks the relay's attributes.
        UnsupportedMediaType: another type; only structured deliveries are signed as a whole.
        InboxError: the inbox cannot serve now.
    """
    media_type = media_type_of(content_type)
    if media_type == STRUCTURED:
        return _reply(applier.apply(*read_structured(body)))
    if media_type == BATCH:
        return _batch(applier, body)
    if media_type == FENCE:
        return _reply(applier.fence(read_fence(body)))
    raise UnsupportedMediaType(
        f"content-type {media_type!r}: a receiver with the library takes structured deliveries",
        members={"supported": [STRUCTURED, BATCH, FENCE]},
    )


def media_type_of(content_type: str) -> str:
    """A content type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def read_structured(body: bytes) -> tuple[Event, Stamps]:
    """The event of a structured delivery, and where it stands. Raises MalformedJson, InvalidEvent."""
    event = decode_delivery(body)
    return event, stamps_among(event.attributes) or read_stamps(body)


def _stamped(event: Event, stamps: Stamps) -> Event:
    """The event as it came, with the relay's attributes, which the codec leaves out."""
    return Event.of({**event.attributes, **stamps.attributes()}, event.payload, event.form)


def _batch(applier: Applier, body: bytes) -> Reply:
    """Take a batch: one transaction per event; a key stops at its first failure (interface, section 7)."""
    events, stamps = decode_batch(body, MAX_BATCH_EVENTS), read_batch_stamps(body)
    if len({one.channel for one in stamps}) > 1:
        raise InvalidEvent("the batch holds events of several channels; a relay sends one channel's")
    results: list[Result] = []
    stopped: set[str] = set()
    for event, stamp in zip(events, stamps, strict=True):
        if event.key in stopped:
            continue
        try:
            reply = _reply(applier.apply(_stamped(event, stamp), stamp))
        except InboxError as error:
            results.append(_result(stamp, of_problem(Overloaded(str(error), retry_after_seconds=1))))
            break
        results.append(_result(stamp, reply))
        if reply.status != 200:
            stopped.add(event.key)
    return Reply(207, {"content-type": JSON}, encode_results(results))


def _result(stamps: Stamps, reply: Reply) -> Result:
    return Result(
        partition=stamps.channel.partition,
        position=stamps.pos,
        status=reply.status,
        retry_after=reply.retry_after_seconds,
        answer=msgspec.Raw(reply.body),
    )


def _reply(answered: Answered) -> Reply:
    if isinstance(answered, Stale):
        return of_stale(answered)
    return of_answer(answered, 1 if answered.result == "failed" else None)
