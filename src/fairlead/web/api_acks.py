# SPDX-License-Identifier: Apache-2.0
"""`POST /subscriptions/{id}/acks`: answers to bus deliveries whose reply queue failed (interface, section 8).

The signature is the login. A relay that delivers over REST only has its answers already, as bodies of the
200, 422, 425 and 503: a valid answer posted here settles nothing then, and is taken with 204 all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.core.answer import AnswerDocument, parse_answers
from fairlead.core.json_text import check_value
from fairlead.core.signature import verify
from fairlead.core.subscription import Subscription
from fairlead.errors import Fault, InvalidRequest, Unauthenticated
from fairlead.ports import Clock, Subscriptions
from fairlead.web.request import Request
from fairlead.web.response import NO_CONTENT, Response
from fairlead.web.router import Route

PREFIX = "ack_"
MOST_ANSWERS = 1000
MOST_BYTES = 1024 * 1024
SCHEME = {"WWW-Authenticate": "StandardWebhooks"}


class AcksApi:
    """Takes the receiver library's answers."""

    def __init__(self, subscriptions: Subscriptions, clock: Clock) -> None:
        self._subscriptions = subscriptions
        self._clock = clock

    def routes(self) -> list[Route]:
        return [Route("POST", "/subscriptions/{id}/acks", self.take, login=False)]

    async def take(self, request: Request) -> Response:
        """204 for one answer or an array of them, signed `v1` with the subscription's secret.

        Raises:
            Unauthenticated: no such subscription, or not signed by its receiver: which is not told.
            MalformedJson, InvalidRequest: signed, and not answers of this subscription.
        """
        request.query()
        id = request.params["id"]
        subscription = await self._subscriptions.get(id)
        secrets = () if subscription is None else self._secrets(subscription)
        if not secrets:
            raise _unsigned(id)
        body = await request.body(MOST_BYTES)  # of strangers, as yet: no more than answers can take
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.named.items()}
        try:
            verify(secrets, headers, body, self._clock.now())
        except Unauthenticated as error:
            error.headers.setdefault("WWW-Authenticate", SCHEME["WWW-Authenticate"])
            raise
        if not headers["webhook-id"].startswith(PREFIX):
            fault = Fault(header="webhook-id", detail=f"must begin with {PREFIX}")
            raise Unauthenticated("the webhook-id is not one of an answer", faults=[fault], headers=SCHEME)
        for at, answer in enumerate(_answers(body)):
            if answer.subscription != id:
                fault = Fault(index=at, pointer="/subscription", detail=f"must be {id!r}, as in the path")
                raise InvalidRequest("an answer is of another subscription", faults=[fault])
        return NO_CONTENT

    def _secrets(self, subscription: Subscription) -> tuple[str, ...]:
        """Only what is shared signs answers: of an asymmetric pair the receiver has the public half."""
        secrets = subscription.secrets
        shared = (*secrets.in_force(self._clock.now()), secrets.answer or "")
        return tuple(secret for secret in shared if secret.startswith("whsec_"))


def _answers(body: bytes) -> Sequence[AnswerDocument]:
    check_value(body, "")
    answers = parse_answers(body)
    if len(answers) > MOST_ANSWERS:
        raise InvalidRequest(f"{len(answers)} answers at once; at most {MOST_ANSWERS} are taken")
    return answers


def _unsigned(id: str) -> Unauthenticated:
    return Unauthenticated(f"the request is not signed by the receiver of {id!r}", headers=SCHEME)
