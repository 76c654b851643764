# SPDX-License-Identifier: Apache-2.0
"""Asking sinks again, day by day, whether they still want deliveries (interface, section 7)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from fairlead.core.subscription import Subscription
from fairlead.errors import ForbiddenSink, HandshakeRefused, NotFound, RevisionMismatch
from fairlead.ports import Clock, Sender, Subscriptions

if TYPE_CHECKING:
    from fairlead.engine.sending.dispatcher import Dispatcher

REFUSED = "handshake-refused"
AT_ONCE = 64

_log = logging.getLogger(__name__)


class Handshakes:
    """Renews the consent of every active subscription that needs one, when it is due.

    After a restart it is due for every subscription older than `period_seconds`: when it was given last is
    known to the process only.
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        dispatcher: Dispatcher,
        sender: Sender,
        clock: Clock,
        *,
        period_seconds: float,
    ) -> None:
        self._subscriptions = subscriptions
        self._dispatcher = dispatcher
        self._sender = sender
        self._clock = clock
        self._period_seconds = period_seconds
        self._renewed_at: dict[str, float] = {}

    async def renew(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """One pass over all subscriptions; it ends early once `stopped`."""
        known = await self._subscriptions.all()
        self._renewed_at = {one.id: at for one in known if (at := self._renewed_at.get(one.id)) is not None}
        places = asyncio.Semaphore(AT_ONCE)

        async def renew(subscription: Subscription) -> None:
            last = max(subscription.created_at, self._renewed_at.get(subscription.id, 0.0))
            if subscription.state == "active" and self._clock.now() - last >= self._period_seconds:
                async with places:
                    if not stopped():
                        await self._renew(subscription)

        # Sinks that do not answer take their time: one after the other they would hold up every other chore.
        ended = await asyncio.gather(*map(renew, known), return_exceptions=True)
        for failure in ended:
            if failure is not None:
                raise failure

    async def _renew(self, subscription: Subscription) -> None:
        now = self._clock.now()
        agreed = subscription
        try:
            for target in subscription.targets:
                if target.handshake == "required":
                    agreed = lowered(agreed, await self._sender.check(target, subscription))
        except HandshakeRefused as refusal:
            if refusal.members.get("answered", True):
                await self._disable(subscription, refusal, now)
            return  # nobody answered: that is no refusal, ask again soon
        except ForbiddenSink as refusal:
            # Each delivery meets the same refusal and holds its lane, with the config line to add.
            _log.warning(
                "handshake forbidden", extra={"subscription": subscription.id, "detail": refusal.detail}
            )
            return
        self._renewed_at[subscription.id] = now
        if agreed != subscription:
            await self._store(agreed)

    async def _store(self, agreed: Subscription) -> None:
        try:
            await self._dispatcher.adopt(await self._subscriptions.replace(agreed, agreed.revision))
        except (NotFound, RevisionMismatch):
            del self._renewed_at[agreed.id]  # deleted or changed meanwhile: ask again

    async def _disable(self, subscription: Subscription, refusal: HandshakeRefused, now: float) -> None:
        try:
            disabled = await self._subscriptions.set_state(subscription.id, "disabled", REFUSED, now)
        except NotFound:
            return
        await self._dispatcher.adopt(disabled)
        _log.error(
            "subscription disabled",
            extra={
                "subscription": subscription.id,
                "reason": REFUSED,
                "detail": refusal.detail,
            },
        )


def lowered(subscription: Subscription, rate_per_second: float | None) -> Subscription:
    """The subscription at no more than the rate that a sink allows; None: it set no limit."""
    asked = subscription.options.rate_per_second
    if rate_per_second is None or (asked is not None and asked <= rate_per_second):
        return subscription
    return replace(subscription, options=replace(subscription.options, rate_per_second=rate_per_second))
