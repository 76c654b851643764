# SPDX-License-Identifier: Apache-2.0
"""Deliveries that settle by the broker's confirm: plain consumers answer nobody (design, section 6)."""

from __future__ import annotations

import asyncio

from fairlead.core.outcome import DELIVERED, Outcome
from fairlead.engine.sending.links import Links
from fairlead.ports import Answer, Clock, Delivery, Published


async def confirmed(links: Links, clock: Clock, delivery: Delivery) -> Answer:
    """Publish one event and wait for the broker's word, at most for the subscription's timeout.

    Delivered means that the broker has it, no more. A confirm that comes too late is forgotten: the event is
    published again. What no bus can carry is rejected, and says nothing of the bus.
    """
    started_at, begun = clock.now(), clock.monotonic()
    place = delivery.fence.target
    link = links.get(place)
    if link is None:
        outcome = Outcome("unavailable", detail=links.health(place).detail)
    else:
        timeout_seconds = delivery.subscription.options.timeout_seconds
        result: asyncio.Future[Published] = asyncio.get_running_loop().create_future()
        link.publish(delivery, lambda said: None if result.done() else result.set_result(said))
        try:
            async with asyncio.timeout(timeout_seconds):
                said = await result
        except TimeoutError:
            said = Published("lost", f"the broker did not confirm it within {timeout_seconds:g} s")
        outcome = _outcome(said)
    return Answer((outcome,), int((clock.monotonic() - begun) * 1000), started_at)


def _outcome(said: Published) -> Outcome:
    match said.kind:
        case "confirmed":
            return DELIVERED
        case "impossible":
            return Outcome("rejected", detail=said.detail)
        case _:
            return Outcome("unavailable", detail=said.detail)
