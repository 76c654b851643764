# SPDX-License-Identifier: Apache-2.0
"""The HTTP client's connections: which are open, which are idle."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence

from fairlead.core.address import Endpoint
from fairlead.drivers.http_client.connection import HttpConnection
from fairlead.drivers.http_client.message import HttpLimits

SHORT_SECONDS = 60.0
_log = logging.getLogger(__name__)


class ConnectionPool:
    """Every open connection of one client; the idle ones by endpoint, the one used last on top."""

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._idle: defaultdict[Endpoint, list[HttpConnection]] = defaultdict(list)
        self._open: set[HttpConnection] = set()
        self._emptied: asyncio.Future[None] | None = None
        self._loss = asyncio.Event()
        self._short_until = 0.0
        self.closed = False

    def __len__(self) -> int:
        return len(self._open)

    def take(self, endpoint: Endpoint, addresses: Sequence[str]) -> HttpConnection | None:
        """An idle connection to one of `addresses`: the last used one, as it is the likeliest to be open."""
        idle = self._idle.get(endpoint)
        while idle:
            connection = idle.pop()
            if connection.closed:
                continue
            if connection.address in addresses:
                return connection
            connection.abort()  # the name has moved away from there
        return None

    async def make_room(self) -> bool:
        """No descriptor is free: close the connection that has been idle longest, and wait until it is.

        For a minute none is kept when its answer is there: others, who connect to us, need some too.

        Returns:
            Whether there was one to close.
        """
        now = asyncio.get_running_loop().time()
        if self._short_until <= now:
            _log.warning("file descriptors are short: connections are closed after use")
        self._short_until = now + SHORT_SECONDS
        idle = [one for stack in self._idle.values() for one in stack if not one.closed]
        if not idle:
            return False
        longest = min(idle, key=lambda one: one.deadline)
        longest.abort()
        while longest in self._open:
            self._loss.clear()
            await self._loss.wait()
        return True

    async def close(self) -> None:
        """Close every connection, those that are still being made too, and wait until they are closed."""
        self.closed = True
        for connection in list(self._open):
            connection.abort()
        if self._open:
            if self._emptied is None:
                self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._emptied)

    # -- what connections tell (connection.ConnectionOwner) -------------------------------------------------

    def opened(self, connection: HttpConnection) -> None:
        self._open.add(connection)
        if self.closed:
            connection.abort()

    def idle(self, connection: HttpConnection) -> None:
        idle = self._idle[connection.endpoint]
        if self.closed or self._is_short() or len(idle) >= self._limits.max_idle_per_host:
            connection.abort()
        else:
            idle.append(connection)

    def _is_short(self) -> bool:
        return self._short_until > 0 and asyncio.get_running_loop().time() < self._short_until

    def lost(self, connection: HttpConnection) -> None:
        self._open.discard(connection)
        self._loss.set()
        idle = self._idle.get(connection.endpoint)
        if idle is not None:
            if connection in idle:
                idle.remove(connection)
            if not idle:
                del self._idle[connection.endpoint]
        if self._emptied is not None and not self._open:
            self._emptied.set_result(None)
            self._emptied = None
