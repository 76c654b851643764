# SPDX-License-Identifier: Apache-2.0
"""REST callbacks: one delivery is one signed HTTP request (interface, section 7)."""

from __future__ import annotations

from fairlead.core.egress import EgressPolicy
from fairlead.core.outcome import Outcome
from fairlead.core.outcomes_http import Judged, Reply, judge, outcome_of_failure, retry_after
from fairlead.core.subscription import Subscription, Target
from fairlead.drivers.http_client.client import HttpClient
from fairlead.errors import ForbiddenSink, HandshakeRefused, SendFailed
from fairlead.ports import Answer, Clock, Delivery
from fairlead.transports.handshake import ask_consent
from fairlead.transports.http_request import Plan, headers_and_body, plan_for

_CHECK_TIMEOUT_SECONDS = 10.0
_MAX_PLANS = 10_000
_NO_ORIGIN = (
    "the sink requires a handshake, and this relay has no name to give there; "
    'set [webhook] origin = "relay.example" to its host name'
)


class HttpSender:
    """`ports.Sender` over HTTP/1.1.

    Args:
        client: connects and guards; its resolver should have the same `policy`.
        policy: which addresses may be called.
        origin: `[webhook] origin`, our name in handshakes; None refuses sinks that require one.
    """

    def __init__(
        self, client: HttpClient, policy: EgressPolicy, clock: Clock, *, origin: str | None = None
    ) -> None:
        self._client = client
        self._policy = policy
        self._clock = clock
        self._origin = origin
        self._plans: dict[tuple[str, str], Plan] = {}

    async def send(self, delivery: Delivery) -> Answer:
        """Try once; see `ports.Sender.send`."""
        now = self._clock.now()
        begun = self._clock.monotonic()
        verdict = await self._try(delivery, now)
        duration_ms = int((self._clock.monotonic() - begun) * 1000)
        return Answer(verdict.outcomes, duration_ms, now, verdict.heard)

    async def check(self, target: Target, subscription: Subscription) -> float | None:
        """Check a sink before a subscription is stored; see `ports.Sender.check`.

        A host that cannot be resolved now is no reason to refuse where TLS says later who it is.
        """
        url = self._policy.check_url(target.sink)
        if url.scheme not in ("http", "https"):
            raise ForbiddenSink(f"the sink has the scheme {url.scheme!r}; protocol HTTP takes http and https")
        try:
            await self._client.resolve(url.endpoint, timeout_seconds=_CHECK_TIMEOUT_SECONDS)
        except SendFailed as failure:
            if failure.kind == "forbidden":
                raise ForbiddenSink(failure.detail) from None
            self._policy.check_unresolved(url.endpoint.host, tls=url.endpoint.tls)
        if target.handshake == "none":
            return None
        if self._origin is None:
            raise HandshakeRefused(_NO_ORIGIN)
        try:
            return await ask_consent(
                self._client,
                target.sink,
                origin=self._origin,
                rate_per_second=subscription.options.rate_per_second,
                timeout_seconds=_CHECK_TIMEOUT_SECONDS,
            )
        except SendFailed as failure:
            raise HandshakeRefused(
                f"the sink did not answer the handshake: {failure.detail}", members={"answered": False}
            ) from None

    async def close(self) -> None:
        """Close every connection; idempotent."""
        await self._client.close()

    async def _try(self, delivery: Delivery, now: float) -> Judged:
        options = delivery.subscription.options
        try:
            plan = self._plan(delivery, now)
            headers, body = headers_and_body(delivery, plan, int(now))
            answer = await self._client.send(plan.route, headers, body, options.timeout_seconds)
        except SendFailed as failure:
            return _all(delivery, outcome_of_failure(failure))
        except ValueError as error:
            return _all(delivery, Outcome("unavailable", detail=f"the delivery cannot be sent: {error}"))
        wait = retry_after(answer.header("retry-after"), now) if answer.status in (429, 503) else None
        reply = Reply(answer.status, answer.body, wait)
        items = [parcel.entry for parcel in delivery.parcels]
        return judge(reply, items, fence=delivery.fence, options=options, batch=delivery.batch)

    def _plan(self, delivery: Delivery, now: float) -> Plan:
        key = (delivery.subscription.id, delivery.target.sink)
        plan = self._plans.get(key)
        if plan is None or not plan.serves(delivery, now):
            if len(self._plans) >= _MAX_PLANS:  # of subscriptions long deleted, most of them
                self._plans.clear()
            plan = plan_for(delivery.subscription, delivery.target, origin=self._origin, now=now)
            self._plans[key] = plan
        return plan


def _all(delivery: Delivery, outcome: Outcome) -> Judged:
    return Judged((outcome,) * max(1, len(delivery.parcels)))
