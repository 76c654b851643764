# SPDX-License-Identifier: Apache-2.0
"""Queues as a sender has them, and a relay that takes events from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pika

from tests.acceptance.api import STRUCTURED, Api, event
from tests.acceptance.processes import QUICK, RelayProcess
from tests.acceptance.waiting import until
from tests.servers.rabbitmq import RabbitNode

T = TypeVar("T")


class Sender:
    """Publishes into queues of one virtual host, with confirms: what was sent is on the broker's disk."""

    def __init__(self, node: RabbitNode, vhost: str) -> None:
        self._parameters = pika.URLParameters(f"amqp://guest:guest@127.0.0.1:{node.port}/{vhost}")
        self.vhost = vhost

    @contextmanager
    def channel(self) -> Iterator[Any]:
        connection = pika.BlockingConnection(self._parameters)
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            yield channel
        finally:
            connection.close()

    def declare(self, *queues: str, single_active: bool = False) -> None:
        """Durable quorum queues."""
        arguments = {"x-queue-type": "quorum"} | ({"x-single-active-consumer": True} if single_active else {})
        with self.channel() as channel:
            for queue in queues:
                channel.queue_declare(queue, durable=True, arguments=arguments)

    def send(self, queue: str, *messages: tuple[bytes, pika.BasicProperties]) -> None:
        """Bodies with their properties, in order."""
        with self.channel() as channel:
            for body, properties in messages:
                channel.basic_publish("", queue, body, properties, mandatory=True)

    def waiting(self, queue: str) -> int:
        """How many messages are ready."""
        with self.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).method.message_count)


def structured(document: dict[str, Any]) -> tuple[bytes, pika.BasicProperties]:
    """A CloudEvent in structured mode."""
    return json.dumps(document).encode(), properties(STRUCTURED)


def properties(content_type: str | None = None, **others: Any) -> pika.BasicProperties:
    """Of a persistent message."""
    return pika.BasicProperties(content_type=content_type, delivery_mode=2, **others)


def events(count: int, start: int = 0, key: str = "k1") -> list[tuple[bytes, pika.BasicProperties]]:
    """Messages that are events of one resource, in order."""
    return [structured(event(number, key)) for number in range(start, start + count)]


def source(url: str, queue: str, name: str = "in", **more: object) -> str:
    """One `[[source]]`, as TOML."""
    keys = {"name": name, "url": url, "queue": queue, **more}
    return "[[source]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


@contextmanager
def taking(place: Path, *sources: str, config: str = "") -> Iterator[RelayProcess]:
    """A running relay with sources."""
    with RelayProcess(place, config + QUICK + "".join(sources)) as relay:
        yield relay


def states(api: Api) -> dict[str, dict[str, Any]]:
    """What readiness says of each source."""
    return {one["name"]: one for one in api.call("GET", "/readyz").must(200, 503)["sources"]}


def until_state(api: Api, state: str, name: str = "in") -> dict[str, Any]:
    """Wait for a source's state, and return what is said of it."""
    until(lambda: states(api)[name]["state"] == state, lambda: f"{name} is {state}: {states(api)}")
    return states(api)[name]


def taken(api: Api, key: str = "/heat k1") -> list[str]:
    """The ids in the log under a key, in their order."""
    return [item["event"]["id"] for item in api.items("/events", key=key)]


def until_taken(api: Api, count: int, key: str = "/heat k1") -> list[str]:
    """Wait until the log holds so many events of a key."""
    return until_listed(lambda: taken(api, key), count)


def until_listed(look: Callable[[], list[T]], count: int) -> list[T]:
    """Wait until a list has so many items."""
    until(lambda: len(look()) >= count, lambda: f"{count} of them: there are {len(look())}")
    return look()
