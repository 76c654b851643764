# SPDX-License-Identifier: Apache-2.0
"""One relay process without its outside: what there is, and in which order it starts and stops."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from random import Random
from typing import Literal

from fairlead.engine.commands.answers import Answers
from fairlead.engine.commands.handshakes import Handshakes
from fairlead.engine.commands.operating import Operating
from fairlead.engine.commands.subscribing import Subscribing
from fairlead.engine.ingest import Ingest
from fairlead.engine.queries.queries import Queries
from fairlead.engine.retention.expiry import Expiry
from fairlead.engine.retention.janitor import Janitor
from fairlead.engine.retention.retention import Retention
from fairlead.engine.retention.turn import Turn
from fairlead.engine.revisions import Revisions
from fairlead.engine.sending.dispatcher import Dispatcher
from fairlead.engine.settings import EngineSettings
from fairlead.errors import StoreFailed
from fairlead.ports import Bus, Clock, Sender, Store
from fairlead.telemetry import Telemetry

Phase = Literal["starting", "ready", "stopping", "failed"]

_log = logging.getLogger(__name__)


class Node:
    """A relay over one store, one sender and maybe a bus; it closes them when it stops.

    Args:
        random: for jitter.
        random_bytes: for secrets and ids.
        owner: this node's name in the store's leases.
        bus: the way to brokers; None: subscriptions with an AMQP target wait for it.

    Attributes:
        ingest, subscribing, operating, answers, queries: the use-cases, ready to be called after `start`.
        dispatcher: sends.
        failed: set when the store failed and serving must end; `failure` then says why.
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
        random_bytes: Callable[[int], bytes] = os.urandom,
        owner: str = "local",
        bus: Bus | None = None,
    ) -> None:
        self.store = store
        self.settings = settings
        self.telemetry = telemetry
        self.failed = asyncio.Event()
        self.failure: StoreFailed | None = None
        self._sender = sender
        self._bus = bus
        self._owner = owner
        self._phase: Phase = "starting"
        self._loop: asyncio.AbstractEventLoop | None = None
        self.dispatcher = Dispatcher(
            store, sender, clock, settings, random=random, telemetry=telemetry, bus=bus
        )
        self._make_use_cases(clock, random_bytes)

    def _make_use_cases(self, clock: Clock, random_bytes: Callable[[int], bytes]) -> None:
        store, settings, telemetry = self.store, self.settings, self.telemetry
        turn, revisions = Turn(), Revisions(store.subscriptions)
        self.ingest = Ingest(store.log, self.dispatcher, clock, settings, telemetry)
        self.answers = Answers(self.dispatcher, clock, random_bytes=random_bytes)
        self.subscribing = Subscribing(
            store,
            self.dispatcher,
            self._sender,
            clock,
            telemetry,
            random_bytes=random_bytes,
            turn=turn,
            bus=self._bus,
        )
        self.operating = Operating(
            store,
            self.dispatcher,
            clock,
            telemetry,
            revisions=revisions,
            turn=turn,
            keep_seconds=settings.retention.keep_seconds,
        )
        self.queries = Queries(
            store,
            self.dispatcher,
            clock,
            telemetry,
            arrivals=self.ingest.arrivals,
            revisions=revisions,
            phase=lambda: self._phase,
            log_room=self.ingest.room,
        )
        self.janitor = self._janitor(self._sender, clock, turn, revisions)

    @property
    def phase(self) -> Phase:
        """Where the node is in its life; `ready` between `start` and `stop`."""
        return self._phase

    async def start(self) -> None:
        """Become the owner of every partition, go on where the store says, and take events.

        Raises:
            StoreCorrupt, StoreFailed: the store cannot serve.
        """
        self._loop = asyncio.get_running_loop()
        self.store.on_failed = self._store_failed
        self.store.time_commits(self.telemetry.commit_seconds.observe)
        if self._bus is not None:
            self._bus.listen(self.answers.take_from_queue)
        states = await self.store.channels.take_all(self._owner)
        subscriptions = await self.store.subscriptions.all()
        await self.dispatcher.start(states, subscriptions)
        self.janitor.start()
        if self._phase == "starting":
            self._phase = "ready"
        _log.info("node started", extra={"subscriptions": len(subscriptions), "channels": len(states)})

    async def stop(self, grace_seconds: float | None = None) -> None:
        """Take nothing more, let what is in flight end, store it, and close store and sender. Idempotent.

        Args:
            grace_seconds: how long to wait for what is in flight; None for the settings'. What has not
                ended by then is sent again after the next start.
        """
        if self._phase == "stopping":
            return
        begun = self._phase != "starting"
        if self._phase != "failed":
            self._phase = "stopping"
        await self.ingest.stop()
        await self.janitor.stop()
        await self.dispatcher.stop(self.settings.grace_seconds if grace_seconds is None else grace_seconds)
        if self._bus is not None:
            await self._bus.close()
        await self._sender.close()
        await self.store.close()
        if begun:
            _log.info("node stopped")

    def _janitor(self, sender: Sender, clock: Clock, turn: Turn, revisions: Revisions) -> Janitor:
        store, dispatcher, settings = self.store, self.dispatcher, self.settings
        rules, telemetry = settings.retention, self.telemetry
        return Janitor(
            clock,
            rules,
            retention=Retention(
                store, clock, keep_seconds=rules.keep_seconds, turn=turn, deleted=dispatcher.forget
            ),
            expiry=Expiry(store, dispatcher, clock, telemetry, rules, revisions=revisions, turn=turn),
            attempts=store.attempts,
            rejects=store.rejects,
            handshakes=Handshakes(
                store.subscriptions, dispatcher, sender, clock, period_seconds=settings.handshake_seconds
            ),
        )

    def _store_failed(self, failure: StoreFailed) -> None:
        """On whichever thread found out."""
        assert self._loop is not None  # noqa: S101  # start set it before it asked to be told
        self._loop.call_soon_threadsafe(self._fail, failure)

    def _fail(self, failure: StoreFailed) -> None:
        self._phase = "failed"
        self.failure = failure
        self.failed.set()
        _log.critical("the store failed and serving ends", extra={"detail": str(failure)})
