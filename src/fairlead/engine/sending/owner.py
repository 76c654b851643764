# SPDX-License-Identifier: Apache-2.0
"""The owner of one channel: reads the log for its lanes, carries out what they say, stores what they settled.

All decisions are in `fairlead.core.lanes`; here are the fence, the drain before a new load, and the filter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from fairlead.core.breaker import Breaker
from fairlead.core.channel import ChannelFlush, ChannelId, ChannelState, Fence, FilterRevision
from fairlead.core.lanes import Lanes
from fairlead.core.queues import Run
from fairlead.core.settling import Verdict
from fairlead.core.subscription import Subscription
from fairlead.engine.sending.answers import shares
from fairlead.engine.sending.feed import Feed
from fairlead.engine.sending.ledger import Ledger
from fairlead.engine.sending.scanner import Scanner
from fairlead.engine.sending.sieve import Sieve
from fairlead.engine.sending.views import ChannelView
from fairlead.engine.sending.works import Works
from fairlead.errors import Fenced, LeaseLost, NotFound, StoreBusy, StoreError, StoreFull
from fairlead.ports import Answer

RETRY_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Owner:
    """One channel from the moment this node owns it.

    Args:
        wake: called when there may be something to send.

    Attributes:
        fence: what every write and every delivery carries.
        lanes: made anew at each load.
        heard: the receiver's library has answered in the fence's own epoch.
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
        self._reloading: asyncio.Task[None] | None = None
        self._outdated = False
        self.lanes = self._new_lanes(state)

    # -- loading -------------------------------------------------------------------------------------------

    async def load(self, state: ChannelState) -> None:
        """Begin from what the store says; sends only after everything up to `scan_pos` was read again."""
        self.scanner.stop()
        try:
            await self.sieve.load(state.filters, self.subscription, state.fence)
            if state.fence.generation != self.fence.generation:
                self.ledger.settled.clear()
            self.fence, self.heard = state.fence, False
            self.lanes = self._new_lanes(state)
        finally:
            self.scanner.resume()
        if self.lanes.urgent:  # a lane waits for what was settled before the load
            self.works.flusher.want(self, hurry=True)

    def _new_lanes(self, state: ChannelState) -> Lanes:
        settings, clock = self.works.settings, self.works.clock
        rules = settings.breaker
        self.skipped_keys = set(state.skipped)
        return Lanes(
            state,
            self.subscription.options,
            Breaker(rules.failures, rules.probe_every_seconds, rules.probe_max_seconds),
            read_ahead=settings.read_ahead,
            now=clock.monotonic(),
            wall=clock.now(),
            settled=self.ledger.settled,
        )

    async def reload(self) -> None:
        """Let what is in flight end, forget the channel and read it again, as it stands from now on.

        A node that lost the partition, or a subscription that is gone, closes the owner instead.
        """
        self.reload_soon()
        if self._reloading is not None:
            await asyncio.shield(self._reloading)

    async def _reload(self) -> None:
        try:
            while self._outdated and not self.closed:
                await self.drained()
                await self.works.flusher.pass_by()  # what is being stored belongs to the old memory
                self._outdated = False
                try:
                    await self._load_again()
                except (StoreBusy, StoreFull):
                    self._outdated = True
                    await asyncio.sleep(RETRY_SECONDS)
        except (LeaseLost, NotFound):
            self.close()
        except StoreError as failure:
            _log.error("a channel cannot be read", extra={"channel": self.channel, "detail": str(failure)})
            self.close()
            self.works.damage[self.channel] = f"{failure}; then start again"
        finally:
            self._reloading = None
            self.proceed()

    async def _load_again(self) -> None:
        state = await self.works.store.channels.load(self.channel)
        if state is None:
            self.close()
        elif not self.closed and not self._outdated:
            await self.load(state)

    def reload_soon(self) -> None:
        """As `reload`, without waiting for it. One that is under way reads once more."""
        self._outdated = True
        if self._reloading is None and not self.closed:
            self.pause()  # at once: the memory of it is not to be sent from any more
            self._reloading = asyncio.create_task(self._reload())

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
        return not self.closed and not self._paused and self.subscription.state == "active"

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
            for _, _, outcome in verdict.attempts:
                self.works.telemetry.deliveries.of(self.channel.subscription, outcome.kind).value += 1
        self.works.flusher.want(self, hurry=lanes.urgent)
        self.scanner.go()
        return verdicts

    async def raise_epoch(self, at_least: int) -> None:
        """A receiver has seen a newer epoch: raise ours above it, durably, before the next delivery."""
        self.pause()
        try:
            self.fence = await self.works.store.channels.fence(self.fence, at_least=at_least)
            self.heard = False
        except Fenced:
            await self.reload()
        except (StoreBusy, StoreFull):
            self.wake()  # the next delivery is told the same
        finally:
            self.proceed()

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
        if self.closed or self._reloading is not None or not self.lanes.caught_up:
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
                self.fence, self.heard = result, False
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
            self.reload_soon()
        else:
            self.works.flusher.want(self, hurry=False)

    def tick(self, now: float, *, passive: bool) -> None:
        """What only time brings: holds for slow answers and, where `passive`, progress nobody asked for."""
        if self.closed:
            return
        self.lanes.demote(now, self.works.settings.slow_after_seconds)
        if passive:
            self.scanner.settle_up()
        if self.ledger.has(self.lanes):
            self.works.flusher.want(self, hurry=self.lanes.urgent)

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold on to a task of this channel until it ends."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def view(self) -> ChannelView:
        """The channel as it is now."""
        self.scanner.settle_up()
        flights = frozenset(run.key for run in self.lanes.queues.flights)
        return ChannelView(
            self.channel,
            self.fence,
            self.lanes.low_water,
            self.lanes.scan_pos,
            tuple(self.lanes.queues.open),
            len(self.lanes.holds),
            flights,
            self.lanes.breaker.is_open,
            self.sieve.pending,
        )
