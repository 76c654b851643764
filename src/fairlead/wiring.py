# SPDX-License-Identifier: Apache-2.0
"""Putting a relay together: the only module that knows which adapters there are (design, section 9)."""

from __future__ import annotations

import random
import socket
import time
from dataclasses import dataclass
from functools import partial

from fairlead.config import Config, store_path
from fairlead.core.egress import EgressPolicy
from fairlead.drivers.http_client import HttpClient
from fairlead.drivers.resolver import Resolver
from fairlead.drivers.tls import client_context
from fairlead.engine.node import Node
from fairlead.engine.settings import Breaker, EngineSettings, Limits, Retention
from fairlead.ports import Clock, Sender
from fairlead.stores import sqlite_tools
from fairlead.stores.sqlite import SqliteStore
from fairlead.telemetry import Telemetry
from fairlead.transports.http import HttpSender


class SystemClock:
    """The machine's clocks; `monotonic` runs on while the machine is suspended, where it has such a clock."""

    _boot = getattr(time, "CLOCK_BOOTTIME", None)

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic() if self._boot is None else time.clock_gettime(self._boot)


@dataclass(frozen=True, slots=True)
class StoreTools:
    """What is done to the store of a configuration from outside; see `stores.sqlite_tools`."""

    path: str

    def check(self) -> list[str]:
        return sqlite_tools.check(self.path)

    def compact(self) -> tuple[int, int]:
        return sqlite_tools.compact(self.path)

    def restored(self, now_ms: int) -> int:
        return sqlite_tools.restored(self.path, now_ms)


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


def egress_policy(config: Config, *, authenticated: bool) -> EgressPolicy:
    """Where deliveries may go; loopback too while nothing is configured (design, section 8, "Egress")."""
    return EgressPolicy(config.egress.allow, loopback_allowed=not config.egress.allow and not authenticated)


def http_sender(config: Config, policy: EgressPolicy, clock: Clock) -> HttpSender:
    """REST callbacks under `policy`."""
    resolver = Resolver(policy, ttl_seconds=config.egress.dns_ttl_seconds)
    client = HttpClient(resolver, tls=partial(client_context, ca_file=config.egress.ca_file))
    return HttpSender(client, policy, clock, origin=config.webhook.origin or socket.gethostname())


def make_node(config: Config, store: SqliteStore, sender: Sender, clock: Clock) -> Node:
    """The relay without its outside."""
    return Node(store, sender, clock, engine_settings(config), random=random.Random(), telemetry=Telemetry())


def engine_settings(config: Config) -> EngineSettings:
    """The engine's numbers as `config` has them."""
    limits, retention, breaker = config.limits, config.retention, config.breaker
    return EngineSettings(
        limits=Limits(
            event_bytes=limits.event_bytes,
            batch_events=limits.batch_events,
            log_bytes=limits.log_bytes,
            request_timeout_seconds=limits.request_timeout_seconds,
        ),
        retention=Retention(
            keep_seconds=retention.keep_seconds,
            max_age_seconds=retention.max_age_seconds,
            max_bytes=retention.max_bytes,
            attempts_seconds=retention.attempts_seconds,
        ),
        breaker=Breaker(
            failures=breaker.failures,
            probe_every_seconds=breaker.probe_every_seconds,
            probe_max_seconds=breaker.probe_max_seconds,
        ),
        grace_seconds=config.shutdown.grace_seconds,
    )
