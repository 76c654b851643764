# SPDX-License-Identifier: Apache-2.0
"""The owner of one channel: reads the log for its lanes, carries out what they say, stores what they settled.

All decisions are in `fairlead.core.lanes`; here are the fence, the drain before a new load, and the filter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from fairlead.core.answer import AnswerDocument
from fairlead.core.breaker import Breaker
from fairlead.core.channel import ChannelFlush, ChannelId, ChannelState, Fence, FilterRevision
from fairlead.core.lanes import Lanes
from fairlead.core.queues import Run
from fairlead.core.settling import Verdict
from fairlead.core.subscription import Subscription
from fairlead.core.window import Window
from fairlead.engine.sending.channel_route import ChannelRoute
from fairlead.engine.sending.feed import Feed
from fairlead.engine.sending.ledger import Ledger
from fairlead.engine.sending.reloading import Reloading
from fairlead.engine.sending.scanner import Scanner
from fairlead.engine.sending.shares import count, shares
from fairlead.engine.sending.sieve import Sieve
from fairlead.engine.sending.views import ChannelView
from fairlead.engine.sending.works import Works
from fairlead.errors import Fenced, LeaseLost
from fairlead.ports import Answer


class Owner:
    """One channel from the moment this node owns it.

    Args:
        wake: called when there may be something to send.

    Attributes:
        fence: what every write and every delivery carries.
        lanes: made anew at each load.
        reloading: reads it anew.
        heard: the receiver's library has answered in the fence's own epoch.
        route: how it chooses among targets and uses a bus; None with one HTTP target.
    """

    def __init__(
        self,
        works: Works,
        subscription: Subscription,
        state: ChannelState,
        feed: Feed,
        wake: Callable[[], None],
    ) -> None:
        self.works = works
        self.subscription = subscription
        self.channel: ChannelId = state.fence.channel
        self.fence = state.fence
        self.heard = False
        self.closed = False
        self.wake = wake
        self.scanner = Scanner(self, feed)
        self.sieve = Sieve(works.revisions, works.store.subscriptions)
        self._adopting: FilterRevision | None = None
        self._flushing: FilterRevision | None = None
        self._paused = 0
        self.ledger = Ledger()
        self._tasks: set[asyncio.Task[None]] = set()
        self._landed = asyncio.Event()
        self.reloading = Reloading(self)
        self.route: ChannelRoute | None = None
        self.lanes = self._new_lanes(state)

    # -- loading -------------------------------------------------------------------------------------------

    async def load(self, state: ChannelState) -> None:
        """Begin from what the store says; sends only after everything up to `scan_pos` was read again."""
        self.scanner.stop()
        try:
            await self.sieve.load(state.filters, self.subscription, state.fence)
            if state.fence.generation != self.fence.generation:
                self.ledger.settled.clear()
            same = (state.fence.generation, state.fence.epoch) == (self.fence.generation, self.fence.epoch)
            self.fence, self.heard = state.fence, False
            old, self.lanes = self.lanes, self._new_lanes(state, self.lanes.bus.window if same else None)
            self.lanes.paging.poke(old.paging.poked, None, self.works.clock.monotonic())
            if self.route is not None:
                self.route.loaded(state)
        finally:
            self.scanner.resume()
        if self.lanes.urgent:  # a lane waits for what was settled before the load
            self.works.flusher.want(self, hurry=True)

    def _new_lanes(self, state: ChannelState, window: Window | None = None) -> Lanes:
        settings, clock = self.works.settings, self.works.clock
        rules = settings.breaker
        self.skipped_keys = set(state.skipped)
        return Lanes(
            state,
            self.subscription.options,
            Breaker(rules.failures, rules.probe_every_seconds, rules.probe_max_seconds),
            read_ahead=settings.read_ahead,
            window=Window(settings.window) if window is None else window,
            now=clock.monotonic(),
            wall=clock.now(),
            settled=self.ledger.settled,
        )

    async def drained(self) -> None:
        """Wait until nothing of this channel is in flight, or it is closed and nobody's business."""
        while self.lanes.queues.flights and not self.closed:
            self._landed.clear()
            await self._landed.wait()

    def pause(self) -> None:
        """Start nothing more until as many calls of `proceed`."""
        self._paused += 1

    def proceed(self) -> None:
        self._paused -= 1
        self.wake()

    def close(self) -> None:
        """Send nothing more, store nothing more: the channel is somebody else's, or gone."""
        self.closed = True
        self.scanner.close()
        self.works.flusher.forget(self)
        self._landed.set()

    # -- sending -------------------------------------------------------------------------------------------

    @property
    def may_send(self) -> bool:
        if self.closed or self._paused or self.subscription.state != "active":
            return False
        return self.route is None or self.route.may_send

    @property
    def on_bus(self) -> bool:
        return self.route is not None and self.route.failover.on_bus

    def landed(self, runs: Collection[Run], answer: Answer, lanes: Lanes, fence: Fence) -> list[Verdict]:
        """A request has ended: its outcomes, one per event of its runs in order; what each run asks for."""
        self._landed.set()
        if lanes is not self.lanes:
            return []  # the channel was loaded anew: an answer for a memory that is gone
        self.heard = self.heard or (answer.heard and fence.epoch == self.fence.epoch)
        clock = self.works.clock
        now, wall = clock.monotonic(), clock.now()
        verdicts = []
        for run, outcomes in shares(runs, answer, fence):
            verdict = lanes.resolve(run, outcomes, now=now, wall=wall, roll=self.works.random.random())
            verdicts.append(verdict)
            self.ledger.record(run, verdict, answer, fence)
        count(verdicts, self.works.telemetry.deliveries, self.channel.subscription)
        self.works.flusher.want(self, hurry=lanes.urgent)
        self.scanner.go()
        if self.route is not None:
            self.route.landed(answer, fence.target)
        return verdicts

    def answered(self, answer: AnswerDocument) -> Verdict:
        """A receiver has answered over a bus, or for it; what it asks for beyond its lane.

        An answer of another generation is dropped, and counts for nothing.
        """
        if self.closed or answer.generation != self.fence.generation:
            return Verdict()
        self.heard = (in_epoch := answer.epoch == self.fence.epoch) or self.heard
        if self.route is not None:
            self.route.answered(answer)
        if answer.key is None:
            return Verdict()
        clock = self.works.clock
        now, wall = clock.monotonic(), clock.now()
        answered = self.lanes.answered(
            answer, in_epoch=in_epoch, now=now, wall=wall, roll=self.works.random.random()
        )
        self.ledger.answered(answered, self.fence, now=now, wall=wall)
        for _, outcome in answered.ended:
            self.works.telemetry.deliveries.of(self.channel.subscription, outcome.kind).value += 1
        self.works.flusher.want(self, hurry=self.lanes.urgent)
        self.scanner.go()
        self.wake()
        return answered.verdict

    def begin_epoch(self, fence: Fence) -> None:
        """A new epoch of the same generation is on disk: what is sent from now on carries it."""
        self.fence, self.heard = fence, False
        chained = self.route is not None and self.route.publishes
        self.lanes.bus.begin(self.works.clock.monotonic(), chained=chained)

    # -- the filter ----------------------------------------------------------------------------------------

    async def filter_differs(self) -> bool:
        """Whether the filter in force is not the subscription's present one."""
        await self.sieve.understand(self.subscription, self.fence)
        return self.sieve.pending

    async def adopt(self) -> bool:
        """Put the subscription's present filter in force from the next position on; False if refused for now.

        Nothing is read while that is stored, so the position it holds from is the next one to be read.
        """
        self.scanner.stop()
        try:
            if not self.lanes.caught_up:
                return False
            self._adopting = FilterRevision(self.lanes.scan_pos + 1, self.subscription.revision)
            self.works.flusher.want(self, hurry=True)
            await self.works.flusher.flush([self])
            if self._adopting is not None:
                return False
            await self.sieve.understand(self.subscription, self.fence)
            return not self.sieve.pending
        finally:
            self._adopting = None
            self.scanner.resume()

    # -- storing -------------------------------------------------------------------------------------------

    def to_flush(self, everything: bool) -> ChannelFlush | None:
        """What is to be stored now, or None; `flushed` takes the answer before this is called again."""
        if self.closed or self.reloading.under_way or not self.lanes.caught_up:
            return None
        if not self.ledger.has(self.lanes) and self._adopting is None:
            return None
        now, wall = self.works.clock.monotonic(), self.works.clock.now()
        self._flushing = self._adopting
        return self.ledger.write(
            self.lanes, self.fence, self._adopting, everything=everything, now=now, wall=wall
        )

    def flushed(self, result: Fence | Exception) -> None:
        """The answer to `to_flush`."""
        if isinstance(result, Fence):
            if result.epoch > self.fence.epoch:
                self.begin_epoch(result)
            if self._flushing is not None:
                self.sieve.add(self._flushing)
                self._adopting = None
            skipped = self.ledger.written(self.lanes, self.works.clock.monotonic())
            self.skipped_keys.update(skipped)
            self.works.telemetry.skipped.value += len(skipped)
            if self.ledger.has(self.lanes):
                self.works.flusher.want(self, hurry=self.lanes.urgent)
            self.wake()
            return
        self.ledger.refused(self.lanes)
        if isinstance(result, LeaseLost):
            self.close()
        elif isinstance(result, Fenced):
            self.reloading.soon()
        else:
            self.works.flusher.want(self, hurry=False)

    def tick(self, now: float, *, passive: bool) -> None:
        """What only time brings: holds for slow answers and, where `passive`, progress nobody asked for."""
        if self.closed:
            return
        self.lanes.demote(now, self.works.settings.slow_after_seconds)
        if passive:
            self.scanner.settle_up()
        if self.route is not None:
            self.route.steer()
        if self.ledger.has(self.lanes):
            self.works.flusher.want(self, hurry=self.lanes.urgent)

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold on to a task of this channel until it ends."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def view(self) -> ChannelView:
        """The channel as it is now."""
        self.scanner.settle_up()
        flights = frozenset([*(run.key for run in self.lanes.queues.flights), *self.lanes.bus.window.keys])
        return ChannelView(
            self.channel,
            self.fence,
            self.lanes.cursor,
            tuple(self.lanes.queues.open),
            len(self.lanes.holds),
            tuple(self.lanes.holds.taken_over.values()),
            flights,
            self.lanes.breaker.is_open,
            self.sieve.pending,
            None if self.route is None else self.route.view(),
        )
