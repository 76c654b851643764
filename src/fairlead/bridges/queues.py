# SPDX-License-Identifier: Apache-2.0
"""The queues of a configuration as sources: which connections they share, and which have one order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from fairlead.bridges.amqp_source import AmqpSource, BrokerConnection
from fairlead.core.codec import BATCH
from fairlead.core.json_mapping import JsonMapping
from fairlead.core.oslo_keys import KeyTable
from fairlead.drivers.amqp.session import Broker
from fairlead.engine.node import Node
from fairlead.engine.sourcing import formats
from fairlead.engine.sourcing.consumer import Consumer
from fairlead.engine.sourcing.inlet import Format, Inlet
from fairlead.engine.sourcing.sources import Sources
from fairlead.ports import Clock


class Queue(Protocol):
    """What is configured of one queue (interface, section 9)."""

    @property
    def name(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def prefetch(self) -> int: ...
    @property
    def declare(self) -> bool: ...
    @property
    def keys(self) -> Mapping[str, str]: ...
    def mapping(self) -> JsonMapping: ...


def amqp_sources(
    queues: Sequence[Queue],
    logins: Mapping[str, tuple[str, str] | None],
    node: Node,
    clock: Clock,
    *,
    request_bytes: int,
    ca_file: str | None,
    random_bytes: Callable[[int], bytes],
) -> Sources:
    """The sources, not opened yet. Those of one broker and login share a connection.

    OpenStack's queues of one broker are taken in one order: a service writes into several.

    Args:
        logins: user and password by the source's name; None for the broker's guest.
        request_bytes: the longest message; `event_bytes` bounds each event in it.
    """
    limits = node.settings.limits
    connections: dict[Broker, BrokerConnection] = {}
    groups: dict[tuple[str, ...], list[Inlet]] = {}
    for queue in queues:
        broker = _broker(queue, logins[queue.name], ca_file)
        connection = connections.setdefault(broker, BrokerConnection(broker, name="fairlead sources"))
        source = AmqpSource(
            connection,
            queue.queue,
            prefetch=queue.prefetch,
            declare=queue.declare,
            keep_bytes=partial(_keep_bytes, queue.format, limits.event_bytes, request_bytes),
        )
        inlet = Inlet(
            queue.name,
            source,
            _format(queue, batch_events=limits.batch_events, event_bytes=limits.event_bytes),
            node.ingest,
            clock,
            event_bytes=limits.event_bytes,
            random_bytes=random_bytes,
        )
        group = (queue.url,) if queue.format == "oslo" else (queue.url, queue.name)
        groups.setdefault(group, []).append(inlet)
    return Sources(
        [
            Consumer(inlets, node.ingest, node.store.rejects, clock, batch_events=limits.batch_events)
            for inlets in groups.values()
        ]
    )


def _keep_bytes(format: str, event_bytes: int, request_bytes: int, content_type: str | None) -> int:
    """How long a message may be that holds events of `event_bytes`.

    A batch has many events. OpenStack's second envelope writes JSON into a string, and there is context in
    it that the event has not.
    """
    if format == "oslo":
        return min(4 * event_bytes, request_bytes)
    is_batch = format == "cloudevents" and (content_type or "").strip().lower().startswith(BATCH)
    return request_bytes if is_batch else event_bytes


def _broker(queue: Queue, login: tuple[str, str] | None, ca_file: str | None) -> Broker:
    broker = Broker((queue.url,), ca_file=ca_file)
    return broker if login is None else replace(broker, user=login[0], password=login[1])


def _format(queue: Queue, *, batch_events: int, event_bytes: int) -> Format:
    if queue.format == "json":
        return formats.plain_json(queue.mapping())
    if queue.format == "oslo":
        return formats.notifications(KeyTable(queue.keys))
    return formats.cloudevents(batch_events=batch_events, event_bytes=event_bytes)
