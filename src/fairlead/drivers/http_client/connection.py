# SPDX-License-Identifier: Apache-2.0
"""One HTTP/1.1 connection of ours: a request, its answer, the next request.

A plain asyncio protocol around the httptools parser. It keeps no more than the limits allow, ends every
request by its answer or its deadline, and never lets bytes of one answer be read as the next one's.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol, cast

import httptools

from fairlead.core.address import Endpoint
from fairlead.drivers.http_client.message import HttpAnswer, HttpLimits
from fairlead.drivers.tls import describe_tls_error
from fairlead.errors import SendFailed, SendFailure

Result = HttpAnswer | SendFailed

_TIMER_GRAIN_SECONDS = 0.002  # loops round timers to milliseconds; what is nearer than this is due


class ConnectionOwner(Protocol):
    """Who keeps connections: told of what becomes of each."""

    def opened(self, connection: HttpConnection) -> None: ...

    def idle(self, connection: HttpConnection) -> None:
        """Its answer is whole; it can take another request."""

    def lost(self, connection: HttpConnection) -> None: ...


class HttpConnection(asyncio.Protocol):
    """One connection to one checked address.

    `begin` sends a request and returns a future that always gets a *result*, never an exception, so that no
    error is lost with a caller who left. A caller who leaves must `abort`.
    """

    __slots__ = (
        "_chunks",
        "_complete",
        "_deadline",
        "_headers",
        "_keep_alive",
        "_limits",
        "_loop",
        "_owner",
        "_parser",
        "_request",
        "_size",
        "_skip_body",
        "_status",
        "_timer",
        "_timer_at",
        "_transport",
        "_waiter",
        "address",
        "closed",
        "endpoint",
        "received",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        address: str,
        *,
        loop: asyncio.AbstractEventLoop,
        limits: HttpLimits,
        owner: ConnectionOwner,
    ) -> None:
        self.endpoint = endpoint
        self.address = address
        self.closed = False
        self.received = 0
        """Bytes of the present answer that have arrived, of interim answers too."""
        self._loop = loop
        self._limits = limits
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._request = b""
        self._waiter: asyncio.Future[Result] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = self._deadline = 0.0
        self._clear()

    def _clear(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._size = self._status = self.received = 0
        self._complete = self._keep_alive = self._skip_body = False

    @property
    def deadline(self) -> float:
        """Until when it waits, in loop time; of idle connections the earliest is that of the longest idle."""
        return self._deadline

    # -- for the client ------------------------------------------------------------------------------------

    def begin(self, request: bytes, deadline: float, *, head: bool = False) -> asyncio.Future[Result]:
        """Send a request; its result is there at `deadline` (loop time) at the latest.

        Only for a connection that has no request under way. `head` says that the answer has no body whatever
        its headers say.
        """
        self._clear()
        self._skip_body = head
        waiter = self._waiter = self._loop.create_future()
        if self.closed or self._transport is None:
            self._fail("reset", f"the connection to {self.endpoint} is closed")
        else:
            self._expire_at(deadline)
            self._request = request
            self._loop.call_soon(self._write)
        return waiter

    def _write(self) -> None:
        """After whatever else is ready: requests that follow each other at once find the other end awake."""
        request, self._request = self._request, b""
        if self._transport is not None and not self.closed:
            self._transport.write(request)

    def abort(self) -> None:
        """Close at once; a request under way gets `reset`."""
        self.closed = True
        self._resolve(SendFailed("reset", f"the connection to {self.endpoint} was closed by this side"))
        if self._transport is not None:
            self._transport.abort()

    def abandon(self) -> None:
        """Whoever made it has left, at his deadline say: uvloop closes it then, and tells nobody."""
        if self._transport is not None:
            self.connection_lost(None)

    # -- for the loop --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._expire_at(self._loop.time() + self._limits.idle_timeout_seconds)
        self._owner.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._owner.lost(self)
        if self._waiter is None:
            return
        if self._status and exc is None and not self._has_length():
            self._resolve(self._answer())  # an answer without a length ends with its connection
        elif isinstance(exc, ssl.SSLError):
            self._fail("tls", describe_tls_error(exc, self.endpoint.host))
        elif self.received:
            self._fail("reset", f"{self.endpoint} closed the connection within its answer")
        else:
            self._fail("reset", f"{self.endpoint} closed the connection without an answer")

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._request:
            self.abort()  # nobody asked: the next request must not get this for its answer
            return
        try:
            self._feed(data)
        except httptools.HttpParserUpgrade:
            self._fail("protocol", f"{self.endpoint} wants another protocol (101)")
        except httptools.HttpParserError as error:
            if self._complete:
                self._keep_alive = False  # the answer is whole; what follows it is not ours
            else:
                reason = str(error).partition("(")[0].strip() or type(error).__name__
                self._fail("protocol", f"{self.endpoint} does not answer in HTTP/1.1: {reason}")
        if self._waiter is not None:
            self._judge()

    def _feed(self, data: bytes) -> None:
        room = self._limits.max_header_bytes - self.received
        self.received += len(data)
        if not self._status and len(data) > room:
            self._parser.feed_data(data[:room])
            if not self._status:
                return
            data = data[room:]
        self._parser.feed_data(data)

    def _judge(self) -> None:
        """After some bytes: is the answer whole, long enough, or too much?"""
        limits = self._limits
        if self._complete:
            self._finish()
        elif self._size > limits.max_body_bytes:
            self._resolve(self._answer())
            self.abort()
        elif not self._status and self.received > limits.max_header_bytes:
            self._fail("protocol", f"the headers from {self.endpoint} exceed {limits.max_header_bytes} bytes")
        elif self.received > limits.max_answer_bytes:
            self._fail("protocol", f"{self.endpoint} sent {self.received} bytes and no end of its answer")

    # -- for the parser ------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("bytes after the answer")  # ends this feed before they mix with the answer

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status: int = self._parser.get_status_code()
        if status >= 200:
            self._status = status
            self._complete = self._skip_body
        else:
            self._headers = []  # an interim answer; the real one follows

    def on_body(self, body: bytes) -> None:
        if not self._skip_body:
            self._size += len(body)
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        if self._status:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive() and not self._skip_body

    # -- ends ----------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        answer = self._answer()
        transport = cast(asyncio.Transport, self._transport)
        if self._keep_alive and not transport.is_closing() and not transport.get_write_buffer_size():
            waiter, self._waiter = self._waiter, None
            self._expire_at(self._loop.time() + self._limits.idle_timeout_seconds)
            self._owner.idle(self)
            if waiter is not None and not waiter.done():
                waiter.set_result(answer)
        else:
            self._resolve(answer)
            self.abort()

    def _answer(self) -> HttpAnswer:
        limit = self._limits.max_body_bytes
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return HttpAnswer(self._status, self._headers, body[:limit], len(body) > limit)

    def _has_length(self) -> bool:
        return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self._headers)

    def _fail(self, kind: SendFailure, detail: str) -> None:
        self._resolve(SendFailed(kind, detail))
        self.abort()

    def _resolve(self, result: Result) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():  # done: its caller left, and will abort
            waiter.set_result(result)

    # -- time ----------------------------------------------------------------------------------------------

    def _expire_at(self, deadline: float) -> None:
        """One timer per connection: it fires early rather than late, looks, and goes on waiting."""
        self._deadline = deadline
        if self._timer is None or deadline < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if self._loop.time() + _TIMER_GRAIN_SECONDS < self._deadline:
            self._expire_at(self._deadline)
        elif self._waiter is None:
            self.abort()
        else:
            said = f"answered {self._status} but did not finish" if self._status else "did not answer"
            self._fail("timeout", f"{self.endpoint} {said} within the timeout")
