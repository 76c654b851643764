# SPDX-License-Identifier: Apache-2.0
"""`POST /subscriptions/{id}/acks`: answers to bus deliveries whose reply queue failed (interface, 8)."""

from __future__ import annotations

from fairlead.core.answer import MOST_ANSWER_BYTES
from fairlead.engine.commands.answers import Answers
from fairlead.web.request import Request
from fairlead.web.response import NO_CONTENT, Response
from fairlead.web.router import Route


class AcksApi:
    """Takes the receiver library's answers. The signature is the login."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def routes(self) -> list[Route]:
        return [Route("POST", "/subscriptions/{id}/acks", self.take, login=False)]

    async def take(self, request: Request) -> Response:
        """204 for one answer or an array of them, signed `v1` with the subscription's secret.

        Raises: as `Answers.take`.
        """
        request.query()
        id = request.params["id"]
        body = await request.body(MOST_ANSWER_BYTES)  # of strangers, as yet: no more than answers can take
        self._answers.take(id, request.texts, body)
        return NO_CONTENT
