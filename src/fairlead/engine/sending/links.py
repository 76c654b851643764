# SPDX-License-Identifier: Apache-2.0
"""The links of one subscription to its AMQP targets; every channel of it publishes over the same ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from fairlead.core.subscription import Subscription, Target
from fairlead.ports import Bus, Clock, Link, LinkHealth

NO_BUS = "this relay speaks to no message bus"
DEPTH_SECONDS = 1.0


class Links:
    """Opened while the subscription is active, by the target's place.

    Args:
        changed: called when the health of one has changed.
    """

    def __init__(self, bus: Bus | None, clock: Clock, changed: Callable[[], None]) -> None:
        self._bus = bus
        self._nothing = LinkHealth(False, clock.monotonic(), NO_BUS)
        self._changed = changed
        self._links: dict[int, tuple[Target, Link]] = {}

    def serve(self, subscription: Subscription) -> None:
        """Keep links to the targets of a subscription as it now stands; idempotent."""
        wanted = {
            place: target
            for place, target in enumerate(subscription.targets)
            if target.protocol == "AMQP" and subscription.state == "active"
        }
        for place, (target, link) in list(self._links.items()):
            if wanted.get(place) != target:
                del self._links[place]
                link.close()
        for place, target in wanted.items():
            if place not in self._links and self._bus is not None:
                self._links[place] = (target, self._bus.link(subscription, target, self._changed))

    def get(self, place: int) -> Link | None:
        """The link to a target; None while it is not kept."""
        kept = self._links.get(place)
        return None if kept is None else kept[1]

    def health(self, place: int) -> LinkHealth:
        """How a link is; one that is not kept is down."""
        link = self.get(place)
        return self._nothing if link is None else link.health

    async def depth(self, partition: int | None) -> int:
        """How many messages wait in the queue of one partition's shard, or in all; unknown counts as 0.

        So does what brokers do not say within a second: whoever looks at a relay wants to know now.
        """
        found = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(DEPTH_SECONDS):
                for target, link in list(self._links.values()):
                    shards = range(target.settings.get("shards", 1)) if partition is None else (partition,)
                    for shard in shards:
                        found += await link.depth(shard) or 0
        return found

    def close(self) -> None:
        """Let go of all of them; idempotent."""
        for _, link in self._links.values():
            link.close()
        self._links.clear()
