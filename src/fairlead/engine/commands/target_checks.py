# SPDX-License-Identifier: Apache-2.0
"""Whether a subscription's targets may be called, and consent: asked before it is stored (interface, 4)."""

from __future__ import annotations

from dataclasses import replace

from fairlead.core.subscription import Subscription, Target
from fairlead.engine.commands.handshakes import lowered
from fairlead.engine.sending.links import NO_BUS
from fairlead.errors import Fault, ForbiddenSink, InvalidSubscription
from fairlead.ports import Bus, Sender


class TargetChecks:
    """Asks the transports."""

    def __init__(self, sender: Sender, bus: Bus | None) -> None:
        self._sender = sender
        self._bus = bus

    async def checked(self, subscription: Subscription, previous: Subscription | None) -> Subscription:
        """Have every target checked that was not before; with the rate that the sinks allow.

        Raises:
            ForbiddenSink: an address may not be called. HandshakeRefused: a sink did not consent.
            InvalidSubscription: there is no way to a bus here.
        """
        known = previous.targets if previous is not None else ()
        same_rate = (
            previous is not None and previous.options.rate_per_second == subscription.options.rate_per_second
        )
        for place, target in enumerate(subscription.targets):
            if target in known and (target.handshake != "required" or same_rate):
                continue
            try:
                subscription = await self._checked(target, subscription)
            except ForbiddenSink as refusal:
                raise _at(place, refusal) from None
        return subscription

    async def _checked(self, target: Target, subscription: Subscription) -> Subscription:
        if target.protocol == "HTTP":
            return lowered(subscription, await self._sender.check(target, subscription))
        await self._check_bus(target)
        return subscription

    async def _check_bus(self, target: Target) -> None:
        if self._bus is None:
            fault = Fault(detail=f"is AMQP, and {NO_BUS}", pointer="/protocol", hint="use HTTP")
            raise InvalidSubscription(f"protocol is AMQP, and {NO_BUS}", faults=[fault])
        await self._bus.check(target)


def _at(place: int, refusal: ForbiddenSink) -> ForbiddenSink:
    """The refusal of the first sink, or of one of the route."""
    pointer = f"/config/route/{place - 1}/sink" if place else "/sink"
    faults = refusal.faults or [Fault(detail=refusal.detail)]
    return ForbiddenSink(refusal.detail, faults=[replace(fault, pointer=pointer) for fault in faults])
