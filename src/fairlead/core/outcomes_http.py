# SPDX-License-Identifier: Apache-2.0
"""From an HTTP answer to outcomes (design, section 5, "Outcomes of a REST delivery"; interface, section 7).

Pure: an answer comes in as a `Reply`, one outcome per delivered event goes out. Only what the subscription
says of its receiver counts; an answer never makes a plain receiver a library.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Protocol

import msgspec

from fairlead.core.answer import (
    AnswerDocument,
    Result,
    parse_answer,
    parse_chain,
    parse_results,
    parse_stale,
)
from fairlead.core.channel import Fence
from fairlead.core.outcome import Outcome
from fairlead.core.outcomes_answer import clean, outcome_of_answer
from fairlead.core.subscription import DeliveryOptions
from fairlead.errors import InvalidRequest, SendFailed

_THROTTLING = (429, 503)
_SECONDS = re.compile(r"[0-9]{1,10}\Z")
_HINTS = {
    401: "check the signing secret and sinkcredential",
    403: "check the sink's permissions and sinkcredential",
    404: "check the sink's path",
    405: "check protocolsettings.method",
    407: "a proxy stands before the sink; call it without",
}
_DELIVERED = {status: Outcome("delivered", status) for status in range(200, 300)}
_NOT_REACHED = Outcome("unavailable", detail="not tried: an earlier event of its resource was not taken")


class Reply(msgspec.Struct, frozen=True):
    """What of an HTTP answer decides: `retry_after_seconds` as `retry_after` reads it."""

    status: int
    body: bytes = b""
    retry_after_seconds: float | None = None


class Item(Protocol):
    """One event of the delivery that was answered."""

    @property
    def key(self) -> str: ...

    @property
    def position(self) -> int: ...


class Judged(msgspec.Struct, frozen=True):
    """One outcome per item, in order (one for a fence); `heard`: the library spoke in this very epoch."""

    outcomes: tuple[Outcome, ...]
    heard: bool = False


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds from now that a `Retry-After` asks for, 0 for a time that is past; None if it says nothing.

    Args:
        value: the header: whole seconds or an HTTP date.
        now: Unix seconds.
    """
    if value is None:
        return None
    if _SECONDS.match(value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:  # "-0000", or the asctime form: HTTP dates are UTC
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now)


def outcome_of_failure(failure: SendFailed) -> Outcome:
    """The outcome of a request that got no answer."""
    return Outcome("forbidden" if failure.kind == "forbidden" else "unavailable", detail=failure.detail)


def judge(
    reply: Reply, items: Sequence[Item], *, fence: Fence, options: DeliveryOptions, batch: bool
) -> Judged:
    """What an answer says of each event of a delivery; no items: of a fence."""
    if not items:
        return _judge_fence(reply, fence, options)
    if batch:
        return _judge_batch(reply, items, fence, options)
    outcome, heard = _judge_one(reply, items[0], fence, options)
    return Judged((outcome,), heard)


def _judge_one(reply: Reply, item: Item, fence: Fence, options: DeliveryOptions) -> tuple[Outcome, bool]:
    if options.receiver == "plain":
        if 200 <= reply.status < 300:
            return _DELIVERED[reply.status], False
        return _without_answer(reply, options), False
    answer = _answer_for(reply, fence, item.key)
    if answer is None:
        if 200 <= reply.status < 300:
            detail = (
                f"answered {reply.status} without the library's answer to this delivery; "
                'is the receiver the library? if not, replay with receiver "plain"'
            )
            return Outcome("unavailable", reply.status, detail), False
        return _without_answer(reply, options), False
    return outcome_of_answer(answer, item.position, reply.status), answer.epoch == fence.epoch


def _without_answer(reply: Reply, options: DeliveryOptions) -> Outcome:
    """Any answer but a 2xx, of whoever gave it."""
    status = reply.status
    with suppress(InvalidRequest):  # another's 409 or 425 is an attempt that failed, as any other
        if status == 409:
            stale = parse_stale(reply.body)
            detail = f"the receiver has seen generation {stale.generation}, epoch {stale.epoch}"
            return Outcome("stale", status, detail, generation=stale.generation, epoch=stale.epoch)
        if status == 425:
            parse_chain(reply.body)
            return Outcome("chain", status, "an earlier event of the resource is missing there")
    if status in _THROTTLING and reply.retry_after_seconds is not None:
        detail = f"{_said(reply)}; asked to wait {reply.retry_after_seconds:.0f} s"
        return Outcome("throttled", status, detail, retry_after_seconds=reply.retry_after_seconds)
    if status in options.rejected_statuses:
        return Outcome("rejected", status, _said(reply))
    if status == 410:
        return Outcome("gone", status, _said(reply))
    return Outcome("unavailable", status, _said(reply))


def _judge_fence(reply: Reply, fence: Fence, options: DeliveryOptions) -> Judged:
    answer = _answer_for(reply, fence, None)
    if answer is not None and answer.result == "fence" and 200 <= reply.status < 300:
        return Judged((_DELIVERED[reply.status],), answer.epoch == fence.epoch)
    if 200 <= reply.status < 300:
        detail = (
            f"answered {reply.status} to a fence without the library's answer; is the receiver the library?"
        )
        return Judged((Outcome("unavailable", reply.status, detail),))
    return Judged((_without_answer(reply, options),))


def _judge_batch(reply: Reply, items: Sequence[Item], fence: Fence, options: DeliveryOptions) -> Judged:
    if reply.status == 207:
        return _judge_results(reply, items, fence, options)
    if options.receiver == "plain" and 200 <= reply.status < 300:
        return Judged((_DELIVERED[reply.status],) * len(items))
    if 200 <= reply.status < 300:
        detail = f"answered {reply.status} to a batch; the library answers 207: is the receiver the library?"
        whole = Outcome("unavailable", reply.status, detail)
    else:
        whole = _without_answer(reply, options)
    if whole.kind == "rejected" and len(items) > 1:
        # Too large, or one bad event among good ones: none of the others may be given up for it. Their own
        # verdicts come when the lanes are sent one by one.
        whole = Outcome("unavailable", reply.status, f"{whole.detail}; the batch goes again one by one")
    return Judged(_first_of_each_run(items, whole))


def _judge_results(reply: Reply, items: Sequence[Item], fence: Fence, options: DeliveryOptions) -> Judged:
    """A 207: each event's own status; what is not listed, or follows a failure of its key, was not taken."""
    try:
        results = {(one.partition, one.position): one for one in parse_results(reply.body)}
    except InvalidRequest as error:
        whole = Outcome("unavailable", 207, f"answered 207, but: {clean(error.detail)}")
        return Judged(_first_of_each_run(items, whole))
    partition = fence.channel.partition
    outcomes: list[Outcome] = []
    failed: set[str] = set()
    heard = False
    for item in items:
        outcome = _NOT_REACHED
        if item.key not in failed:
            result = results.get((partition, item.position))
            if result is None:
                outcome = Outcome("unavailable", 207, "answered 207 without a result for this event")
            else:
                outcome, heard_here = _judge_one(_reply_of(result), item, fence, options)
                heard = heard or heard_here
            if outcome.kind != "delivered":
                failed.add(item.key)
        outcomes.append(outcome)
    return Judged(tuple(outcomes), heard)


def _reply_of(result: Result) -> Reply:
    wait = None if result.retry_after is None else float(result.retry_after)
    return Reply(result.status, bytes(result.answer), wait)


def _first_of_each_run(items: Sequence[Item], outcome: Outcome) -> tuple[Outcome, ...]:
    seen: set[str] = set()
    outcomes: list[Outcome] = []
    for item in items:
        outcomes.append(_NOT_REACHED if item.key in seen else outcome)
        seen.add(item.key)
    return tuple(outcomes)


def _answer_for(reply: Reply, fence: Fence, key: str | None) -> AnswerDocument | None:
    """The library's answer to this very delivery; one of another channel, key or generation is none."""
    try:
        answer = parse_answer(reply.body)
    except InvalidRequest:
        return None
    mine = (answer.subscription, answer.partition) == fence.channel
    return answer if mine and answer.generation == fence.generation and answer.key == key else None


class _Problem(msgspec.Struct):
    type: str = ""
    title: str = ""
    detail: str = ""


_decode_problem = msgspec.json.Decoder(_Problem).decode


def _problem(body: bytes) -> _Problem:
    try:
        return _decode_problem(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Problem()


def _said(reply: Reply) -> str:
    """One sentence: the status, a problem's own words if there are any, and what to do where we know."""
    try:
        name = f"{reply.status} {HTTPStatus(reply.status).phrase}"
    except ValueError:
        name = str(reply.status)
    problem = _problem(reply.body)
    words = clean(problem.detail or problem.title)
    sentence = f"answered {name}" + (f": {words}" if words else "")
    if 300 <= reply.status < 400:
        return f"{sentence}; redirects are not followed: set the sink to where it leads"
    hint = None if words else _HINTS.get(reply.status)
    return f"{sentence}; {hint}" if hint else sentence
