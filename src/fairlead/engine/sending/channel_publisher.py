# SPDX-License-Identifier: Apache-2.0
"""One channel's events go out on a bus: what `core/publishing` chooses, handed to the link."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from fairlead.core.window import Sent
from fairlead.engine.sending.links import Links
from fairlead.engine.sending.parcels import with_skips
from fairlead.errors import FairleadError
from fairlead.ports import Delivery, Parcel, Published

if TYPE_CHECKING:
    from fairlead.engine.sending.owner import Owner

AT_ONCE = 32
"""So many events are published before others have their turn."""

AGAIN_SECONDS = 1.0

_log = logging.getLogger(__name__)


class ChannelPublisher:
    """Publishes for one channel; every method is for the event loop's thread and does not block it.

    Args:
        unpublished: told why, when the broker did not take an event.

    Attributes:
        busy: the store is asked what to say of an event; nothing goes out before it.
    """

    def __init__(self, owner: Owner, links: Links, unpublished: Callable[[str], None]) -> None:
        self.busy = False
        self._owner = owner
        self._links = links
        self._unpublished = unpublished

    def publish(self, now: float) -> int:
        """Publish what may be published, at most `AT_ONCE` events; how many."""
        owner = self._owner
        link, lanes = self._links.get(owner.fence.target), owner.lanes
        published = 0
        while link is not None and published < AT_ONCE and owner.may_send:
            sent = lanes.next_to_publish(now)
            if sent is None:
                break
            published += 1
            delivery = self._delivery(sent)
            if sent.prev == 0 and sent.entry.key in owner.skipped_keys:
                self.busy = True
                owner.keep(asyncio.get_running_loop().create_task(self._publish_with_skips(sent, delivery)))
            else:
                link.publish(delivery, partial(self._published, sent))
        return published

    def probe(self, place: int, told: Callable[[str], None]) -> None:
        """Ask for an answer over a target, with an empty delivery of the present epoch.

        Args:
            told: given "" when the broker has it, or why it does not take it. Neither says that anybody is
                reached: wanted is a receiver's answer.
        """
        owner, link = self._owner, self._links.get(place)
        if link is not None:
            subscription = owner.subscription
            target = subscription.targets[place]
            empty = Delivery(subscription, target, owner.fence, owner.lanes.floor(), ())
            link.publish(empty, partial(_heard, told))

    def _delivery(self, sent: Sent) -> Delivery:
        owner = self._owner
        return Delivery(
            owner.subscription,
            owner.subscription.targets[owner.fence.target],
            owner.fence,
            owner.lanes.floor(),
            (Parcel(sent.entry, sent.prev),),
            seq=sent.seq,
        )

    async def _publish_with_skips(self, sent: Sent, delivery: Delivery) -> None:
        """As `publish`, for an event before which some were skipped: the store says which."""
        owner = self._owner
        try:
            (parcel,) = await with_skips(owner, delivery.parcels)
        except FairleadError as failure:
            _log.error("skips cannot be read", extra={**owner.channel._asdict(), "detail": str(failure)})
            await asyncio.sleep(AGAIN_SECONDS)
            if delivery.fence == owner.fence:
                owner.lanes.bus.take_back(sent, owner.works.clock.monotonic())
            return
        finally:
            self.busy = False
            owner.wake()
        link = self._links.get(owner.fence.target)
        if link is not None and delivery.fence == owner.fence:  # answered for or not: `flseq` has no gap
            told = msgspec.structs.replace(delivery, parcels=(parcel,))
            link.publish(told, partial(self._published, sent))

    def _published(self, sent: Sent, result: Published) -> None:
        window = self._owner.lanes.bus.window
        if result.kind == "confirmed":
            window.confirm(sent)
        elif window.is_present(sent):
            self._unpublished(result.detail)


def _heard(told: Callable[[str], None], result: Published) -> None:
    if result.kind != "lost":  # of that the link tells, or nothing is known
        told("" if result.kind == "confirmed" else result.detail)
