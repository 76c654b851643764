# SPDX-License-Identifier: Apache-2.0
"""A receiver answered `stale`: it has seen a newer fence than the delivery's (interface, section 7)."""

from __future__ import annotations

import asyncio
import logging

from fairlead.engine.sending.owner import Owner
from fairlead.errors import Fenced, StoreBusy, StoreError, StoreFull

RETRY_SECONDS = 1.0

_log = logging.getLogger(__name__)


async def catch_up(owner: Owner, told: tuple[int, int]) -> bool:
    """Read the channel again; where it is still ours, raise its epoch above the one that we were told.

    The owner is paused before, and goes on when this ends: whatever it sent meanwhile would be stale too.

    Args:
        told: the receiver's generation and epoch.

    Returns:
        True if the receiver has seen a generation that this store has not: the store is behind.
    """
    try:
        # Not ours any more: it closes; changed by somebody: it goes on from there.
        await owner.reloading.reload()
        if owner.closed:
            return False
        if told[0] > owner.fence.generation:
            return True
        if told > (owner.fence.generation, owner.fence.epoch):
            await _raise_epoch(owner, told[1] + 1)
        return False
    finally:
        owner.proceed()


async def _raise_epoch(owner: Owner, at_least: int) -> None:
    """Durably, before the next delivery carries it: until then there is none, so it is tried again."""
    said = False
    while not owner.closed:
        try:
            async with owner.works.flusher.alone():  # a flush under way carries the fence before it
                fence = await owner.works.store.channels.fence(owner.fence, at_least=at_least)
                owner.begin_epoch(fence)
                return
        except Fenced:
            await owner.reloading.reload()
            return
        except (StoreBusy, StoreFull, StoreError) as failure:
            if not said:
                extra = {**owner.channel._asdict(), "detail": str(failure)}
                _log.error("a channel's epoch cannot be raised yet", extra=extra)
            said = True
        await asyncio.sleep(RETRY_SECONDS)
