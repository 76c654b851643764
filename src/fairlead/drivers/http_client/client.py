# SPDX-License-Identifier: Apache-2.0
"""The HTTP/1.1 client: to checked addresses only, bounded in time and size (docs/adr/0002-http-client.md).

It follows no redirect, reads no proxy from the environment and decodes no compression. Its contract is
`fairlead.testing.http_client_contract`.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable, Iterable, Sequence

from fairlead.core.address import Endpoint, Url
from fairlead.drivers.http_client.connection import HttpConnection
from fairlead.drivers.http_client.message import (
    HttpAnswer,
    HttpLimits,
    Route,
    header_block,
    request_bytes,
    route_to,
)
from fairlead.drivers.http_client.pool import ConnectionPool
from fairlead.drivers.resolver import Resolver
from fairlead.drivers.tls import client_context, describe_tls_error
from fairlead.errors import ConfigError, SendFailed

__all__ = ["HttpAnswer", "HttpClient", "HttpLimits", "Route", "header_block", "route_to"]

_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class HttpClient:
    """Requests over kept-alive connections, for one event loop.

    A request whose caller is cancelled, or whose deadline passes, closes its connection: a late answer
    reaches nobody. One that went over a kept connection and got no byte back, as the server had closed it,
    is sent once more over a new one: requests must bear being repeated (deliveries do: `webhook-id`).

    Args:
        resolver: gives the addresses; nothing else is connected to.
        tls: makes the TLS context, once, off the loop, when the first `https` request needs it.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        tls: Callable[[], ssl.SSLContext] = client_context,
        limits: HttpLimits | None = None,
    ) -> None:
        self._resolver = resolver
        self._tls = tls
        self._limits = limits or HttpLimits()
        self._pool = ConnectionPool(self._limits)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context: asyncio.Task[ssl.SSLContext] | None = None

    @property
    def open_connections(self) -> int:
        """How many connections are open, idle ones counted."""
        return len(self._pool)

    async def request(
        self,
        method: str,
        url: str | Url,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        timeout_seconds: float,
    ) -> HttpAnswer:
        """One request; `send` is for many along one `Route`.

        Raises:
            ValueError: the URL, method or a header cannot be sent. SendFailed: as for `send`.
        """
        return await self.send(route_to(url, method=method, headers=headers), b"", body, timeout_seconds)

    async def send(self, route: Route, extra: bytes, body: bytes, timeout_seconds: float) -> HttpAnswer:
        """Send one request and return its answer, whatever its status.

        Args:
            extra: further headers as `header_block` writes them.
            timeout_seconds: for all of it: resolving, connecting, sending, and the answer to its last byte.

        Raises:
            SendFailed: there is no (whole) answer; `kind` says why.
        """
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        now = loop.time()
        deadline = now + timeout_seconds
        data = request_bytes(route, extra, body)
        addresses = self._resolver.fresh(route.endpoint, now)
        connection = None if addresses is None else self._pool.take(route.endpoint, addresses)
        if connection is None:
            connection = await self._connect(route.endpoint, deadline)
            return _answered(await self._exchange(connection, route, data, deadline))
        result = await self._exchange(connection, route, data, deadline)
        if isinstance(result, SendFailed) and result.kind == "reset" and not connection.received:
            # The server closed it while it was idle; it may not even have seen the request.
            connection = await self._connect(route.endpoint, deadline)
            result = await self._exchange(connection, route, data, deadline)
        return _answered(result)

    async def resolve(self, endpoint: Endpoint, *, timeout_seconds: float) -> Sequence[str]:
        """The addresses that requests to an endpoint would go to, without connecting.

        Raises:
            SendFailed: `dns`, `forbidden` or `timeout`.
        """
        return await self._resolver.resolve_within(endpoint, timeout_seconds)

    async def close(self) -> None:
        """Close every connection and wait until they are; requests under way get `reset`. Idempotent."""
        await self._pool.close()
        await self._resolver.close()
        if self._context is not None:
            await asyncio.gather(self._context, return_exceptions=True)

    # -- connections ---------------------------------------------------------------------------------------

    @staticmethod
    async def _exchange(
        connection: HttpConnection, route: Route, data: bytes, deadline: float
    ) -> HttpAnswer | SendFailed:
        waiter = connection.begin(data, deadline, head=route.method == "HEAD")
        try:
            return await waiter
        except BaseException:  # cancelled: what it may still answer must reach nobody
            connection.abort()
            raise

    async def _connect(self, endpoint: Endpoint, deadline: float) -> HttpConnection:
        if self._pool.closed:
            raise SendFailed("reset", "the HTTP client is closed")
        try:
            async with asyncio.timeout_at(deadline):
                addresses = await self._resolver.resolve(endpoint)
                context = await self._tls_context() if endpoint.tls else None
                return await self._connect_any(endpoint, addresses, context, deadline)
        except TimeoutError:
            raise SendFailed("timeout", f"no connection to {endpoint} within the timeout") from None

    async def _connect_any(
        self, endpoint: Endpoint, addresses: Sequence[str], context: ssl.SSLContext | None, deadline: float
    ) -> HttpConnection:
        """Try each address in turn; each gets its share of the time that is left."""
        loop = asyncio.get_running_loop()
        failure = SendFailed("dns", f"the host {endpoint.host} has no address")
        for place, address in enumerate(addresses):
            share = (deadline - loop.time()) / (len(addresses) - place)
            try:
                async with asyncio.timeout(share):
                    connection = await self._connect_with_room(endpoint, address, context)
            except OSError as error:  # ssl.SSLError and TimeoutError are some
                failure = _why(error, endpoint, address)
            else:
                if place:
                    self._resolver.prefer(endpoint, address)
                return connection
        raise failure

    async def _connect_with_room(
        self, endpoint: Endpoint, address: str, context: ssl.SSLContext | None
    ) -> HttpConnection:
        """Connect; where no descriptor is free, in place of connections that nobody needs just now."""
        while True:
            try:
                return await self._connect_to(endpoint, address, context)
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS or not await self._pool.make_room():
                    raise

    async def _connect_to(
        self, endpoint: Endpoint, address: str, context: ssl.SSLContext | None
    ) -> HttpConnection:
        loop = asyncio.get_running_loop()
        connection = HttpConnection(endpoint, address, loop=loop, limits=self._limits, owner=self._pool)
        try:
            await loop.create_connection(
                lambda: connection,
                address,
                endpoint.port,
                ssl=context,
                server_hostname=endpoint.host if context is not None else None,
            )
        except BaseException:
            connection.abandon()
            raise
        return connection

    async def _tls_context(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = asyncio.create_task(asyncio.to_thread(self._tls))
        try:
            return await asyncio.shield(self._context)
        except ConfigError as error:
            raise SendFailed("tls", str(error)) from None


def _answered(result: HttpAnswer | SendFailed) -> HttpAnswer:
    if isinstance(result, SendFailed):
        raise result
    return result


def _why(error: OSError, endpoint: Endpoint, address: str) -> SendFailed:
    where = str(endpoint) if endpoint.host == address else f"{endpoint} ({address})"
    if isinstance(error, ssl.SSLError):
        return SendFailed("tls", describe_tls_error(error, endpoint.host))
    if isinstance(error, ConnectionRefusedError):
        return SendFailed("refused", f"connection refused by {where}")
    if isinstance(error, TimeoutError):
        return SendFailed("timeout", f"no connection to {where} within the timeout")
    if isinstance(error, ConnectionError):
        return SendFailed("reset", f"{where} closed the connection while it was being made")
    return SendFailed("refused", f"no connection to {where}: {error.strerror or error}")
