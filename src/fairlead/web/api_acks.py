# SPDX-License-Identifier: Apache-2.0
"""`POST /subscriptions/{id}/acks`: answers to bus deliveries whose reply queue failed (interface, section 8).

The signature is the login. A relay that delivers over REST only has its answers already, as bodies of the
200, 422, 425 and 503: a valid answer posted here settles nothing then, and is taken with 204 all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.core.answer import AnswerDocument, parse_answer
from fairlead.core.json_text import check_value, items
from fairlead.core.signature import verify
from fairlead.core.subscription import Subscription
from fairlead.errors import Fault, InvalidEvent, InvalidRequest, Unauthenticated
from fairlead.ports import Clock, Subscriptions
from fairlead.web.request import Request
from fairlead.web.response import NO_CONTENT, Response
from fairlead.web.router import Route

PREFIX = "ack_"
MOST_ANSWERS = 1000
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
        body = await request.body()
        subscription = await self._subscriptions.get(id)
        secrets = () if subscription is None else self._secrets(subscription)
        if not secrets:
            raise _unsigned(id)
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
    if not body.lstrip().startswith(b"["):
        return [parse_answer(body)]
    try:
        texts = items(body)
    except InvalidEvent as error:
        raise InvalidRequest("the body is neither an answer nor an array of them") from error
    if len(texts) > MOST_ANSWERS:
        raise InvalidRequest(f"{len(texts)} answers at once; at most {MOST_ANSWERS} are taken")
    return [parse_answer(bytes(text)) for text in texts]


def _unsigned(id: str) -> Unauthenticated:
    return Unauthenticated(f"the request is not signed by the receiver of {id!r}", headers=SCHEME)
