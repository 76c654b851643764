# SPDX-License-Identifier: Apache-2.0
"""One connection to one broker, from its opening to its end, on the running event loop."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any

import pika

from fairlead.drivers.amqp import failures as amqp_failures
from fairlead.drivers.amqp.channel import Channel, open_channel
from fairlead.drivers.amqp.message import Broker, Place
from fairlead.drivers.amqp.stream import Stream
from fairlead.errors import BrokerFailed

CLOSE_SECONDS = 2.0
_TICKS = 4  # of silence in `heartbeat_seconds`; the broker sends something in half of that

_log = logging.getLogger("pika")
if _log.level == logging.NOTSET:  # it logs, with traces, what is reported here as one sentence
    _log.setLevel(logging.CRITICAL)


class Wire:
    """An open connection; `open_wire` makes it.

    Attributes:
        where: the broker's address, for people.
        version: of the broker, as numbers; empty where it does not say.
        ended: done, with the reason, when the connection is no more.
        blocked: why the broker takes no messages at the moment; "" while it does.
    """

    def __init__(
        self,
        connection: Stream,
        closed: asyncio.Future[BaseException],
        where: str,
        changed: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._changed = changed
        self._silent = 0
        self._heard = -1
        self._aborted: str | None = None
        self.where = where
        self.blocked = ""
        self.ended: asyncio.Future[BrokerFailed] = self._loop.create_future()
        properties = connection.server_properties or {}
        self.version = _version(properties.get("version"))
        closed.add_done_callback(self._on_end)
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        tick_seconds = connection.params.heartbeat / _TICKS if connection.params.heartbeat else 0
        self._tick_seconds = tick_seconds
        self._ticking = self._loop.call_later(tick_seconds, self._tick) if tick_seconds else None

    async def channel(self) -> Channel:
        """A new channel.

        Raises:
            BrokerFailed: it was not opened.
        """
        return await open_channel(self._connection, self.where, self._end_of_channel)

    def abort(self, reason: str) -> None:
        """End it at once, whatever the other end does."""
        if self._aborted is None and not self.ended.done():
            self._aborted = reason
            self._connection.abort()

    async def close(self) -> None:
        """Say goodbye, what was written before it first; end it after two seconds without an answer."""
        if self.ended.done():
            return
        if self._connection.is_open:
            self._connection.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.shield(self.ended)
        except TimeoutError:
            self.abort(f"{self.where} did not say goodbye")
            await self.ended

    def _end_of_channel(self, reason: BaseException) -> BrokerFailed:
        if self._aborted is not None:
            return BrokerFailed("away", self._aborted)
        return amqp_failures.on_channel(reason, self.where)

    def _on_end(self, closed: asyncio.Future[BaseException]) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        failure = amqp_failures.ended(closed.result(), self.where)
        self.ended.set_result(BrokerFailed("away", self._aborted or failure.detail))

    def _on_blocked(self, _connection: Any, frame: Any) -> None:
        reason = str(frame.method.reason)[:100]
        self.blocked = f"{self.where} takes no messages ({reason}): free memory or disk space there"
        self._changed()

    def _on_unblocked(self, _connection: Any, _frame: Any) -> None:
        self.blocked = ""
        self._changed()

    def _tick(self) -> None:
        """Give the connection up when nothing has come for `heartbeat_seconds`.

        The library's own check looks at windows of five seconds more, and may so need twice the time and ten
        seconds. A loop that stood still itself counts one tick only.
        """
        heard = self._connection.bytes_received
        self._silent = self._silent + 1 if heard == self._heard else 0
        self._heard = heard
        if self._silent >= _TICKS:
            seconds = self._tick_seconds * _TICKS
            self.abort(f"nothing came from {self.where} for {seconds:.0f} s: it or the path to it hangs")
            return
        self._ticking = self._loop.call_later(self._tick_seconds, self._tick)


async def open_wire(
    broker: Broker,
    place: Place,
    address: str,
    *,
    name: str,
    context: ssl.SSLContext | None,
    changed: Callable[[], None],
) -> Wire:
    """Connect to one address of a broker and log in.

    Args:
        name: shown in the broker's list of connections.
        context: for TLS; the host of `place` is what the certificate must be for.
        changed: called when `blocked` changes.

    Raises:
        BrokerFailed: says why not.
    """
    parameters = pika.ConnectionParameters(
        host=address,
        port=place.endpoint.port,
        virtual_host=place.vhost,
        credentials=pika.PlainCredentials(broker.user, broker.password),
        heartbeat=broker.heartbeat_seconds,
        client_properties={"connection_name": name, "product": "Fairlead"},
    )
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[None] = loop.create_future()
    closed: asyncio.Future[BaseException] = loop.create_future()

    def stream() -> Stream:
        def on_end(_connection: Any, error: BaseException) -> None:
            closed.set_result(error)

        made = Stream(parameters, lambda _: opened.set_result(None), on_end, on_end)
        made.most_body_bytes = broker.most_body_bytes
        return made

    transport = None
    try:
        async with asyncio.timeout(broker.connect_timeout_seconds):
            transport, connection = await loop.create_connection(
                stream,
                address,
                place.endpoint.port,
                ssl=context,
                server_hostname=None if context is None else place.endpoint.host,
            )
            await asyncio.wait((opened, closed), return_when=asyncio.FIRST_COMPLETED)
    except OSError as error:  # ssl.SSLError and TimeoutError are some
        raise amqp_failures.connecting(error, place, address, broker.user) from None
    finally:
        if transport is not None and not opened.done():
            transport.abort()
    if not opened.done():
        raise amqp_failures.connecting(closed.result(), place, address, broker.user)
    return Wire(connection, closed, str(place.endpoint), changed)


def _version(text: object) -> tuple[int, ...]:
    numbers = str(text or "").split("-")[0].split(".")
    return tuple(int(number) for number in numbers if number.isdigit())
