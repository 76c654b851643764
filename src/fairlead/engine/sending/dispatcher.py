# SPDX-License-Identifier: Apache-2.0
"""Sends what the log holds to who asked for it: one owner per channel, one subscriber per subscription.

offer ──► Feed (per partition) ──► Scanner ──► Lanes ──► Subscriber ──► Sender
                                                ▲                         │
                        Flusher ◄── Owner ──────┴──────── outcomes ◄──────┘
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

from fairlead.core.answer import AnswerDocument
from fairlead.core.channel import ChannelId, ChannelState
from fairlead.core.log import Appended
from fairlead.core.subscription import Subscription
from fairlead.engine.revisions import Revisions
from fairlead.engine.sending.adoption import adopt_filter, retry_filter
from fairlead.engine.sending.feed import Feed
from fairlead.engine.sending.flusher import Flusher
from fairlead.engine.sending.misfortunes import Misfortunes
from fairlead.engine.sending.owner import Owner
from fairlead.engine.sending.subscriber import Subscriber
from fairlead.engine.sending.views import ChannelView
from fairlead.engine.sending.works import Works
from fairlead.engine.settings import EngineSettings
from fairlead.errors import FairleadError, NotFound, StoreBusy, StoreFull
from fairlead.ports import Bus, Clock, Sender, Store
from fairlead.telemetry import Telemetry

TICK_SECONDS = 0.5
BUSY_SECONDS = 1.0
PASSIVE_SECONDS = 5.0  # what nobody wanted is noted this often: it costs no order, only a longer restart

_log = logging.getLogger(__name__)


class Dispatcher:
    """Everything that is sent. All methods are for the event loop's thread.

    `damage` names the channels that stand still because the store cannot be read there, and why.
    """

    def __init__(
        self,
        store: Store,
        sender: Sender,
        clock: Clock,
        settings: EngineSettings,
        *,
        random: Random,
        telemetry: Telemetry,
        bus: Bus | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._flusher = flusher = Flusher(store.channels)
        self.damage: dict[ChannelId, str] = {}
        revisions = Revisions(store.subscriptions)
        self._works = Works(
            store, sender, clock, settings, random, telemetry, revisions, flusher, self.damage, bus
        )
        self._misfortunes = Misfortunes(store.subscriptions, clock, self.serving, self._spawn)
        self._feeds: list[Feed] = []
        self._subscribers: dict[str, Subscriber] = {}
        self._arriving: dict[Subscriber, asyncio.Task[Any]] = {}  # some of their channels are still to come
        self._tasks: set[asyncio.Task[Any]] = set()
        self._passive_at = 0.0

    # -- life ----------------------------------------------------------------------------------------------

    async def start(self, states: Sequence[ChannelState], subscriptions: Sequence[Subscription]) -> None:
        """Take the channels over as `states` say and begin to send.

        Raises:
            StoreError: the store cannot be read.
        """
        heads = await self._store.log.heads()
        self._feeds = [Feed(self._store.log, partition, head) for partition, head in sorted(heads.items())]
        self._flusher.start()
        for subscription in subscriptions:
            self._subscribers[subscription.id] = Subscriber(self._works, subscription, self._misfortunes.meet)
        for state in states:
            subscriber = self._subscribers.get(state.fence.channel.subscription)
            if subscriber is not None:
                await self._own(subscriber, state)
        self._spawn(self._tick())

    async def stop(self, grace_seconds: float) -> None:
        """Start nothing more, wait for what is in flight, store it. Idempotent.

        What has not ended after `grace_seconds` is cut off and will be sent again.
        """
        for subscriber in self._subscribers.values():
            subscriber.close()
        owners = self._owners()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await asyncio.gather(*(owner.drained() for owner in owners))
        for subscriber in self._subscribers.values():
            await subscriber.cancel()
        await self._flusher.stop()
        try:
            for owner in owners:
                owner.scanner.settle_up()
            await self._flusher.flush(owners)
        except FairleadError as failure:
            _log.error("the last settlements could not be stored", extra={"detail": str(failure)})
        for owner in owners:
            owner.close()
        for feed in self._feeds:
            await feed.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- events --------------------------------------------------------------------------------------------

    @property
    def refusal(self) -> FairleadError | None:
        """Why what is settled cannot be stored at the moment, if that is so: lanes wait for it."""
        return self._flusher.refusal

    def offer(self, appended: Sequence[Appended]) -> None:
        """Entries were committed; a hint that saves reading them back. Never blocks."""
        for one in appended:
            if not one.duplicate:
                self._feeds[one.entry.partition].offer(one.entry)

    def forget(self, partition: int, up_to: int) -> None:
        """Retention has deleted events of a partition, up to a position: memory must not keep them."""
        if partition < len(self._feeds):
            self._feeds[partition].forget(up_to)

    def answered(self, answer: AnswerDocument) -> None:
        """A receiver has answered a delivery on a bus; whoever calls this has verified it. Never blocks."""
        subscriber = self._subscribers.get(answer.subscription)
        owner = None if subscriber is None else subscriber.owners.get(answer.partition)
        if subscriber is not None and owner is not None:
            self._misfortunes.meet(subscriber.subscription, owner, owner.answered(answer))

    # -- subscriptions -------------------------------------------------------------------------------------

    async def adopt(self, subscription: Subscription) -> bool:
        """Serve a subscription as it now stands; True when its filter is in force on every channel.

        False: not within `request_timeout`, or refused for now; the dispatcher goes on trying, and until then
        the filter before it is in force.
        """
        subscriber = self._subscribers.get(subscription.id)
        if subscriber is not None and subscriber.subscription.created_at != subscription.created_at:
            await self.drop(subscription.id)
            subscriber = None
        if subscriber is None:
            subscriber = self._subscribers[subscription.id] = Subscriber(
                self._works, subscription, self._misfortunes.meet
            )
            arriving = self._arriving[subscriber] = self._spawn(self._take_on(subscriber))
            arriving.add_done_callback(lambda _: self._arriving.pop(subscriber))
            await asyncio.shield(arriving)
            return True
        subscriber.replace(subscription)
        if subscriber in self._arriving:  # a channel that is still to come has the filter before this one
            await asyncio.shield(self._arriving[subscriber])
        owners = [owner for owner in subscriber.owners.values() if await owner.filter_differs()]
        timeout_seconds = self._settings.limits.request_timeout_seconds
        return all(
            await asyncio.gather(*(adopt_filter(subscriber, owner, timeout_seconds) for owner in owners))
        )

    async def drop(self, subscription_id: str) -> None:
        """Serve a subscription no more; what is in flight ends by itself and counts for nothing."""
        subscriber = self._subscribers.pop(subscription_id, None)
        if subscriber is not None:
            subscriber.close()
            for owner in subscriber.owners.values():
                owner.close()
            self._spawn(subscriber.ended())

    @asynccontextmanager
    async def quiet(
        self, subscription_id: str, partitions: Collection[int] | None = None
    ) -> AsyncIterator[None]:
        """While nothing of these channels is in flight and what was settled is stored; then they load."""
        owners = self._chosen(subscription_id, partitions)
        for owner in owners:
            owner.pause()
        try:
            await asyncio.gather(*(owner.drained() for owner in owners))
            await self._flusher.flush(owners)
            yield
        finally:
            for owner in owners:
                owner.reloading.soon()
                owner.proceed()
            await asyncio.gather(*(owner.reloading.reload() for owner in owners))

    async def reload(self, subscription_id: str, partitions: Collection[int] | None = None) -> None:
        """The store's channels were changed: load them anew, once what is in flight has ended."""
        for owner in self._chosen(subscription_id, partitions):
            owner.reloading.soon()

    def retry(self, subscription_id: str, keys: Collection[str] | None, state: str | None) -> int:
        """Try the heads of held or parked lanes now, those named or all in `state`; how many there are."""
        now = self._clock.monotonic()
        subscriber = self._subscribers.get(subscription_id)
        if subscriber is None:
            return 0
        found = sum(owner.lanes.paging.poke(keys, state, now) for owner in subscriber.owners.values())
        subscriber.wake()
        return found

    def views(self, subscription_id: str) -> list[ChannelView]:
        """The subscription's channels as they are now, by partition."""
        return [owner.view() for owner in self._chosen(subscription_id, None)]

    def serving(self, subscription_id: str) -> Subscriber | None:
        """Who serves a subscription; None if nobody does."""
        return self._subscribers.get(subscription_id)

    async def at_broker(self, subscription_id: str, partition: int | None = None) -> int:
        """How many messages wait at brokers for a subscription, or in the queue of one channel's shard.

        What cannot be known at the moment counts as 0.
        """
        subscriber = self._subscribers.get(subscription_id)
        return 0 if subscriber is None else await subscriber.links.depth(partition)

    def rate(self, subscription_id: str) -> float:
        """Events delivered a second, over the last ten."""
        subscriber = self._subscribers.get(subscription_id)
        return 0.0 if subscriber is None else subscriber.rate()

    # -- inside --------------------------------------------------------------------------------------------

    async def _take_on(self, subscriber: Subscriber) -> None:
        """Own every channel of a new subscription, however long the store is busy."""
        for partition in range(self._store.log.partitions):
            while self._subscribers.get(subscriber.subscription.id) is subscriber:
                try:
                    state = await self._store.channels.load(ChannelId(subscriber.subscription.id, partition))
                    if state is not None:
                        await self._own(subscriber, state)
                    break
                except (StoreBusy, StoreFull):
                    await asyncio.sleep(BUSY_SECONDS)
                except NotFound:
                    return  # deleted meanwhile

    async def _own(self, subscriber: Subscriber, state: ChannelState) -> None:
        feed = self._feeds[state.fence.channel.partition]
        owner = Owner(self._works, subscriber.subscription, state, feed, subscriber.wake)
        owner.pause()  # its holds would be read without its filter
        subscriber.add(owner)
        try:
            await owner.load(state)
        except (StoreBusy, StoreFull):
            await owner.reloading.reload()
        owner.scanner.resume()
        owner.proceed()

    def _owners(self) -> list[Owner]:
        return [owner for subscriber in self._subscribers.values() for owner in subscriber.owners.values()]

    def _chosen(self, subscription_id: str, partitions: Collection[int] | None) -> list[Owner]:
        subscriber = self._subscribers.get(subscription_id)
        owners = {} if subscriber is None else subscriber.owners
        return [
            owner for number, owner in sorted(owners.items()) if partitions is None or number in partitions
        ]

    async def _tick(self) -> None:
        """Slow answers get their hold, pending filters another try, and passive progress is noted."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = self._clock.monotonic()
            passive = now >= self._passive_at
            if passive:
                self._passive_at = now + PASSIVE_SECONDS
            for subscriber in list(self._subscribers.values()):
                for owner in subscriber.owners.values():
                    owner.tick(now, passive=passive)
                    if owner.sieve.pending and owner.may_send:
                        self._spawn(retry_filter(subscriber, owner, TICK_SECONDS))

    def _spawn(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
