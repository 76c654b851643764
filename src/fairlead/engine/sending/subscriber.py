# SPDX-License-Identifier: Apache-2.0
"""One subscription's channels and what they share: concurrency, rate, slowing down (design, section 5).

`pump` starts as many requests as may be under way; it runs when something has changed or a timer is due.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import cast

import msgspec

from fairlead.core.lanes import Lanes
from fairlead.core.outcome import Outcome
from fairlead.core.queues import Run
from fairlead.core.settling import Verdict
from fairlead.core.subscription import Subscription
from fairlead.engine.sending.channel_publisher import AT_ONCE
from fairlead.engine.sending.channel_route import ChannelRoute, needs_route
from fairlead.engine.sending.confirming import confirmed
from fairlead.engine.sending.links import Links
from fairlead.engine.sending.owner import Owner
from fairlead.engine.sending.parcels import delivery_of, with_skips
from fairlead.engine.sending.works import Works
from fairlead.errors import FairleadError
from fairlead.ports import Answer, Delivery

PAGES_AT_ONCE = 16
RATE_SECONDS = 10.0

_log = logging.getLogger(__name__)

Misfortune = Callable[[Subscription, Owner, Verdict], None]


class Subscriber:
    """One subscription as the dispatcher serves it.

    Args:
        misfortune: told when a verdict asks for more than the lane can do: stop, gone, stale.

    Attributes:
        owners: its channels by partition.
        in_flight: how many requests are under way.
    """

    def __init__(self, works: Works, subscription: Subscription, misfortune: Misfortune) -> None:
        self.works = works
        self.subscription = subscription
        self.owners: dict[int, Owner] = {}
        self.in_flight = 0
        self.links = Links(works.bus, works.clock, self._steer)
        self._misfortune = misfortune
        self._turn: deque[Owner] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._called = False
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._slow_until = 0.0
        self._rate_at = 0.0
        self._ripe_at: dict[Owner, float] = {}
        self._delivered: deque[tuple[int, int]] = deque()

    # -- life ----------------------------------------------------------------------------------------------

    def add(self, owner: Owner) -> None:
        self.owners[owner.channel.partition] = owner
        self._turn.append(owner)
        self.links.serve(self.subscription)
        if needs_route(self.subscription, owner.fence.target):
            owner.route = ChannelRoute(owner, self.links)

    def replace(self, subscription: Subscription) -> None:
        """Deliver to the sink and by the options of `subscription` from now on; its filter comes apart."""
        anew = _way(subscription) != _way(self.subscription)
        self.subscription = subscription
        self._slow_until = 0.0
        self.links.serve(subscription)
        for owner in self.owners.values():
            owner.subscription = subscription
            owner.lanes.reconfigure(subscription.options)
            if anew and (owner.route is not None or needs_route(subscription)):
                owner.route = owner.route or ChannelRoute(owner, self.links)
                owner.route.replaced()
            owner.scanner.go()
        self._steer()
        self.wake()

    def close(self) -> None:
        """Start nothing more."""
        self._closed = True
        self.links.close()
        if self._timer is not None:
            self._timer.cancel()

    async def ended(self) -> None:
        """Wait until nothing is in flight; cancelling this ends it."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def cancel(self) -> None:
        """End what is in flight, now: its connections are closed."""
        for task in self._tasks:
            task.cancel()
        await self.ended()

    def rate(self) -> float:
        """Delivered events a second, over the last ten."""
        now = int(self.works.clock.monotonic())
        return sum(count for second, count in self._delivered if second > now - RATE_SECONDS) / RATE_SECONDS

    # -- sending -------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Pump soon; never blocks, may be called from anywhere on the loop."""
        if not self._called and not self._closed:
            self._called = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._called = False
        if self._closed or self.subscription.state != "active":
            return
        now = self.works.clock.monotonic()
        self._turn_pages(now)
        idle = 0
        while idle < len(self._turn) and self._has_budget(now):
            owner = self._turn[0]
            self._turn.rotate(-1)
            if self._go_on(owner, now):
                idle = 0
            else:
                idle += 1
        self._set_timer(now)

    def _go_on(self, owner: Owner, now: float) -> bool:
        """Start what one channel may start; whether there was anything."""
        if not owner.may_send:
            return False
        if owner.route is not None and owner.route.publishes:
            published = owner.route.publisher.publish(now)
            self._spend(published, now)
            if published == AT_ONCE:
                self.wake()  # others have their turn first
            return False
        runs = self._runs(owner, now)
        if runs:
            self._start(owner, runs, now)
        return bool(runs)

    def _spend(self, requests: int, now: float) -> None:
        rate = self.subscription.options.rate_per_second
        if rate is not None and requests:
            self._rate_at = max(now, self._rate_at) + requests / rate

    def _steer(self) -> None:
        """The health of a link has changed, or the subscription."""
        for owner in self.owners.values():
            if owner.route is not None:
                owner.route.steer()

    def _has_budget(self, now: float) -> bool:
        room = self.in_flight < self.subscription.options.concurrency
        return room and now >= self._slow_until and now >= self._rate_at

    def _turn_pages(self, now: float) -> None:
        for owner in self.owners.values():
            if owner.may_send:
                owner.scanner.go()
                if owner.lanes.queues.ready_count < self.subscription.options.concurrency:
                    owner.scanner.turn_pages(now, PAGES_AT_ONCE)

    def _runs(self, owner: Owner, now: float) -> list[Run]:
        batch = self.subscription.options.batch
        if batch is None or owner.on_bus:
            run = owner.lanes.next(now)
            return [] if run is None else [run]
        if not owner.lanes.queues.has_ready:
            self._ripe_at.pop(owner, None)
            return []
        ripe_at = self._ripe_at.setdefault(owner, now + batch.max_wait_seconds)
        if now < ripe_at and not owner.lanes.queues.has_events(batch.max_events):
            return []
        runs: list[Run] = []
        events, room = batch.max_events, batch.max_bytes
        while events > 0 and room > 0:
            run = owner.lanes.next(now, max_events=events, max_bytes=room, at_least_one=not runs)
            if run is None:
                break
            runs.append(run)
            events -= len(run.entries)
            room -= run.size_bytes
        self._ripe_at.pop(owner, None)
        return runs

    def _start(self, owner: Owner, runs: list[Run], now: float) -> None:
        self.in_flight += 1
        self._spend(1, now)
        # Made at once: the subscription may be another by the time the task runs, and take no batch any more.
        delivery = delivery_of(owner, runs)
        self._tasks.add(asyncio.get_running_loop().create_task(self._deliver(owner, runs, delivery)))

    async def _deliver(self, owner: Owner, runs: list[Run], delivery: Delivery) -> None:
        lanes = owner.lanes
        try:
            if owner.skipped_keys:
                delivery = msgspec.structs.replace(
                    delivery, parcels=await with_skips(owner, delivery.parcels)
                )
            answer = await self._send(delivery)
        except FairleadError as failure:
            answer = self._defect(delivery, f"the store cannot be read: {failure}")
        finally:
            self.in_flight -= 1
            self._tasks.discard(cast("asyncio.Task[None]", asyncio.current_task()))
        self._ended(owner, runs, answer, lanes, delivery)

    async def _send(self, delivery: Delivery) -> Answer:
        try:
            if delivery.target.protocol == "AMQP":
                answer = await confirmed(self.links, self.works.clock, delivery)
            else:
                answer = await self.works.sender.send(delivery)
        except Exception:  # a sender must not raise; if it does, the event is tried again, not lost
            _log.exception("a sender failed", extra={"subscription": delivery.subscription.id})
            answer = self._defect(delivery, "a defect in the relay; see its log")
        if len(answer.outcomes) != max(1, len(delivery.parcels)):
            _log.error("a sender answered for other events", extra={"subscription": delivery.subscription.id})
            answer = self._defect(delivery, "a defect in the relay; see its log")
        self.works.telemetry.delivery_seconds.observe(answer.duration_ms / 1000)
        return answer

    def _defect(self, delivery: Delivery, detail: str) -> Answer:
        outcome = Outcome("unavailable", detail=detail)
        return Answer((outcome,) * max(1, len(delivery.parcels)), 0, self.works.clock.now())

    async def send_fence(self, owner: Owner) -> None:
        """Ask the library for an answer in the owner's present epoch, with an empty delivery."""
        subscription, fence, lanes = self.subscription, owner.fence, owner.lanes
        if owner.route is not None:
            if not owner.route.may_send:
                return  # it is on its way to another target, or has none
            if owner.route.publishes:
                owner.route.ask()
                return
        target = subscription.targets[fence.target]
        answer = await self._send(Delivery(subscription, target, fence, lanes.floor(), ()))
        owner.landed((), answer, lanes, fence)
        if answer.outcomes and answer.outcomes[0].kind == "stale":
            self._misfortune(subscription, owner, Verdict(stale=answer.outcomes[0]))

    def _ended(self, owner: Owner, runs: list[Run], answer: Answer, lanes: Lanes, delivery: Delivery) -> None:
        verdicts = owner.landed(runs, answer, lanes, delivery.fence)
        if delivered := sum([verdict.delivered for verdict in verdicts]):
            self._count(delivered)
        for verdict in verdicts:
            if verdict.slow_down_until is not None:
                self._slow_until = max(self._slow_until, verdict.slow_down_until)
            if verdict.stop or verdict.gone or verdict.stale:
                self._misfortune(delivery.subscription, owner, verdict)
        self.wake()

    def _count(self, delivered: int) -> None:
        second = int(self.works.clock.monotonic())
        if self._delivered and self._delivered[-1][0] == second:
            delivered += self._delivered.pop()[1]
        self._delivered.append((second, delivered))
        while self._delivered[0][0] < second - RATE_SECONDS:
            self._delivered.popleft()

    # -- time ----------------------------------------------------------------------------------------------

    def _set_timer(self, now: float) -> None:
        """Pump again when the first thing that waits for a time is due; an answer pumps by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.in_flight >= self.subscription.options.concurrency:
            return
        owners = [owner for owner in self.owners.values() if owner.may_send]
        dues = [due for owner in owners if (due := owner.lanes.next_due(now)) is not None]
        dues += [self._ripe_at[owner] for owner in owners if owner in self._ripe_at]
        slowed_until = max(self._slow_until, self._rate_at)
        if slowed_until > now and any(owner.lanes.queues.has_ready for owner in owners):
            dues.append(slowed_until)
        if dues:
            delay_seconds = max(min(dues), slowed_until) - now
            self._timer = asyncio.get_running_loop().call_later(max(delay_seconds, 0.001), self.wake)


def _way(subscription: Subscription) -> tuple[object, ...]:
    """What decides how events go out: when it changes, a channel begins with its first target anew."""
    options = subscription.options
    return subscription.targets, options.settles, options.receiver, options.failover
