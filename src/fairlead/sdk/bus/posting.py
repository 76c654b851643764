# SPDX-License-Identifier: Apache-2.0
"""Answers by `POST {relay_url}/subscriptions/{id}/acks`, where the bus does not carry them (interface, 8)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from fairlead.drivers.http_sync import HttpOrigin, UnreachableError
from fairlead.sdk.bus.answer import BusAnswer, body_of, signed, together
from fairlead.sdk.receiving.reply import JSON

log = logging.getLogger("fairlead.receiver")

TIMEOUT_SECONDS = 10.0


class AnswerPost:
    """Posts answers, several at once, each subscription's with its own secret. Calls come one at a time.

    Args:
        relay_url: `https://relay.example`, with a path if the relay is behind one.

    Raises:
        ValueError: it is no such URL.
    """

    def __init__(
        self, relay_url: str, *, ca_file: str | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._origin = HttpOrigin(relay_url, timeout_seconds=TIMEOUT_SECONDS, ca_file=ca_file)
        self._clock = clock

    def post(self, answers: Sequence[BusAnswer]) -> list[BusAnswer]:
        """Post answers; those that the relay could not take now, for which one tries again.

        What it refuses is dropped and logged at ERROR; the relay sends the delivery again.
        """
        return [answer for group in together(answers) if not self._taken(group) for answer in group]

    def abort(self) -> None:
        """Break off the request under way, and every later one; from any thread."""
        self._origin.abort()

    def close(self) -> None:
        """Close the connection."""
        self._origin.close()

    def _taken(self, group: Sequence[BusAnswer]) -> bool:
        first, body = group[0], body_of(group)
        headers = {"content-type": JSON, **signed(first.secret, first.id, body, self._clock())}
        try:
            answer = self._origin.send("POST", f"/subscriptions/{first.subscription}/acks", body, headers)
        except UnreachableError as error:
            log.warning("The relay does not take answers: %s", error)
            return False
        if answer.status < 300:
            return True
        extra = {"status": answer.status, "body": answer.body[:500].decode(errors="replace")}
        if answer.status in (408, 425, 429) or answer.status >= 500:
            log.warning("The relay takes no answers now: %d", answer.status, extra=extra)
            return False
        log.error("The relay refuses answers: %d; see relay_url and secrets", answer.status, extra=extra)
        return True
