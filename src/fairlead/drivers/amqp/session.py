# SPDX-License-Identifier: Apache-2.0
"""AMQP 0-9-1 to RabbitMQ, on the running event loop (docs/adr/0009-amqp-library.md).

The only place that knows the client library, with the modules beside it. A `Session` is one
connection that is kept up; publishing, consuming and everything else have channels of their own in it, so
that what a broker refuses one of them does not touch the others.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from fairlead.core.target_health import UNCONFIRMED
from fairlead.drivers.amqp.asking import Asking
from fairlead.drivers.amqp.connection import Wire, open_wire
from fairlead.drivers.amqp.consuming import Consumer
from fairlead.drivers.amqp.message import (
    NOT_YET,
    Broker,
    Incoming,
    Message,
    Place,
    Result,
    Topology,
    where,
)
from fairlead.drivers.amqp.publishing import Publishing
from fairlead.drivers.resolver import Resolver
from fairlead.drivers.tls import client_context
from fairlead.errors import BrokerFailed, ConfigError, SendFailed

__all__ = ["NOT_YET", "Broker", "Consumer", "Incoming", "Message", "Result", "Session", "Topology", "where"]

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0


class Session:
    """One connection to a broker, kept up from now until `close`.

    While it is down each address is tried in turn, resolved anew each time, with growing pauses (0.2 to 5 s)
    between the rounds. Every call is for the loop it was made on.

    Args:
        resolve: gives the addresses that may be connected to; None takes what the system says.
        name: shown in the broker's list of connections.
        changed: called on the loop whenever `up` or `detail` changes.

    Attributes:
        up: connected, logged in, and the broker takes messages.
        since: loop time at which `up` became what it is.
        detail: why it is down, one sentence with what to do; "" while it is up.

    Raises:
        ValueError: an address of the broker is none.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        name: str,
        changed: Callable[[], None] = lambda: None,
        resolve: Resolver | None = None,
    ) -> None:
        self._broker = broker
        self._places = [where(address) for address in broker.addresses]
        self._resolver = resolve or Resolver(None)
        self._name = name
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self._publishings: dict[str, Publishing] = {}
        self._consumers: list[Consumer] = []
        self._asking: Asking | None = None
        self._turn = 0
        self._closed = False
        self.up = False
        self.since = self._loop.time()
        self.detail = NOT_YET
        self._task = self._loop.create_task(self._keep_up())

    # -- messages ------------------------------------------------------------------------------------------

    def publish(
        self, exchange: str, routing_key: str, message: Message, done: Callable[[Result], None]
    ) -> None:
        """Publish persistently and mandatorily, in call order; `done` is called once, after this returns.

        While the session is not `up` nothing is sent and the result is `lost`.
        """
        wire = self._wire
        if wire is None or not self.up:
            self._loop.call_soon(done, Result("lost", self.detail))
            return
        publishing = self._publishings.get(exchange)
        if publishing is not None and publishing.spent:
            publishing.end(UNCONFIRMED)
            publishing = None
        if publishing is None:
            publishing = self._publishings[exchange] = Publishing(wire, exchange)
        publishing.publish(routing_key, message, done)

    def consume(
        self,
        queue: str,
        prefetch: int,
        take: Callable[[Incoming], object],
        changed: Callable[[], None] = lambda: None,
    ) -> Consumer:
        """Give every message of a queue to `take`, at most `prefetch` unacknowledged at a time.

        It is taken up again on each new connection, and tried again where the broker refuses it.

        Args:
            take: must not raise; what it raises goes to the loop's exception handler.
            changed: called whenever `up` or `detail` of the consumer changes.
        """
        consumer = Consumer(queue, prefetch, take, changed)
        self._consumers = [one for one in self._consumers if one.detail != "closed"]
        self._consumers.append(consumer)
        if self._wire is not None:
            consumer.attach(self._wire)
        return consumer

    # -- topology ------------------------------------------------------------------------------------------

    async def declare(self, topology: Topology) -> None:
        """Put a queue and its exchange in place, or see that they are there. Repeatable.

        Raises:
            BrokerFailed: with the broker's words; `missing`, `mismatch` or `forbidden` where it refused.
        """
        await self._questions().declare(topology)

    async def depth(self, queue: str) -> int:
        """How many messages wait in a queue: those ready, not those delivered and unacknowledged.

        Raises:
            BrokerFailed: `missing`, or it cannot be known now.
        """
        return await self._questions().depth(queue)

    def _questions(self) -> Asking:
        if self._asking is None:
            raise BrokerFailed("away", self.detail)
        return self._asking

    # -- its life ------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close it for good; publishes without a result are `lost`. Idempotent."""
        if self._closed:
            await asyncio.gather(self._task, return_exceptions=True)
            return
        self._closed = True
        for consumer in self._consumers:
            consumer.close()
        if self._wire is not None:
            await self._wire.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._tell(False, "closed")

    async def _keep_up(self) -> None:
        pause_seconds = _FIRST_PAUSE_SECONDS
        while not self._closed:
            try:
                connected = await self._serve()
            except Exception as error:  # a defect, here or of who is told, must not be the end of it
                connected = False
                context = {"message": f"the connection {self._name!r} is made anew", "exception": error}
                self._loop.call_exception_handler(context)
            if connected:
                pause_seconds = _FIRST_PAUSE_SECONDS
                continue
            await asyncio.sleep(pause_seconds * random.uniform(0.7, 1.0))
            pause_seconds = min(_LONGEST_PAUSE_SECONDS, pause_seconds * 2)

    async def _serve(self) -> bool:
        """Connect, and return when the connection has ended; False where none was made."""
        wire = await self._connect()
        if wire is None:
            return False
        try:
            self._begin(wire)
            failure = await asyncio.shield(wire.ended)
        finally:
            wire.abort("it is given up")
            self._end(wire)
        self._tell(False, failure.detail)
        return True

    async def _connect(self) -> Wire | None:
        """Try each address once, beginning behind the last one; the first failure of all is what is told."""
        details: list[str] = []
        for _ in self._places:
            place = self._places[self._turn % len(self._places)]
            self._turn += 1
            try:
                return await self._connect_to(place)
            except (BrokerFailed, SendFailed) as failure:
                details.append(failure.detail)
            except ConfigError as error:
                details.append(str(error))
        self._tell(False, "; ".join(dict.fromkeys(details)))
        return None

    async def _connect_to(self, place: Place) -> Wire:
        context = None
        addresses = await self._resolver.resolve(place.endpoint)
        if place.endpoint.tls:
            context = await asyncio.to_thread(client_context, ca_file=self._broker.ca_file, alpn=())
        failure: BrokerFailed | None = None
        for address in addresses:
            try:
                return await open_wire(
                    self._broker, place, address, name=self._name, context=context, changed=self._blocked
                )
            except BrokerFailed as reason:
                failure = failure or reason
        raise failure or BrokerFailed("away", f"{place.endpoint.host} has no address")

    def _begin(self, wire: Wire) -> None:
        self._wire = wire
        self._asking = Asking(wire)
        for consumer in self._consumers:
            consumer.attach(wire)
        self._tell(not wire.blocked, wire.blocked)

    def _end(self, wire: Wire) -> None:
        detail = wire.ended.result().detail if wire.ended.done() else "closed"
        self._wire = None
        self._asking = None
        self._tell(False, detail)
        publishings, self._publishings = self._publishings, {}
        for publishing in publishings.values():
            publishing.end(detail)
        for consumer in self._consumers:
            consumer.detach(detail)

    def _blocked(self) -> None:
        if self._wire is not None:
            self._tell(not self._wire.blocked, self._wire.blocked)

    def _tell(self, up: bool, detail: str) -> None:
        if up != self.up:
            self.since = self._loop.time()
        if (up, detail) != (self.up, self.detail):
            self.up, self.detail = up, detail
            self._changed()
