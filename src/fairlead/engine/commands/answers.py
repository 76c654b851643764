# SPDX-License-Identifier: Apache-2.0
"""Answers to deliveries on a bus come in, by the reply queue or by a call (design, section 6; interface, 8).

The signature is the login: an answer settles events, so whoever could forge one could make them disappear.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING

import msgspec

from fairlead.core.answer import MOST_ANSWERS, AnswerDocument, parse_answers
from fairlead.core.json_text import check_value
from fairlead.core.signature import TOLERANCE_SECONDS, new_secret, verify
from fairlead.core.subscription import Subscription
from fairlead.errors import Fault, Internal, InvalidRequest, Problem, Unauthenticated
from fairlead.ports import Clock

if TYPE_CHECKING:
    from fairlead.engine.sending.dispatcher import Dispatcher

PREFIX = "ack_"
MOST_ID_LETTERS = 100  # in the log, of a name that anybody may have written
SCHEME = {"WWW-Authenticate": "StandardWebhooks"}

_log = logging.getLogger(__name__)


class Answers:
    """Takes the receiver library's answers and hands them to the channels' owners."""

    def __init__(self, dispatcher: Dispatcher, clock: Clock, *, random_bytes: Callable[[int], bytes]) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._decoy = (new_secret(random_bytes(32)),)  # so that no subscription is refused like one

    def take(
        self,
        subscription_id: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        tolerance_seconds: float = TOLERANCE_SECONDS,
    ) -> None:
        """Verify one answer, or an array of them, and let it settle what it lists; never blocks.

        Args:
            headers: the `webhook-…` headers; names in lower case.
            tolerance_seconds: how old the signature may be; queues may keep an answer for long.

        Raises:
            Unauthenticated: no such subscription, or not signed by its receiver: which is not told.
            MalformedJson, InvalidRequest: signed, and not answers of this subscription.
            Internal: some met a defect of ours, which was logged. The others were taken; all may come again.
        """
        secrets = self._secrets(subscription_id) or self._decoy
        try:
            verify(secrets, headers, body, self._clock.now(), tolerance_seconds)
        except Unauthenticated as error:
            error.headers.setdefault("WWW-Authenticate", SCHEME["WWW-Authenticate"])
            raise
        if not headers["webhook-id"].startswith(PREFIX):
            fault = Fault(header="webhook-id", detail=f"must begin with {PREFIX}")
            raise Unauthenticated("the webhook-id is not one of an answer", faults=[fault], headers=SCHEME)
        answers = _answers(body, subscription_id)
        faults = []
        for at, answer in enumerate(answers):
            try:
                self._dispatcher.answered(answer)
            except Exception:  # a defect that one of them meets must not cost the others
                _log.exception("an answer could not be taken", extra={"subscription": subscription_id})
                faults.append(Fault(index=at, pointer="", detail="met a defect of the relay"))
        if faults:
            detail = f"{len(faults)} of {len(answers)} answers met a defect of the relay, which is in its log"
            raise Internal(f"{detail}; any others were taken: send all of them again", faults=faults)

    async def take_from_queue(self, headers: Mapping[str, str], body: bytes) -> None:
        """As `take`, of the subscription that the answers name themselves; what is wrong is logged."""
        try:
            subscription = _subscription_of(body)
            if self._dispatcher.serving(subscription) is None:  # its secrets are gone with it
                message = "an answer came for a subscription that is not there; it was deleted, say"
                _log.info(message, extra={"subscription": subscription[:MOST_ID_LETTERS]})
                return
            self.take(subscription, headers, body, tolerance_seconds=inf)
        except Internal:
            return  # logged already; what it leaves unsettled is delivered again, and answered again
        except Problem as problem:
            extra = {"webhook_id": headers.get("webhook-id"), "detail": problem.detail}
            _log.warning("a message on the reply queue is no answer", extra=extra)

    def _secrets(self, subscription_id: str) -> tuple[str, ...]:
        """Only what is shared signs answers: of an asymmetric pair the receiver has the public half."""
        serving = self._dispatcher.serving(subscription_id)
        return () if serving is None else answer_secrets(serving.subscription, self._clock.now())


def answer_secrets(subscription: Subscription, now: float) -> tuple[str, ...]:
    """The secrets that may sign a subscription's answers at `now` (Unix seconds)."""
    secrets = subscription.secrets
    shared = (*secrets.in_force(now), secrets.answer or "")
    return tuple(secret for secret in shared if secret.startswith("whsec_"))


class _Named(msgspec.Struct):
    subscription: str


_named = msgspec.json.Decoder(_Named | list[_Named])


def _subscription_of(body: bytes) -> str:
    """Whom the first answer names; nothing of it is believed yet."""
    try:
        named = _named.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        check_value(body, "")  # what is no JSON at all is said in our words
        raise InvalidRequest(f"not an answer: {error}") from error
    answers: list[_Named] = named if isinstance(named, list) else [named]
    if not answers:
        raise InvalidRequest("not an answer: an empty array")
    return answers[0].subscription


def _answers(body: bytes, subscription_id: str) -> Sequence[AnswerDocument]:
    check_value(body, "")
    answers = parse_answers(body)
    if len(answers) > MOST_ANSWERS:
        raise InvalidRequest(f"{len(answers)} answers at once; at most {MOST_ANSWERS} are taken")
    for at, answer in enumerate(answers):
        if answer.subscription != subscription_id:
            detail = f"must be {subscription_id!r}, like the others and the path"
            fault = Fault(index=at, pointer="/subscription", detail=detail)
            raise InvalidRequest("an answer is of another subscription", faults=[fault])
    return answers
