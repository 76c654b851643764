# SPDX-License-Identifier: Apache-2.0
"""A receiver answered `stale`: it has seen a newer fence than the delivery's (interface, section 7)."""

from __future__ import annotations

from fairlead.engine.sending.owner import Owner
from fairlead.errors import Fenced, StoreBusy, StoreFull


async def catch_up(owner: Owner, told: tuple[int, int]) -> bool:
    """Read the channel again; where it is still ours, raise its epoch above the one that we were told.

    The owner is paused before, and goes on when this ends: whatever it sent meanwhile would be stale too.

    Args:
        told: the receiver's generation and epoch.

    Returns:
        True if the receiver has seen a generation that this store has not: the store is behind.
    """
    try:
        await owner.reload()  # not ours any more: it closes; changed by somebody: it goes on from there
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
    """Durably, before the next delivery carries it."""
    try:
        async with owner.works.flusher.alone():  # a flush under way carries the fence before it
            fence = await owner.works.store.channels.fence(owner.fence, at_least=at_least)
            owner.begin_epoch(fence)
    except Fenced:
        await owner.reload()
    except (StoreBusy, StoreFull):
        owner.wake()  # the next delivery is told the same
