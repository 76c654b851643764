# SPDX-License-Identifier: Apache-2.0
"""A changed filter comes into force on a channel (design, section 5; rules `filter_pos`, `filter_ack`).

Where several nodes share the store and the receiver is the library, the owner first waits for one answer
in its current epoch, or a zombie could send on with a chain made by the old filter. If nothing is due it
sends an empty `fence` delivery to get one.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from fairlead.engine.sending.owner import Owner
from fairlead.engine.sending.subscriber import Subscriber
from fairlead.errors import FairleadError, StoreBusy, StoreFull

AGAIN_SECONDS = 0.02

_log = logging.getLogger(__name__)


async def adopt_filter(subscriber: Subscriber, owner: Owner, timeout_seconds: float) -> bool:
    """Put the subscription's filter in force on one channel; False if not within `timeout_seconds`."""
    try:
        async with asyncio.timeout(timeout_seconds):
            while not owner.closed:
                with suppress(StoreBusy, StoreFull):
                    if await _is_heard(subscriber, owner) and await owner.adopt():
                        return True
                await asyncio.sleep(AGAIN_SECONDS)
    except TimeoutError:
        owner.sieve.pending = True
    return False


async def retry_filter(subscriber: Subscriber, owner: Owner, timeout_seconds: float) -> None:
    """As `adopt_filter`, while nobody waits for it: what goes wrong is put in the log."""
    try:
        await adopt_filter(subscriber, owner, timeout_seconds)
    except FairleadError as failure:
        _log.error("a filter stays pending", extra={**owner.channel._asdict(), "detail": str(failure)})


async def _is_heard(subscriber: Subscriber, owner: Owner) -> bool:
    shared = subscriber.works.store.shared and subscriber.subscription.options.receiver == "library"
    if not shared or owner.heard:
        return True
    if not owner.lanes.queues.flights:
        await subscriber.send_fence(owner)
    return owner.heard
