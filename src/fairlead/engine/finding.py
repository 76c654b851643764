# SPDX-License-Identifier: Apache-2.0
"""Subscriptions and channels by their names, with a `NotFound` where there is none."""

from __future__ import annotations

from fairlead.core.channel import ChannelId, ChannelState
from fairlead.core.subscription import Subscription
from fairlead.errors import NotFound
from fairlead.ports import Store


async def find_subscription(store: Store, id: str) -> Subscription:
    """The subscription as it stands. Raises NotFound."""
    subscription = await store.subscriptions.get(id)
    if subscription is None:
        raise no_subscription(id)
    return subscription


def no_subscription(id: str) -> NotFound:
    """The problem of a name that no subscription has."""
    return NotFound(f"there is no subscription {id!r}; GET /subscriptions lists those there are")


async def find_channel(store: Store, subscription: str, partition: int) -> ChannelState:
    """A channel, as it stands, of a subscription that was there a moment ago. Raises NotFound."""
    state = await store.channels.load(ChannelId(subscription, partition))
    if state is None:
        raise NotFound(f"subscription {subscription!r} was deleted meanwhile")
    return state
