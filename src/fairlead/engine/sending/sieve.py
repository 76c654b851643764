# SPDX-License-Identifier: Apache-2.0
"""Which filter is in force on one channel, and whether it is the one its subscription now wants."""

from __future__ import annotations

from fairlead.core.channel import ChannelState, Fence, FilterRevision, Progress
from fairlead.core.filters import Possible, possible
from fairlead.core.subscription import Subscription
from fairlead.engine.revisions import Revisions, Wants, every_entry
from fairlead.ports import Subscriptions


def _any_kind(type: str, source: str) -> bool:
    return True


class Sieve:
    """One channel's.

    Attributes:
        wants: whether an entry is to be delivered, by the revision in force at its position.
        possible: what type and source alone rule out, by the latest revision.
        pending: a changed filter is not in force yet.
    """

    def __init__(self, revisions: Revisions, subscriptions: Subscriptions) -> None:
        self.wants: Wants = every_entry
        self.possible: Possible = _any_kind
        self.pending = False
        self._revisions = revisions
        self._subscriptions = subscriptions
        self._filters: list[FilterRevision] = []

    async def load(
        self, filters: tuple[FilterRevision, ...], subscription: Subscription, fence: Fence
    ) -> None:
        """Begin from what the store says. Raises NotFound: the subscription is gone."""
        self._filters = list(filters)
        await self.understand(subscription, fence)

    def add(self, revision: FilterRevision) -> None:
        """Another revision was stored; `understand` follows."""
        before = [one for one in self._filters if one.from_pos < revision.from_pos]
        self._filters = [*before, revision]

    async def understand(self, subscription: Subscription, fence: Fence) -> None:
        """Compile what is in force, and compare it with what is wanted. Raises NotFound."""
        revision = self._filters[-1].revision if self._filters else subscription.revision
        matching = subscription.matching
        if revision != subscription.revision:
            matching = await self._subscriptions.matching(subscription.id, revision)
        state = ChannelState(fence, Progress(), filters=tuple(self._filters))
        self.wants = await self._revisions.of(subscription, state)
        self.possible = possible(matching)
        self.pending = matching != subscription.matching
