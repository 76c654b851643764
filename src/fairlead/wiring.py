# SPDX-License-Identifier: Apache-2.0
"""Putting a relay together: the only module that knows which adapters there are (design, section 9)."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fairlead.auth.keys import ApiKeys
from fairlead.bridges.imagefactory import ImagefactoryBridge
from fairlead.config import Config, delivery_defaults, store_path
from fairlead.config.numbers import engine_settings
from fairlead.config.sources import credential_doubts, read_logins
from fairlead.core.egress import EgressPolicy
from fairlead.core.policy import Grant
from fairlead.drivers.http_client.client import HttpClient
from fairlead.drivers.http_server.server import HttpServer, ServerLimits
from fairlead.drivers.resolver import Resolver
from fairlead.drivers.tls import client_context
from fairlead.engine.node import Node
from fairlead.engine.sourcing.sources import Sources
from fairlead.errors import ConfigError
from fairlead.ports import ApiKey, Bus, Clock, Sender
from fairlead.stores.sqlite import tools as sqlite_tools
from fairlead.stores.sqlite.store import SqliteStore
from fairlead.telemetry import Telemetry
from fairlead.transports.amqp import AmqpBus
from fairlead.transports.http import HttpSender
from fairlead.web.app import WebApp, create_app
from fairlead.web.limits import BodyLimits

_log = logging.getLogger(__name__)


class SystemClock:
    """The machine's clocks; `monotonic` runs on while the machine is suspended, where it has such a clock."""

    now = staticmethod(time.time)
    monotonic = staticmethod(
        partial(time.clock_gettime, time.CLOCK_BOOTTIME)
        if hasattr(time, "CLOCK_BOOTTIME")
        else time.monotonic
    )


@dataclass(frozen=True, slots=True)
class StoreTools:
    """What is done to the store of a configuration from outside; see `stores/sqlite/tools.py`."""

    path: str

    def check(self) -> list[str]:
        return sqlite_tools.check(self.path)

    def has_keys(self) -> bool:
        return sqlite_tools.has_keys(self.path)

    def compact(self) -> tuple[int, int]:
        return sqlite_tools.compact(self.path)

    def restored(self, now_ms: int, *, with_wal: bool) -> int:
        return sqlite_tools.restored(self.path, now_ms, with_wal=with_wal)


def store_tools(config: Config) -> StoreTools:
    """The tools for the store that `config` names."""
    return StoreTools(store_path(config.store))


def open_store(config: Config) -> SqliteStore:
    """Open the store that `config` names. Blocks; raises as `SqliteStore.open`."""
    return SqliteStore.open(
        store_path(config.store),
        disk_reserve_bytes=config.store_options.disk_reserve_bytes,
        busy_timeout_seconds=config.store_options.busy_timeout_seconds,
    )


def check_files(config: Config) -> list[str]:
    """Read the files that `config` names, and see that what it asks for is installed. Blocks.

    Returns:
        What is allowed and still probably not meant, a line each.

    Raises:
        ConfigError: a file is missing or does not hold what it should, or an optional library is missing.
    """
    if config.egress.ca_file is not None:
        try:
            client_context(ca_file=config.egress.ca_file)
        except ConfigError as error:
            raise ConfigError(f"[egress] ca_file: {error.message}") from None
    if config.sources:
        _load_queues()
        read_logins(config.sources)
    return list(credential_doubts(config.sources))


def open_to_all(config: Config) -> ConfigError:
    """What keeps a relay that others can reach from starting while no authentication is configured."""
    return ConfigError(
        f"listen: {config.listen} can be reached from other machines, and no authentication is"
        " configured; listen on 127.0.0.1, or set [auth] bootstrap_key"
    )


def make_sources(config: Config, node: Node, clock: Clock) -> Sources:
    """The queues of `[[source]]`, not opened yet. Raises ConfigError as `check_files`."""
    if not config.sources:
        return Sources()
    return _load_queues()(
        config.sources,
        read_logins(config.sources),
        node,
        clock,
        request_bytes=config.limits.request_bytes,
        ca_file=config.egress.ca_file,
        random_bytes=os.urandom,
    )


def _load_queues() -> Callable[..., Sources]:
    """What needs the AMQP library: loaded only where a bus is configured."""
    try:
        from fairlead.bridges.queues import amqp_sources
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pika":
            raise
        raise ConfigError("[[source]]: the AMQP library is missing: pip install 'fairlead[amqp]'") from None
    return amqp_sources


def egress_policy(config: Config, *, authenticated: bool) -> EgressPolicy:
    """Where deliveries may go; loopback too while nothing is configured (design, section 8, "Egress")."""
    return EgressPolicy(config.egress.allow, loopback_allowed=not config.egress.allow and not authenticated)


def http_sender(config: Config, policy: EgressPolicy, clock: Clock) -> HttpSender:
    """REST callbacks under `policy`."""
    resolver = Resolver(policy, ttl_seconds=config.egress.dns_ttl_seconds)
    client = HttpClient(resolver, tls=partial(client_context, ca_file=config.egress.ca_file))
    return HttpSender(client, policy, clock, origin=config.webhook.origin or socket.gethostname())


async def amqp_bus(config: Config, policy: EgressPolicy, clock: Clock, store: SqliteStore) -> AmqpBus:
    """Message buses under `policy`; connects with the first subscription that has one, and not before."""
    resolver = Resolver(policy, ttl_seconds=config.egress.dns_ttl_seconds)
    node_id = await store.note("relay", "node-id")
    if node_id is None:  # kept, so that a restart finds the answers in its reply queue
        node_id = os.urandom(8).hex()
        await store.note("relay", "node-id", node_id)
    return AmqpBus(policy, resolver, clock, node_id=node_id, ca_file=config.egress.ca_file)


def make_node(
    config: Config, store: SqliteStore, sender: Sender, clock: Clock, bus: Bus | None = None
) -> Node:
    """The relay without its outside."""
    settings = engine_settings(config)
    return Node(store, sender, clock, settings, random=random.Random(), telemetry=Telemetry(), bus=bus)


class Server:
    """A relay with its HTTP interface: the composition behind `fairlead serve`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._clock = SystemClock()
        self._node: Node | None = None
        self._sources = Sources()
        self._app: WebApp | None = None
        self._started = asyncio.Event()
        self.needs_login = True  # at its start
        limits = config.limits
        self._http = HttpServer(
            self._answer,
            host=config.listen.host,
            port=config.listen.port,
            limits=ServerLimits(
                header_bytes=limits.header_bytes,
                request_timeout_seconds=limits.request_timeout_seconds,
                connections=limits.connections,
            ),
        )

    @property
    def node(self) -> Node:
        """The node, once started."""
        assert self._node is not None  # noqa: S101 -- asked for only after `start`
        return self._node

    @property
    def url(self) -> str:
        """Where it is reached, the port that was chosen included."""
        return self._http.url

    async def start(self) -> None:
        """Listen, open the store, go on where it says. On an error everything is let go.

        Raises:
            PortInUse: the address is taken. ConfigError: it cannot be listened on, it is not loopback and
            no authentication is configured, or as `check_files`. StoreError: the store cannot serve.
        """
        try:
            if self._config.listen.is_loopback:
                await self._http.start()  # before the store is touched: a taken port changes nothing
            for line in await asyncio.to_thread(check_files, self._config):
                _log.warning("configuration", extra={"detail": line})
            policy = egress_policy(self._config, authenticated=True)
            store = await asyncio.to_thread(open_store, self._config)
            await self._start(store, policy)
        except BaseException:
            await self.stop()
            raise

    async def _start(self, store: SqliteStore, policy: EgressPolicy) -> None:
        config, clock = self._config, self._clock
        bus = await amqp_bus(config, policy, clock, store)
        node = self._node = make_node(config, store, http_sender(config, policy, clock), clock, bus)
        keys = _Logins(store, clock, config, policy)
        self.needs_login = await keys.configured()
        if not self.needs_login and not config.listen.is_loopback:
            raise open_to_all(config)
        bridge = ImagefactoryBridge(node.ingest, store, clock, random_bytes=os.urandom)
        limits = config.limits
        self._sources = await asyncio.to_thread(make_sources, config, node, clock)
        await node.start()
        self._app = create_app(
            node,
            authenticators=[keys],
            keys=keys,
            bridges={"imagefactory": bridge},
            sources=self._sources,
            clock=clock,
            limits=BodyLimits(
                event_bytes=limits.event_bytes,
                request_bytes=limits.request_bytes,
                batch_events=limits.batch_events,
            ),
            delivery_defaults=delivery_defaults(config),
            loopback=config.listen.is_loopback,
        )
        self._started.set()
        if not config.listen.is_loopback:
            await self._http.start()
        self._sources.start()

    async def count_subscriptions(self) -> int:
        """How many subscriptions there are."""
        return len(await self.node.store.subscriptions.all())

    async def stop(self) -> None:
        """Take nothing more, let what has begun end, store it, close. Idempotent."""
        grace_seconds = self._config.shutdown.grace_seconds
        begun = self._clock.monotonic()
        await self._sources.stop()
        if self._node is not None:
            await self._node.ingest.stop()  # publishers and those who follow the log are told at once
        await self._http.stop(grace_seconds)
        if self._node is not None:
            await self._node.stop(max(0.0, grace_seconds - (self._clock.monotonic() - begun)))

    async def _answer(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """The application, as soon as there is one: whoever calls while the store is opened waits."""
        if self._app is None:
            await self._started.wait()
        assert self._app is not None  # noqa: S101 -- set before `_started`
        await self._app(scope, receive, send)


class _Logins(ApiKeys):
    """The API keys; the first one closes loopback for deliveries (design, section 8, "Egress")."""

    def __init__(self, store: SqliteStore, clock: Clock, config: Config, policy: EgressPolicy) -> None:
        super().__init__(store.keys, clock, random_bytes=os.urandom, bootstrap_key=config.auth.bootstrap_key)
        self._policy = policy
        self._named = bool(config.egress.allow)

    async def add(self, name: str, grants: tuple[Grant, ...], expires_at: float | None) -> tuple[ApiKey, str]:
        made = await super().add(name, grants, expires_at)
        await self.configured()  # now, not at the next call: deliveries go on between calls
        return made

    async def configured(self) -> bool:
        configured = await super().configured()
        self._policy.loopback_allowed = not self._named and not configured
        return configured
