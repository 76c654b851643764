# SPDX-License-Identifier: Apache-2.0
"""`Relay`: the whole relay in one's own process, without any server (interface, section 11).

async with Relay("notifications.db") as relay:
    await relay.subscribe("audit", write_audit_line, source="/orders")
    await relay.publish(Event(id="1", source="/orders", type="order.paid", subject="o-17"))
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from fairlead import wiring
from fairlead.config import Config, delivery_defaults, store_path
from fairlead.core.event import Event
from fairlead.core.policy import Grant, Principal
from fairlead.core.subscription_format import parse
from fairlead.drivers.this_process import Process, this_process
from fairlead.engine.node import Node
from fairlead.errors import ConfigError, FairleadError, NotFound
from fairlead.sdk.publishing.records import Receipt
from fairlead.stores.sqlite.store import MEMORY
from fairlead.transports.in_process import Handler, InProcessSender

OWNER = Principal("this process", (Grant(("admin",)),))


class Relay:
    """Durable, ordered, retrying delivery from one coroutine to handlers and HTTP sinks.

    Events are on disk when `publish` returns. Handlers get each resource's events in the order in which they
    were published, one at a time, again and again until they return; after a crash the last one of a resource
    may come again. Different resources run concurrently. One event loop per relay, and no part in it for the
    children of a fork: every call but `stop` raises FairleadError there.

    Args:
        store: the store's file, or `:memory:`, or a store URL as the configuration has it; one process at a
            time. A relative path is one from the working directory of now, not of `start`.
        config: limits, retention, defaults of deliveries; its `store` and `listen` are not used.

    Raises:
        ConfigError: it looks like a store URL and is none.
    """

    def __init__(
        self, store: str | os.PathLike[str] = "fairlead.db", *, config: Config | None = None
    ) -> None:
        path = _path_of(os.fspath(store))
        self._path = path if path == MEMORY else str(Path(path).absolute())
        self._config = config or Config()
        self._node: Node | None = None
        self._process: Process = (0, 0)
        self._sender: InProcessSender | None = None

    async def start(self) -> None:
        """Open the store and go on where it says.

        Raises:
            StoreLocked: another process has it. StoreError: as `SqliteStore.open`.
        """
        if self._node is not None:
            self._check_process()
            return
        config = replace(self._config, store="sqlite:///" + quote(self._path))
        clock = wiring.SystemClock()
        store = await asyncio.to_thread(wiring.open_store, config)
        policy = wiring.egress_policy(config, authenticated=False)
        self._sender = InProcessSender(wiring.http_sender(config, policy, clock), clock)
        node = wiring.make_node(config, store, self._sender, clock)
        try:
            await node.start()
        except BaseException:  # the caller has nothing to stop, and may want the file
            await node.stop(0)
            raise
        self._node, self._process = node, this_process()

    async def stop(self, grace_seconds: float | None = None) -> None:
        """Wait for what is in flight, store it, close. Idempotent; nothing in a child of a fork.

        Args:
            grace_seconds: how long to wait at most; None for `[shutdown] grace`.
        """
        if self._process != this_process():  # to let go of it would close the parent's connections
            return
        node, self._node = self._node, None
        if node is not None:
            await node.stop(grace_seconds)

    async def __aenter__(self) -> Relay:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def node(self) -> Node:
        """The use-cases behind it (replay, lanes, skips, status), as `fairlead.engine` has them.

        Raises:
            FairleadError: it has not been started, or by the parent of this process.
        """
        if self._node is None:
            raise FairleadError("the relay is not running: call start(), or use `async with Relay(…)`")
        self._check_process()
        return self._node

    def _check_process(self) -> None:
        if self._process != this_process():  # threads do not survive a fork: nobody would ever answer
            raise FairleadError(
                f"the relay was started before a fork, in process {self._process[0]}, and runs only there: "
                "publish there, or from here by HTTP to a `fairlead serve`"
            )

    async def publish(self, event: Event) -> Receipt:
        """Store an event; on disk, fsynced, on return. The same event again is the same event.

        Raises:
            InvalidEvent, EventConflict, TooLarge: the event cannot be taken.
            StoreFull, StoreBusy, Overloaded: not now.
        """
        (appended,) = await self.node.ingest.accept(OWNER, [event])
        entry = appended.entry
        return Receipt(entry.event.id, entry.partition, entry.position, appended.duplicate)

    async def subscribe(
        self,
        id: str,
        to: Handler | str,
        *,
        source: str | None = None,
        types: list[str] | None = None,
        filters: list[Mapping[str, Any]] | None = None,
        protocolsettings: Mapping[str, Any] | None = None,
        sinkcredential: Mapping[str, Any] | None = None,
        **config: Any,
    ) -> None:
        """Deliver what matches to a handler, or to an HTTP sink; in force on return.

        The subscription is stored under `id` and replaced by the next call with it. A handler is not: call
        this again after each start; until then its events are kept.

        Args:
            to: `handler(event)`, sync (in a thread) or `async def`, or a URL. A handler returns when it has
                taken the event; `Reject` means never, anything else that it raises means again, later.
            config: members of a subscription's `config`: `start="beginning"`, `timeout="5s"`.

        Raises:
            InvalidSubscription, InvalidFilter: with every fault. ForbiddenSink: a URL that may not be called.
        """
        node, sender = self.node, self._sender
        assert sender is not None  # noqa: S101 -- there since `start`, as the node is
        sink = to if isinstance(to, str) else sender.handle(id, to)
        given: dict[str, Any] = {
            "source": source,
            "types": types,
            "filters": filters,
            "protocolsettings": protocolsettings,
            "sinkcredential": sinkcredential,
        }
        document: dict[str, Any] = {"id": id, "sink": sink, "protocol": "HTTP", "config": config}
        document |= {name: value for name, value in given.items() if value is not None}
        try:
            previous = await node.subscribing.get(OWNER, id)
        except NotFound:
            previous = None
        defaults = delivery_defaults(self._config)
        wanted = parse(document, id=id, previous=previous, defaults=defaults, now=time.time())
        await node.subscribing.create(OWNER, wanted, replace=True)
        if previous is not None and previous.state == "active" and not isinstance(to, str):
            await node.operating.retry(OWNER, id, state="held")  # what had waited for the handler

    async def unsubscribe(self, id: str) -> None:
        """Forget a subscription and what waits for it. Raises NotFound."""
        await self.node.subscribing.delete(OWNER, id)

    async def status(self, id: str) -> dict[str, object]:
        """How a subscription is doing: the interface's `status` object. Raises NotFound."""
        subscription = await self.node.subscribing.get(OWNER, id)
        return dict(await self.node.queries.status(subscription))


def _path_of(store: str) -> str:
    """The file of a store, where it is named by a URL too."""
    if "://" not in store and not store.startswith("sqlite:"):
        return store
    try:
        return store_path(store)
    except ValueError as error:
        raise ConfigError(f"{store!r} {error}, or a path") from None
