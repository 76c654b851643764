# SPDX-License-Identifier: Apache-2.0
"""Deliveries to handlers in the relay's own process, beside those that leave it (interface, section 11)."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable

from fairlead.core.event import Event
from fairlead.core.outcome import DELIVERED, Outcome
from fairlead.core.subscription import Subscription, Target
from fairlead.errors import Reject
from fairlead.ports import Answer, Clock, Delivery, Sender

Handler = Callable[[Event], Awaitable[None] | None]

SINK_PREFIX = "http://in-process.invalid/"
"""What stands for a handler in a stored subscription: a name that never resolves (RFC 2606), so a relay that
opens the store later without the handler holds the events instead of sending them anywhere."""

_log = logging.getLogger(__name__)


class InProcessSender:
    """`ports.Sender` that calls handlers where a sink stands for one, and else hands over to `beyond`."""

    def __init__(self, beyond: Sender, clock: Clock) -> None:
        self._beyond = beyond
        self._clock = clock
        self._handlers: dict[str, Handler] = {}

    def handle(self, subscription: str, handler: Handler) -> str:
        """Register the handler of a subscription, in place of any before; return its sink."""
        self._handlers[subscription] = handler
        return SINK_PREFIX + subscription

    async def send(self, delivery: Delivery) -> Answer:
        """Call the handler once per event, in order; a key's events after a failed one are not tried."""
        if not delivery.target.sink.startswith(SINK_PREFIX):
            return await self._beyond.send(delivery)
        started_at, begun = self._clock.now(), self._clock.monotonic()
        handler = self._handlers.get(delivery.subscription.id)
        outcomes: list[Outcome] = []
        stopped: dict[str, Outcome] = {}
        for parcel in delivery.parcels:
            before = stopped.get(parcel.entry.key)
            if before is not None:
                outcomes.append(
                    Outcome("unavailable", detail=f"an earlier event of the resource: {before.detail}")
                )
                continue
            outcome = await _call(handler, parcel.entry.event, delivery.subscription)
            outcomes.append(outcome)
            if outcome.kind != "delivered":
                stopped[parcel.entry.key] = outcome
        return Answer(tuple(outcomes), int((self._clock.monotonic() - begun) * 1000), started_at)

    async def check(self, target: Target, subscription: Subscription) -> float | None:
        """As `ports.Sender.check`; a handler's sink is always allowed."""
        if target.sink.startswith(SINK_PREFIX):
            return None
        return await self._beyond.check(target, subscription)

    async def close(self) -> None:
        await self._beyond.close()


async def _call(handler: Handler | None, event: Event, subscription: Subscription) -> Outcome:
    """One handler, one event. A sync handler has a thread and is waited for: it cannot be cut off."""
    if handler is None:
        return Outcome("unavailable", detail=f"this process has no handler for {subscription.id}")
    timeout_seconds = subscription.options.timeout_seconds
    try:
        result = handler(event) if _is_async(handler) else await asyncio.to_thread(handler, event)
        if inspect.isawaitable(result):  # also of a plain function that wraps an `async def`
            async with asyncio.timeout(timeout_seconds):
                await result
    except Reject as error:
        return Outcome("rejected", detail=str(error) or "the handler rejected the event")
    except TimeoutError:
        return Outcome(
            "unavailable", detail=f"the handler took longer than {timeout_seconds:g} s", failed=True
        )
    except Exception as error:  # whatever a handler raises means: again, later
        _log.warning(
            "a handler failed", extra={"subscription": subscription.id, "event": event.id}, exc_info=error
        )
        return Outcome("unavailable", detail=f"the handler failed: {type(error).__name__}", failed=True)
    return DELIVERED


def _is_async(handler: Handler) -> bool:
    """Whether it is a coroutine function, or an object whose `__call__` is one: neither needs a thread."""
    call = getattr(handler, "__call__", None)  # noqa: B004  # wanted is the method itself
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)
