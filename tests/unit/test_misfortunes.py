# SPDX-License-Identifier: Apache-2.0
"""A subscription ends by what its receiver answers, while its channels are still being added."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

from fairlead.core.outcome import Outcome
from fairlead.core.settling import Verdict
from fairlead.core.subscription import DeliveryOptions, Matching, Secrets, Subscription, Target
from fairlead.engine.sending.misfortunes import Misfortunes


class Channel:
    """An owner's pauses, counted."""

    def __init__(self) -> None:
        self.pauses, self.closed = 0, False

    def pause(self) -> None:
        self.pauses += 1

    def proceed(self) -> None:
        self.pauses -= 1


class Subscriptions:
    """The store's; it answers when it is let."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription, self.stored = subscription, asyncio.Event()

    async def set_state(self, *_: object) -> Subscription:
        await self.stored.wait()
        return self.subscription


class Serving:
    """A subscription's channels by partition."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.owners = {0: Channel()}

    def replace(self, subscription: Subscription) -> None: ...


class Clock:
    def now(self) -> float:
        return 0.0


def test_a_channel_that_is_added_meanwhile_is_not_let_go_of() -> None:
    async def scenario() -> None:
        target, secrets = Target("http://127.0.0.1:9/"), Secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        subscription = Subscription("s", Matching(), (target,), DeliveryOptions(), secrets)
        serving, store = Serving(subscription), Subscriptions(subscription)
        tasks: list[asyncio.Task[object]] = []

        def spawn(work: Coroutine[Any, Any, object]) -> None:
            tasks.append(asyncio.create_task(work))

        misfortunes = Misfortunes(cast(Any, store), cast(Any, Clock()), lambda id: cast(Any, serving), spawn)
        first = serving.owners[0]
        misfortunes.meet(subscription, cast(Any, first), Verdict(gone=Outcome("gone", 410)))
        assert first.pauses == 1
        serving.owners[1] = Channel()
        store.stored.set()
        await asyncio.gather(*tasks)
        assert [channel.pauses for channel in serving.owners.values()] == [0, 0]

    asyncio.run(scenario())
