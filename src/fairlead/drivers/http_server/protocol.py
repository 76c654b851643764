# SPDX-License-Identifier: Apache-2.0
"""uvicorn's HTTP protocol without what costs time at every request: its cycle, its timers, its second write.

Measured in docs/adr/0004-http-server.md. What one connection may do is in `guard`, which builds on this.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from fairlead.drivers.http_server.exchange import App, Exchange

_TIMER_GRAIN_SECONDS = 0.002  # loops round timers to milliseconds
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class Connections(ServerState):
    """What uvicorn's protocol shares between connections, and a signal that the last one is closed."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = asyncio.Event()

    def closed_one(self) -> None:
        if not self.connections:
            self._closed.set()

    async def all_closed(self, deadline: float) -> None:
        """Return when no connection is left, or at a monotonic time."""
        while self.connections and (left := deadline - time.monotonic()) > 0:
            self._closed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), left)


class Protocol(HttpToolsProtocol):
    """One connection, its requests and their exchanges in turn.

    A kept connection has one timer, whatever the number of its requests: it looks and goes on waiting.
    """

    cycle: Exchange  # type: ignore[assignment]  # ours in place of uvicorn's
    pipeline: deque[tuple[Exchange, App]]  # type: ignore[assignment]
    app: App

    def __init__(self, config: Config, connections: Connections, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(config, connections, {}, loop)
        self.server_state: Connections = connections
        self._idle_since: float | None = None

    # -- the parser's callbacks ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._idle_since = None
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        self._idle_since = None
        before = self.cycle
        version = self.parser.get_http_version()
        cycle = Exchange(
            self._scope(version),
            self.transport,
            self.flow,
            fixed=self.server_state.default_headers,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            expects_continue=self.expect_100_continue,
            on_response=self.on_response_complete,
            tasks=self.tasks,
            loop=self.loop,
        )
        if before is None or before.response_complete:
            cycle.start(self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))
        self.cycle = cycle  # not before it is sure to be answered: refusals wait for its answer

    def _scope(self, version: str) -> dict[str, Any]:
        parts = httptools.parse_url(self.url)
        raw_path = parts.path
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": self.parser.get_method().decode("ascii"),
            "scheme": self.scheme,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": parts.query or b"",
            "root_path": "",
            "headers": self.headers,
            "client": self.client,
            "server": self.server,
        }

    def on_body(self, body: bytes) -> None:
        if not self.cycle.response_complete:
            self.cycle.feed(body)

    def on_message_complete(self) -> None:
        if not self.cycle.response_complete:
            self.cycle.end()

    def on_response_complete(self) -> None:
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            cycle.start(app)
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._watch_idleness(self.timeout_keep_alive)

    # -- idleness ------------------------------------------------------------------------------------------

    def _watch_idleness(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None or self.transport.is_closing():
            return  # the next answer watches again
        left_seconds = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_seconds > _TIMER_GRAIN_SECONDS:
            self._watch_idleness(left_seconds)
        else:
            self.transport.close()
