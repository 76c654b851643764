# SPDX-License-Identifier: Apache-2.0
"""Serving an ASGI app over HTTP/1.1: uvicorn's protocol with our guards, on uvloop where there is one.

The guards are in `guard`; here are the sockets: listen, tell the port, stop without cutting anybody off.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Collection
from email.utils import formatdate
from typing import Any

from uvicorn.config import Config

from fairlead.drivers.http_server.guard import GuardedProtocol
from fairlead.drivers.http_server.limits import ServerLimits
from fairlead.drivers.http_server.protocol import Connections
from fairlead.errors import ConfigError, PortInUse

__all__ = ["HttpServer", "ServerLimits", "new_event_loop"]

KEEP_ALIVE_SECONDS = 75
CLOSE_SECONDS = 2.0


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The fastest event loop there is: `asyncio.Runner(loop_factory=new_event_loop)`."""
    try:
        import uvloop
    except ImportError:  # not built for every platform; the standard loop does the same, slower
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class HttpServer:
    """One listening address and its connections.

    Args:
        app: an ASGI 3 application; it gets no `lifespan`: start what is behind it first.
        host, port: where to listen; port 0 takes a free one (see `port`).
    """

    def __init__(
        self, app: Callable[..., Any], *, host: str, port: int, limits: ServerLimits | None = None
    ) -> None:
        self._host = host
        self._asked_port = port
        self._limits = limits or ServerLimits()
        self._config = Config(
            app,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        self._connections = Connections()
        self._server: asyncio.Server | None = None
        self._date: asyncio.TimerHandle | None = None
        self._port = port

    @property
    def port(self) -> int:
        """The port it listens on, after `start`."""
        return self._port

    @property
    def url(self) -> str:
        """Where it is, as a client writes it."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def start(self) -> None:
        """Listen. Requests are answered from now on.

        Raises:
            PortInUse: another process listens there. ConfigError: there is no such address, or it may not be
            used.
        """
        self._config.load()
        loop = asyncio.get_running_loop()

        def connected() -> GuardedProtocol:
            return GuardedProtocol(self._config, self._connections, self._limits, loop)

        try:
            self._server = await loop.create_server(connected, self._host, self._asked_port, backlog=2048)
        except OSError as error:
            where = f"{self._host}:{self._asked_port}"
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(
                    f"{where} is in use by another process; stop it, or listen elsewhere (--listen)"
                ) from error
            raise ConfigError(f"listen: cannot listen on {where}: {error.strerror or error}") from error
        self._port = self._server.sockets[0].getsockname()[1]
        self._refresh_date()

    async def stop(self, grace_seconds: float) -> None:
        """Take no new connection, answer the requests that have begun, close every connection. Idempotent.

        Args:
            grace_seconds: what has not been answered by then is cut off.
        """
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        if self._date is not None:
            self._date.cancel()
        deadline = time.monotonic() + grace_seconds
        connections = self._connections
        for connection in list(connections.connections):
            connection.shutdown()
        await _ended(connections.tasks, deadline)
        # What is answered is still being written: closing waits for the other end to take it.
        await connections.all_closed(min(deadline, time.monotonic() + CLOSE_SECONDS))
        for task in list(connections.tasks):
            task.cancel()
        for connection in list(connections.connections):
            connection.transport.abort()
        await connections.all_closed(time.monotonic() + CLOSE_SECONDS)

    def _refresh_date(self) -> None:
        """RFC 9110 asks whoever has a clock for a `Date`; a second's precision, so once a second."""
        self._connections.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._date = asyncio.get_running_loop().call_later(1.0, self._refresh_date)


async def _ended(tasks: Collection[asyncio.Task[None]], deadline: float) -> None:
    """Wait for every task, those too that begin meanwhile (pipelined requests), or for the deadline."""
    while tasks and (left := deadline - time.monotonic()) > 0:
        await asyncio.wait(set(tasks), timeout=left)
