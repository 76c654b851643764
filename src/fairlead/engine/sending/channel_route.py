# SPDX-License-Identifier: Apache-2.0
"""One channel's way to its receivers where there is a choice, or a bus (design, section 6).

What to do is decided in `core/failover`; here are its senses and hands: links, confirms, answers and the
breaker tell it how the targets are, and a switch that it wants is committed before anything goes by it.
"""

from __future__ import annotations

import asyncio
import logging
from math import inf
from typing import TYPE_CHECKING

from fairlead.core.answer import AnswerDocument
from fairlead.core.channel import ChannelState
from fairlead.core.failover import Failover, Switch
from fairlead.core.subscription import Subscription
from fairlead.core.target_health import SILENCE, UNCONFIRMED, Transport
from fairlead.engine.sending.channel_publisher import ChannelPublisher
from fairlead.engine.sending.links import Links
from fairlead.engine.sending.obstacles import Obstacles
from fairlead.engine.sending.views import RouteView
from fairlead.errors import FairleadError, Fenced, LeaseLost, StoreBusy, StoreError, StoreFailed, StoreFull
from fairlead.ports import Answer

if TYPE_CHECKING:
    from fairlead.engine.sending.owner import Owner

_log = logging.getLogger(__name__)


def needs_route(subscription: Subscription, target: int = 0) -> bool:
    """Whether a channel on `target` has anything to choose, or a bus to watch.

    One whose target is gone, for the subscription was changed just before its relay died, has to choose too.
    """
    targets = subscription.targets
    return len(targets) > 1 or targets[0].protocol == "AMQP" or target >= len(targets)


class ChannelRoute:
    """Steers one channel. Every method is for the event loop's thread and does not block it."""

    def __init__(self, owner: Owner, links: Links) -> None:
        self._owner = owner
        self._links = links
        self._switching = False
        self._looking = False
        self.publisher = ChannelPublisher(owner, links, self._unpublished)
        self._draining = False  # a receiver without the chain gets nothing new before the old has ended
        self._replaced = False
        self._hindrance = ""  # what keeps the switch that is wanted from being made
        self._obstacles = Obstacles(owner, links)
        self._heard_at = owner.works.clock.monotonic()
        self._asked_at = -inf
        self.failover = self._new_failover(owner.subscription, owner.fence.target)

    def _new_failover(self, subscription: Subscription, target: int) -> Failover:
        transports: list[Transport] = [
            "amqp" if target.protocol == "AMQP" else "http" for target in subscription.targets
        ]
        options, works = subscription.options, self._owner.works
        confirms = options.settles == "confirm"
        failover = Failover(
            transports,
            min(target, len(transports) - 1),
            works.settings.failover,
            proves=not confirms,
            policy=options.failover if confirms else "switch",
            now=works.clock.monotonic(),
        )
        self._owner.lanes.bus.chain(chained=failover.on_bus and not confirms)
        return failover

    # -- what the channel may do ---------------------------------------------------------------------------

    @property
    def may_send(self) -> bool:
        """Whether events may go out at this moment."""
        if self._is_off_course or self._switching or self._draining or self.publisher.busy:
            return False
        return self.failover.may_send

    @property
    def _is_off_course(self) -> bool:
        """Whether the fence in force is for targets that are not these."""
        return self._replaced or self._owner.fence.target != self.failover.target

    @property
    def publishes(self) -> bool:
        """Whether events go over a bus whose receivers answer; else each is one request, or one confirm."""
        return self.failover.on_bus and self._owner.subscription.options.settles == "applied"

    @property
    def _chains(self) -> bool:
        return self._owner.subscription.options.receiver == "library"

    # -- the senses ----------------------------------------------------------------------------------------

    def replaced(self) -> None:
        """The subscription's targets have changed: begin with the first one, under a new epoch."""
        self.failover = self._new_failover(self._owner.subscription, 0)
        self._replaced = True
        self.steer()

    def loaded(self, state: ChannelState) -> None:
        """The channel was read anew; it goes on with the target that the store names."""
        if self.failover.target != self._owner.fence.target:
            self.failover = self._new_failover(self._owner.subscription, self._owner.fence.target)
        if not self.failover.reason and state.reason and state.switched_at is not None:
            clock = self._owner.works.clock
            self.failover.recall(state.reason, clock.monotonic() - max(0.0, clock.now() - state.switched_at))
        self._owner.lanes.bus.chain(chained=self.publishes)

    def steer(self) -> None:
        """Look around and act: called when something may have changed, and now and then."""
        owner, failover = self._owner, self.failover
        if owner.closed or owner.subscription.state != "active":
            return
        now = owner.works.clock.monotonic()
        for place, target in enumerate(owner.subscription.targets):
            if target.protocol == "AMQP":
                health = self._links.health(place)
                failover.link(place, health.up, health.detail, now)
        self._look(now)
        asked = failover.probe_due(now)
        if asked is not None:
            self._probe(asked)
        if failover.wants_depth and not self._looking:
            self._looking = True
            owner.keep(asyncio.get_running_loop().create_task(self._look_into_queue()))
        lanes = owner.lanes
        drained = not lanes.queues.flights and not len(lanes.bus.window)
        switch = None
        if self._is_off_course:
            switch = Switch(failover.target, "the targets were changed")
        elif not self._switching:
            switch = failover.decide(now, drained=drained)
            self._hindrance = "" if switch is None else self._hindrance
        self._draining = switch is not None and not self._chains and not drained
        if switch is not None and not self._draining and not self._switching:
            self._switch(switch)
        if switch is None and not self._switching:
            self._obstacles.say(failover)
        owner.wake()

    def _probe(self, target: int) -> None:
        health, clock = self.failover.health, self._owner.works.clock
        self.publisher.probe(target, lambda refusal: health.told(target, refusal, clock.monotonic()))

    def _look(self, now: float) -> None:
        """What only time shows: late confirms, silence; and the breaker."""
        owner, failover = self._owner, self.failover
        if not failover.on_bus:
            breaker = owner.lanes.breaker
            failover.breaker(breaker.is_open, breaker.reason, now)
        elif failover.state in ("bus", "drain"):
            window, rules = owner.lanes.bus.window, owner.works.settings.failover
            late, oldest = window.oldest_unconfirmed, window.oldest
            silence_seconds = owner.subscription.options.timeout_seconds
            if late is not None and now >= late + rules.confirm_late_seconds:
                failover.trouble(UNCONFIRMED, now)
            elif oldest is not None and now >= max(oldest, self._heard_at) + silence_seconds:
                said = (f"{SILENCE} for {silence_seconds:g} s", self._links.health(failover.target).deaf)
                failover.trouble("; ".join(filter(None, said)), now)
            else:
                owner.lanes.bus.give_up(now, silence_seconds)

    def ask(self) -> None:
        """Ask for an answer in the present epoch over the bus in use, unless one is due anyway."""
        works = self._owner.works
        now, gap_seconds = works.clock.monotonic(), works.settings.slow_after_seconds
        if not len(self._owner.lanes.bus.window) and now >= self._asked_at + gap_seconds:
            self._asked_at = now
            self.failover.health.asked(self.failover.target, now)
            self._probe(self.failover.target)

    def answered(self, answer: AnswerDocument) -> None:
        """A receiver has answered over a bus, in the present generation."""
        if answer.epoch != self._owner.fence.epoch:
            return
        self._heard_at = now = self._owner.works.clock.monotonic()
        if answer.key is None:
            self.failover.replied(now)
        else:
            self.failover.answered(now)
        if self.failover.state == "suspect":
            self.steer()

    # -- the hands -----------------------------------------------------------------------------------------

    def landed(self, answer: Answer, target: int) -> None:
        """Something in flight has ended: a drain may be over, the breaker open, a confirm missing.

        Args:
            target: where it went; a request over REST may end when the channel has left for the bus.
        """
        in_use = self.failover.on_bus and target == self.failover.target
        if in_use and answer.outcomes and answer.outcomes[0].kind == "unavailable":
            self.failover.trouble(answer.outcomes[0].detail, self._owner.works.clock.monotonic())
        if self._draining or self.failover.state != "rest" or self._owner.lanes.breaker.is_open:
            self.steer()

    def _unpublished(self, detail: str) -> None:
        """The broker did not take an event."""
        self.failover.trouble(detail, self._owner.works.clock.monotonic())
        self.steer()

    async def _look_into_queue(self) -> None:
        failover = self.failover
        link, asked_since = self._links.get(failover.target), failover.since
        try:
            empty = link is not None and await link.depth(self._owner.channel.partition) == 0
        finally:
            self._looking = False
        if empty and failover.state == "suspect" and failover.since == asked_since:
            failover.queue_is_empty()

    def view(self) -> RouteView:
        """How it is now."""
        failover, clock = self.failover, self._owner.works.clock
        since = clock.now() - (clock.monotonic() - failover.since)
        unanswered = len(self._owner.lanes.bus.window)
        obstacle = self._obstacles.shown(failover)
        return RouteView(failover.state, failover.reason, obstacle, since, failover.switches, unanswered)

    # -- a switch ------------------------------------------------------------------------------------------

    def _switch(self, switch: Switch) -> None:
        self._switching = True
        self._owner.keep(asyncio.get_running_loop().create_task(self._carry_out(switch)))

    async def _carry_out(self, switch: Switch) -> None:
        """Commit the fence, and only then go by it."""
        owner, works, failover = self._owner, self._owner.works, self.failover
        try:
            async with works.flusher.alone():  # a flush under way carries the fence before it
                before = owner.fence
                if failover is not self.failover:
                    return  # the targets were changed meanwhile: it means another one by now
                fence = await works.store.channels.fence(before, target=switch.target, reason=switch.reason)
                failover.arrived(switch, works.clock.monotonic())
                self._replaced = self._replaced and failover is not self.failover
                owner.begin_epoch(fence)
        except Fenced:
            owner.reloading.soon()
        except LeaseLost:
            owner.close()
        except (StoreBusy, StoreFull, StoreError) as failure:
            self._hindered(failure)  # it is wanted again at the next look, if there is one
        else:
            self._arrived(switch, before.target)
        finally:
            self._switching = False
            owner.wake()

    def _hindered(self, failure: FairleadError) -> None:
        """Say why the channel stands still: once, though the switch is tried again at each look.

        A failed store ends serving, which is said by whoever ends it; and a closed channel wants no switch.
        """
        detail, owner = str(failure), self._owner
        if detail != self._hindrance and not owner.closed and not isinstance(failure, StoreFailed):
            extra = {**owner.channel._asdict(), "detail": detail}
            _log.error("a channel cannot go on over another target yet", extra=extra)
        self._hindrance = detail

    def _arrived(self, switch: Switch, before: int) -> None:
        owner, works = self._owner, self._owner.works
        self._heard_at = works.clock.monotonic()
        if switch.target != before:
            works.telemetry.switches.value += 1
            extra = {**owner.channel._asdict(), "target": switch.target, "reason": switch.reason}
            if switch.target < before:
                _log.info("a channel returns to a target that it prefers", extra=extra)
            else:
                _log.warning("a channel goes on over another target", extra=extra)
