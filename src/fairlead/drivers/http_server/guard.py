# SPDX-License-Identifier: Apache-2.0
"""uvicorn's HTTP protocol with limits, deadlines and strictness: what one connection may do to the server.

Smuggling shapes (Content-Length with Transfer-Encoding, bare line feeds, folded headers) are refused by the
parser. What it leaves open is closed here: header sizes, slow or silent senders, a missing or double Host,
bodies that nobody reads, and answers that a reset would destroy before they are read.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Callable
from enum import IntEnum
from typing import cast

import httptools
from uvicorn.config import Config

from fairlead.drivers.http_server.limits import ServerLimits
from fairlead.drivers.http_server.protocol import Connections, Protocol
from fairlead.drivers.http_server.refusal import overloaded, rendered, unparsed
from fairlead.drivers.http_server.taking import Taking
from fairlead.errors import HeadersTooLarge, InvalidHeader, Problem, RequestTimeout

SLICE_BYTES = 16 * 1024
LINGER_SECONDS = 2.0
_OFFER = (b"upgrade", b"http2-settings")


class Stage(IntEnum):
    """How far the request that is being read has come."""

    SILENT, HEAD, BODY, READ, REFUSED = range(5)


class _Parting:
    """What an answer is written to after which the connection closes."""

    def __init__(self, transport: asyncio.Transport, part: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = part


class GuardedProtocol(Protocol):
    """One connection."""

    def __init__(
        self, config: Config, connections: Connections, limits: ServerLimits, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(config, connections, loop)
        self._limits = limits
        self._stage = Stage.SILENT
        self._request = 0
        self._head_bytes = 0
        self._head_count = 0
        self._unfinished_bytes = 0
        self._unread_bytes = 0
        self._taking: Taking
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_stage = Stage.READ
        self._refusal: Problem | None = None
        self._deferred: Problem | None = None

    # -- the connection -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._taking = Taking(transport, self.loop, self._limits.request_timeout_seconds)
        open_now = len(self.connections)
        if open_now > 2 * self._limits.connections:
            transport.abort()
        elif open_now > self._limits.connections:
            self.app = overloaded
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_watching()
        self._taking.stop()
        self._unset_keepalive_if_required()
        self.server_state.closed_one()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's always closes
        """A client that says nothing more (`nc -N`) still gets the answer to what it said."""
        unanswered = self._stage is Stage.READ and not self.cycle.response_complete
        if unanswered and self.scheme == "http":
            self.cycle.keep_alive = False
            return True
        return False

    def data_received(self, data: bytes) -> None:
        if len(data) <= SLICE_BYTES:
            self._feed(data)
        else:
            for start in range(0, len(data), SLICE_BYTES):
                self._feed(data[start : start + SLICE_BYTES])
        self._watch()

    def _feed(self, data: bytes) -> None:
        if self._stage is Stage.REFUSED or self.parser is None:
            return
        stage, request = self._stage, self._request
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline_upgrade(data[offer.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._refuse(self._refusal or unparsed(error))
        if self._stage is Stage.HEAD:
            # The parser keeps a header until it ends: count what surely belongs to this head as it comes.
            whole = stage is Stage.HEAD and request == self._request
            self._unfinished_bytes = self._unfinished_bytes + len(data) if whole else 0
            if self._unfinished_bytes > self._limits.header_bytes:
                self._refuse(self._headers_too_large())

    def _decline_upgrade(self, rest: bytes) -> None:
        """Read the request again without its offer of another protocol, at which the parser stopped.

        Java's HTTP client makes one with each first request; to ignore it is what RFC 9110 asks for.
        """
        connection = b",".join(value.lower() for name, value in self.headers if name == b"connection")
        options = [one for one in connection.replace(b" ", b"").split(b",") if one not in _OFFER]
        kept = [(name, value) for name, value in self.headers if name not in (b"connection", *_OFFER)]
        if options:
            kept.append((b"connection", b",".join(options)))
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in kept]
        self.parser = httptools.HttpRequestParser(self)
        self._feed(b"\r\n".join([*lines, b"", rest]))

    # -- the parser's callbacks ---------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._stage = Stage.HEAD
        self._request += 1
        self._head_bytes = self._head_count = self._unread_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._head_bytes += len(url)
        if self._head_bytes > self._limits.header_bytes:
            self._stop(self._headers_too_large())
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_count += 1
        self._head_bytes += len(name) + len(value) + 4
        limits = self._limits
        if self._head_count > limits.headers or self._head_bytes > limits.header_bytes:
            self._stop(self._headers_too_large())
        if self._stage is Stage.HEAD:  # a trailer comes after the app has read the headers, and is dropped
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._stop(InvalidHeader("CONNECT is for proxies, and this is none"))
            return  # `_decline_upgrade` comes back with the same request
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) != 1 and (hosts or self.parser.get_http_version() == "1.1"):
            self._stop(InvalidHeader(f"the request has {len(hosts)} Host headers; send exactly one"))
        codings = b",".join([value for name, value in self.headers if name == b"transfer-encoding"])
        if codings and codings.strip().lower() != b"chunked":
            self._stop(InvalidHeader("of transfer codings only chunked is understood"))
        super().on_headers_complete()
        self._stage = Stage.BODY
        if not self.cycle.keep_alive:
            self.cycle.transport = cast(asyncio.Transport, _Parting(self.transport, self._part))

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.cycle.response_complete:
            self._unread_bytes += len(body)
            if self._unread_bytes > self._limits.unread_bytes:
                self.transport.close()

    def on_message_complete(self) -> None:
        if self._stage is Stage.HEAD:
            return  # an offer to upgrade, see above
        super().on_message_complete()
        self._stage = Stage.READ

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._deferred is not None and not self.pipeline and self.cycle.response_complete:
            self._send_refusal(self._deferred)

    def _part(self) -> None:
        """The last answer of the connection is written; its request may not be read to its end."""
        if self._stage is Stage.BODY:
            self._linger()
        else:
            self.transport.close()

    def _stop(self, problem: Problem) -> None:
        """Out of a parser's callback: it ends `feed_data` with an error."""
        self._refusal = problem
        raise ValueError(problem.detail)

    # -- refusing -----------------------------------------------------------------------------------------

    def _refuse(self, problem: Problem) -> None:
        """Answer what is being read with a problem, after the answers to what was read before it."""
        reading_body = self._stage is Stage.BODY
        self._stage = Stage.REFUSED
        self._stop_watching()
        if self.cycle is not None and reading_body:
            if self.pipeline and self.pipeline[0][0] is self.cycle:
                self.pipeline.popleft()
                self._deferred = problem
            elif self.cycle.response_started:
                self.transport.close()
            else:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
                self._send_refusal(problem)
        elif self.cycle is not None and not self.cycle.response_complete:
            self._deferred = problem
        else:
            self._send_refusal(problem)

    def _send_refusal(self, problem: Problem) -> None:
        """Write it and linger: closing with bytes unread would reset the connection and lose the answer."""
        status, headers, body = rendered(problem)
        head = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}".encode()]
        head += [name + b": " + value for name, value in (*self.server_state.default_headers, *headers)]
        self.transport.write(b"\r\n".join([*head, b"", body]))
        self._linger()

    def _linger(self) -> None:
        """Say no more, throw away what comes, close soon."""
        self._stage = Stage.REFUSED
        self._stop_watching()
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._deadline = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _headers_too_large(self) -> Problem:
        limits = self._limits
        return HeadersTooLarge(
            f"the request line and headers take more than {limits.header_bytes} bytes, or are more than "
            f"{limits.headers} headers",
            members={"limit_bytes": limits.header_bytes, "limit_headers": limits.headers},
        )

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taking.watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taking.stop()

    # -- deadlines ----------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """One timer per stage, set only while something is missing: a request in one piece costs none."""
        stage = self._stage
        if stage in (Stage.READ, Stage.REFUSED):
            if stage is Stage.READ and self._deadline is not None:
                self._stop_watching()
        elif self._deadline is None or stage is not self._deadline_stage:
            self._stop_watching()
            self._deadline_stage = stage
            self._deadline = self.loop.call_later(self._limits.request_timeout_seconds, self._late)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self.pipeline or self.flow.read_paused:
            self._watch()  # it is we who do not read
        elif self._stage is Stage.SILENT or (self._stage is Stage.BODY and self.cycle.response_complete):
            self.transport.close()
        else:
            what = "body" if self._stage is Stage.BODY else "headers"
            seconds = self._limits.request_timeout_seconds
            self._refuse(RequestTimeout(f"the request's {what} did not arrive within {seconds:g} seconds"))

    def shutdown(self) -> None:
        """The server stops: close now, or after the answers to what was read."""
        if self._stage is Stage.REFUSED and self._deferred is None:
            self.transport.close()
        else:
            super().shutdown()
