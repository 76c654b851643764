# SPDX-License-Identifier: Apache-2.0
"""The CloudEvents webhook handshake: does this sink want our deliveries? (HTTP webhook, 4; interface, 7)

Consent lies in the headers alone, whatever the status: a server that answers every OPTIONS with 200 has not
agreed to anything.
"""

from __future__ import annotations

import math
import re

from fairlead.drivers.http_client.client import HttpAnswer, HttpClient
from fairlead.errors import HandshakeRefused
from fairlead.transports.content import USER_AGENT

_RATE = re.compile(r"[1-9][0-9]{0,9}\Z")


async def ask_consent(
    client: HttpClient, sink: str, *, origin: str, rate_per_second: float | None, timeout_seconds: float
) -> float | None:
    """Ask the exact URL of the sink; the requests a second that it agrees to, None for any number.

    Raises:
        HandshakeRefused: it answered, and did not consent.
        SendFailed: it did not answer.
    """
    asked = None if rate_per_second is None else max(1, math.ceil(rate_per_second * 60))
    headers = [("user-agent", USER_AGENT), ("webhook-request-origin", origin)]
    if asked is not None:
        headers.append(("webhook-request-rate", str(asked)))
    answer = await client.request("OPTIONS", sink, headers=headers, timeout_seconds=timeout_seconds)
    return read_consent(answer, origin=origin, rate_asked=asked is not None)


def read_consent(answer: HttpAnswer, *, origin: str, rate_asked: bool) -> float | None:
    """The requests a second that the answer to the OPTIONS agrees to; None for any number.

    Raises:
        HandshakeRefused: says which header is missing or wrong.
    """
    allowed = answer.header("webhook-allowed-origin")
    if allowed is None:
        raise HandshakeRefused(
            f"the sink answered OPTIONS with {answer.status} and no WebHook-Allowed-Origin; "
            f'it must answer with "{origin}" or "*" there, or set protocolsettings.handshake to "none"'
        )
    if allowed != "*" and allowed.lower() != origin.lower():
        raise HandshakeRefused(
            f"the sink allows deliveries from {allowed[:100]!r} only, and this relay is {origin!r}"
        )
    rate = answer.header("webhook-allowed-rate")
    if rate is None:
        if rate_asked:
            raise HandshakeRefused("the sink was asked for a rate and answered without WebHook-Allowed-Rate")
        return None
    if rate == "*":
        return None
    if not _RATE.match(rate):
        raise HandshakeRefused(
            f'WebHook-Allowed-Rate is {rate[:100]!r}; expected a whole number of requests per minute or "*"'
        )
    return int(rate) / 60
