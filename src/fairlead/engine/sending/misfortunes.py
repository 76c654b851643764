# SPDX-License-Identifier: Apache-2.0
"""What a verdict asks for beyond its lane: the end of a subscription, or a look at who owns the channel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fairlead.core.settling import Verdict
from fairlead.core.subscription import Subscription
from fairlead.engine.sending.owner import Owner
from fairlead.engine.sending.staleness import catch_up
from fairlead.engine.sending.subscriber import Subscriber
from fairlead.errors import FairleadError
from fairlead.ports import Clock, Subscriptions

_log = logging.getLogger(__name__)


class Misfortunes:
    """Carries them out.

    Args:
        serving: who serves a subscription now.
        spawn: runs work that outlives the call.
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        clock: Clock,
        serving: Callable[[str], Subscriber | None],
        spawn: Callable[[Coroutine[Any, Any, object]], object],
    ) -> None:
        self._subscriptions = subscriptions
        self._clock = clock
        self._serving = serving
        self._spawn = spawn

    def meet(self, subscription: Subscription, owner: Owner, verdict: Verdict) -> None:
        """Do what a verdict asks for, if anything; never blocks."""
        if owner.closed:
            return  # what it sent last belongs to a channel that is gone, or somebody else's
        if verdict.gone is not None:
            reason = "handshake-refused" if "handshake" in verdict.gone.detail else "gone"
            self._end(subscription, "disabled", reason)
        elif verdict.stop is not None:
            self._end(subscription, "stopped", "exhausted")
        elif verdict.stale is not None:
            told = verdict.stale.seen
            if told > (owner.fence.generation, owner.fence.epoch):
                owner.pause()
                owner.keep(asyncio.create_task(self._catch_up(subscription, owner, told)))

    async def _catch_up(self, subscription: Subscription, owner: Owner, told: tuple[int, int]) -> None:
        if await catch_up(owner, told):
            self._end(subscription, "stopped", "store-behind")

    def _end(self, subscription: Subscription, state: str, reason: str) -> None:
        """Stop sending at once; the store is told, and whoever looks."""
        subscriber = self._serving(subscription.id)
        if subscriber is not None and subscriber.subscription.state == "active":
            owners = list(subscriber.owners.values())  # others may be added meanwhile
            for owner in owners:
                owner.pause()
            self._spawn(self._store_end(subscriber, owners, state, reason))

    async def _store_end(self, subscriber: Subscriber, owners: list[Owner], state: str, reason: str) -> None:
        id = subscriber.subscription.id
        try:
            ended = await self._subscriptions.set_state(id, state, reason, self._clock.now())
            _log.warning("subscription ended", extra={"subscription": id, "state": state, "reason": reason})
            if self._serving(id) is subscriber:
                subscriber.replace(ended)
        except FairleadError as failure:
            _log.error("a state could not be stored", extra={"subscription": id, "detail": str(failure)})
        finally:
            for owner in owners:
                owner.proceed()
