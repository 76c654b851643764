# SPDX-License-Identifier: Apache-2.0
"""One request and its answer: the `receive` and `send` of an ASGI app.

An answer that comes whole leaves in one write, right after those of others that were ready with it: to write
to a socket is among the dearest things a relay does, and less so while the other end is awake from the last
one (benchmarks/profile.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, MutableSet, Sequence
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl

App = Callable[[Any, Any, Any], Any]
Header = tuple[bytes, bytes]

_STATUS_LINES = {status.value: f"HTTP/1.1 {status} {status.phrase}\r\n".encode() for status in HTTPStatus}
_BODILESS = frozenset({204, 304})
_DEFECT: dict[str, Any] = {"status": 500, "headers": [(b"connection", b"close")]}

_log = logging.getLogger(__name__)


class Exchange:
    """What a connection and the app that answers one of its requests tell each other.

    Args:
        transport: what the answer is written to.
        fixed: headers of every answer.
        keep_alive: whether another request may follow.
        expects_continue: the client sends its body only when it is wanted.
        on_response: called when the answer is written.
        tasks: those of the server; the exchange's own leaves them when it ends.

    Attributes:
        body: what has arrived of it and was not received yet; `more_body` says that some is to come.
        message_event: something is there to be received.
        disconnected: the client is gone, or was refused: nothing is sent any more.
        response_started: something of the answer is written; `response_complete`: all of it is.
    """

    __slots__ = (
        "_expected_bytes",
        "_fixed",
        "_flow",
        "_framing",
        "_head",
        "_leaving",
        "_loop",
        "_on_response",
        "_scope",
        "_task",
        "_tasks",
        "body",
        "disconnected",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
        "response_started",
        "transport",
        "waiting_for_100_continue",
    )

    def __init__(
        self,
        scope: dict[str, Any],
        transport: asyncio.Transport,
        flow: FlowControl,
        *,
        fixed: Sequence[Header],
        keep_alive: bool,
        expects_continue: bool,
        on_response: Callable[[], None],
        tasks: MutableSet[asyncio.Task[None]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.transport = transport
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = expects_continue
        self.body = b""
        self.more_body = True
        self.message_event = asyncio.Event()
        self.disconnected = self.response_started = self.response_complete = False
        self._scope = scope
        self._flow = flow
        self._fixed = fixed
        self._on_response: Callable[[], None] | None = on_response
        self._tasks = tasks
        self._loop = loop
        self._leaving = False
        self._task: asyncio.Task[None] | None = None
        self._head: dict[str, Any] | None = None
        self._expected_bytes: int | None = None
        self._framing = "length"

    def start(self, app: App) -> None:
        """Let the app answer, in a task of its own."""
        self._task = task = self._loop.create_task(self._run(app))
        self._tasks.add(task)

    async def _run(self, app: App) -> None:
        try:
            await app(self._scope, self.receive, self.send)
            if not (self._leaving or self.response_complete or self.disconnected):
                raise RuntimeError("the app returned before its answer was complete")
        except asyncio.CancelledError:
            self.transport.close()
            raise
        except Exception as error:
            _log.error("the app failed", exc_info=error)
            if self.response_started:
                self.transport.close()
            else:
                self._head = None
                await self.send(_DEFECT)
                await self.send({"body": b"Internal Server Error"})
        finally:
            if not self._leaving:
                self._on_response = None  # it leads back here
            if self._task is not None:
                self._tasks.discard(self._task)

    # -- the request ---------------------------------------------------------------------------------------

    def feed(self, body: bytes) -> None:
        """More of the body has arrived."""
        self.body += body
        if len(self.body) > HIGH_WATER_LIMIT:
            self._flow.pause_reading()
        self.message_event.set()

    def end(self) -> None:
        """The body is complete."""
        self.more_body = False
        self.message_event.set()

    async def receive(self) -> dict[str, Any]:
        """ASGI's `receive`."""
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not (self.disconnected or self.response_complete):
            self._flow.resume_reading()
            if not self.message_event.is_set():
                await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = self.body, b""
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    # -- the answer ----------------------------------------------------------------------------------------

    async def send(self, message: dict[str, Any]) -> None:
        """ASGI's `send`: the head waits for the first of the body and leaves with it."""
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()
        if self.disconnected:
            return
        if self._head is None:
            self._head = message
            return
        if self._leaving or self.response_complete:
            raise RuntimeError("the answer is complete already")
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        if self.response_started:
            self._write(self._framed(body, more), more)
            return
        head = self._rendered(self._head, None if more else len(body))
        self.waiting_for_100_continue = False
        data = head + self._framed(body, more)
        if more:
            self._write(data, more)
        else:
            self._leaving = True
            self._loop.call_soon(self._leave, data)

    def _leave(self, data: bytes) -> None:
        """Write an answer that came whole."""
        self._leaving = False
        if not self.disconnected:
            self._write(data, more=False)
        self._on_response = None

    def _write(self, data: bytes, more: bool) -> None:
        self.response_started = True
        self.transport.write(data)
        if not more:
            self._complete()

    def _rendered(self, start: dict[str, Any], size: int | None) -> bytes:
        """The answer's head; `size` is that of the body, if it is here whole."""
        status: int = start["status"]
        lines = [_STATUS_LINES[status]]
        closes = False
        for name, value in (*self._fixed, *start.get("headers", ())):
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                self._expected_bytes = int(value)
            elif name == b"connection":
                closes = b"close" in value.lower()
        if closes:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close\r\n")
        if self._scope["method"] == "HEAD" or status in _BODILESS:
            self._framing = "none"
        elif self._expected_bytes is None and size is not None:
            self._expected_bytes = size
            lines.append(b"content-length: %d\r\n" % size)
        elif self._expected_bytes is None:
            self._framing = "chunks"
            lines.append(b"transfer-encoding: chunked\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines):
            raise RuntimeError("a header of the answer holds a line end")
        return head + b"\r\n"

    def _framed(self, body: bytes, more: bool) -> bytes:
        """The next of the body, as its framing has it."""
        if self._framing == "length":
            left = self._expected_bytes = (self._expected_bytes or 0) - len(body)
            if left < 0 or (left and not more):
                raise RuntimeError("the answer's body is not as long as its content-length says")
            return body
        if self._framing == "none":
            return b""
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return chunk if more else chunk + b"0\r\n\r\n"

    def _complete(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        if self._on_response is not None:
            self._on_response()
