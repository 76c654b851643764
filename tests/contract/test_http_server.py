# SPDX-License-Identifier: Apache-2.0
"""The HTTP server against clients that are slow, greedy, wrong or hostile: raw sockets, real bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from fairlead.drivers.http_server.exchange import Exchange
from fairlead.drivers.http_server.server import HttpServer, ServerLimits, new_event_loop
from fairlead.errors import ConfigError, PortInUse

PATIENCE_SECONDS = 30.0
SOON = ServerLimits(request_timeout_seconds=0.2)

App = Callable[[Any, Any, Any], Awaitable[None]]


def play(scene: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(asyncio.wait_for(scene, PATIENCE_SECONDS))


@dataclass
class Echo:
    """Reads the body and answers with what it saw; `hold` keeps answers back until it is set."""

    hold: asyncio.Event | None = None
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[str] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope["raw_path"].decode())
        self.begun.set()
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone.set()
                return
            body += message["body"]
            if not message["more_body"]:
                break
        if self.hold is not None:
            await self.hold.wait()
        headers = len(scope["headers"])
        text = f"{scope['method']} {scope['raw_path'].decode()} {headers} {len(body)}".encode()
        await answer(send, 200, text)


async def answer(send: Any, status: int, text: bytes) -> None:
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


async def refusing(scope: Any, receive: Any, send: Any) -> None:
    """Answers 413 without reading the body."""
    await answer(send, 413, b"too large")


@contextlib.asynccontextmanager
async def serving(app: App, limits: ServerLimits | None = None) -> AsyncIterator[HttpServer]:
    server = HttpServer(app, host="127.0.0.1", port=0, limits=limits)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(5.0)


class Client:
    """A socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(head[0].split()[1]), headers, body

    async def hear_problem(self) -> tuple[str, dict[str, str], dict[str, Any]]:
        """The next answer as a problem: its type's last word, its headers, its document."""
        status, headers, body = await self.hear()
        document = json.loads(body)
        assert headers["content-type"] == "application/problem+json"
        assert document["status"] == status
        assert document["request_id"] == headers["x-request-id"]
        return document["type"].rpartition(":")[2], headers, document

    async def until_closed(self) -> bytes:
        """What comes until the server closes."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""


@contextlib.asynccontextmanager
async def connected(server: HttpServer) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


GET = b"GET /%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


# -- what it serves -----------------------------------------------------------------------------------------


def test_a_connection_serves_one_request_after_the_other() -> None:
    async def scene() -> None:
        async with serving(Echo()) as server, connected(server) as client:
            for number in range(3):
                await client.say(GET % number)
                status, headers, body = await client.hear()
                assert (status, body) == (200, b"GET /%d 1 0" % number)
                assert "date" in headers
                assert "server" not in headers

    play(scene())


def test_pipelined_requests_are_answered_in_order() -> None:
    async def scene() -> None:
        async with serving(Echo()) as server, connected(server) as client:
            await client.say(b"".join(GET % number for number in range(20)))
            for number in range(20):
                assert (await client.hear())[2] == b"GET /%d 1 0" % number

    play(scene())


def test_a_body_that_comes_in_chunks_arrives_whole() -> None:
    async def scene() -> None:
        async with serving(Echo()) as server, connected(server) as client:
            await client.say(b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for size in (1, 70_000, 3):
                await client.say(b"%x\r\n%b\r\n" % (size, b"x" * size))
            await client.say(b"0\r\n\r\n")
            assert (await client.hear())[2] == b"POST /a 2 70004"

    play(scene())


def test_who_expects_100_continue_gets_it_when_the_body_is_wanted() -> None:
    async def scene() -> None:
        async with serving(Echo()) as server, connected(server) as client:
            await client.say(
                b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
            )
            assert (await client.hear())[0] == 100
            await client.say(b"{}")
            assert (await client.hear())[2] == b"POST /a 3 2"

    play(scene())


def test_who_expects_100_continue_learns_that_the_body_is_not_wanted() -> None:
    async def scene() -> None:
        async with serving(refusing) as server, connected(server) as client:
            await client.say(
                b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\nExpect: 100-continue\r\n\r\n"
            )
            assert (await client.hear())[0] == 413

    play(scene())


def test_an_answer_is_not_lost_when_the_body_was_not_read() -> None:
    async def scene() -> None:
        async with serving(refusing) as server, connected(server) as client:
            await client.say(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n")
            await client.say(b"x" * 3_000_000)
            assert (await client.hear())[0] == 413
            await client.say(GET % 2)
            assert (await client.hear())[0] == 413

    play(scene())


@pytest.mark.parametrize("head", [b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: close", b"POST /a HTTP/1.0"])
def test_the_last_answer_of_a_connection_is_not_lost_either(head: bytes) -> None:
    async def scene() -> None:
        async with serving(refusing) as server, connected(server) as client:
            await client.say(head + b"\r\nContent-Length: 3000000\r\n\r\n")
            await client.say(b"x" * 2_000_000)
            status, headers, _ = await client.hear()
            assert (status, headers["connection"]) == (413, "close")
            await client.say(b"x" * 1_000_000 + GET % 666)
            assert await client.until_closed() == b""

    play(scene())


def test_a_body_that_nobody_reads_is_not_read_for_ever() -> None:
    async def scene() -> None:
        limits = ServerLimits(unread_bytes=100_000)
        async with serving(refusing, limits) as server, connected(server) as client:
            await client.say(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 900000000\r\n\r\n")
            assert (await client.hear())[0] == 413
            closed = asyncio.ensure_future(client.until_closed())
            with contextlib.suppress(OSError):
                while not closed.done():
                    await client.say(b"x" * 65_536)
            assert await closed == b""

    play(scene())


def test_an_offer_to_upgrade_is_left_alone_and_the_body_still_read() -> None:
    """What Java's HttpClient sends on http:// by default."""

    async def scene() -> None:
        async with serving(Echo()) as server, connected(server) as client:
            await client.say(
                b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                b"HTTP2-Settings: AAEAAEAA\r\nContent-Length: 4\r\n\r\nbody"
            )
            status, headers, body = await client.hear()
            assert (status, body) == (200, b"POST /a 2 4")
            assert "connection" not in headers
            await client.say(GET % 2)
            assert (await client.hear())[2] == b"GET /2 1 0"

    play(scene())


def test_a_client_that_says_no_more_is_still_answered() -> None:
    async def scene() -> None:
        async with serving(Echo()) as server, connected(server) as client:
            await client.say(GET % 1)
            client.writer.write_eof()
            assert (await client.hear())[2] == b"GET /1 1 0"
            assert await client.until_closed() == b""

    play(scene())


# -- deadlines ----------------------------------------------------------------------------------------------


def test_a_silent_connection_is_closed_without_a_word() -> None:
    async def scene() -> None:
        async with serving(Echo(), SOON) as server, connected(server) as client:
            assert await client.until_closed() == b""

    play(scene())


@pytest.mark.parametrize(
    "start",
    [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b", b"GET / HTTP/1.1\r\nHost: x\r\n"],
)
def test_headers_that_do_not_end_get_408(start: bytes) -> None:
    async def scene() -> None:
        async with serving(Echo(), SOON) as server, connected(server) as client:
            await client.say(start)
            kind, headers, document = await client.hear_problem()
            assert (kind, document["status"], headers["connection"]) == ("request-timeout", 408, "close")
            assert await client.until_closed() == b""

    play(scene())


def test_a_header_that_trickles_in_does_not_move_the_deadline() -> None:
    async def scene() -> None:
        async with serving(Echo(), SOON) as server, connected(server) as client:

            async def trickle() -> None:
                await client.say(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ")
                while True:
                    await client.say(b"a")
                    await asyncio.sleep(0.01)

            dripping = asyncio.ensure_future(trickle())
            assert (await client.hear_problem())[0] == "request-timeout"
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)

    play(scene())


def test_headers_that_do_not_end_on_a_kept_connection_get_408() -> None:
    async def scene() -> None:
        async with serving(Echo(), SOON) as server, connected(server) as client:
            await client.say(GET % 1)
            await client.hear()
            await client.say(b"GET /2 HT")
            assert (await client.hear_problem())[0] == "request-timeout"

    play(scene())


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 10\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc"]
)
def test_a_body_that_does_not_end_gets_408_and_the_app_is_told(framing: bytes) -> None:
    async def scene() -> None:
        app = Echo()
        async with serving(app, SOON) as server, connected(server) as client:
            await client.say(b"POST / HTTP/1.1\r\nHost: x\r\n" + framing)
            kind, _, document = await client.hear_problem()
            assert (kind, document["status"]) == ("request-timeout", 408)
            await app.gone.wait()
            assert await client.until_closed() == b""

    play(scene())


def test_an_answer_may_take_longer_than_a_request() -> None:
    async def scene() -> None:
        app = Echo(hold=asyncio.Event())
        assert app.hold is not None
        async with serving(app, SOON) as server, connected(server) as client, connected(server) as silent:
            await client.say(GET % 1)
            await app.begun.wait()
            await silent.until_closed()  # so the deadline is over
            app.hold.set()
            assert (await client.hear())[0] == 200

    play(scene())


def test_an_app_hears_of_a_client_that_goes_away_in_the_middle_of_its_body() -> None:
    async def scene() -> None:
        app = Echo()
        async with serving(app) as server:
            async with connected(server) as client:
                await client.say(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
                await app.begun.wait()
            await app.gone.wait()

    play(scene())


ANSWER_BYTES = 30_000_000


async def talkative(scope: Any, receive: Any, send: Any) -> None:
    """Answers more than any buffer on the way holds."""
    await answer(send, 200, b"x" * ANSWER_BYTES)


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"])
def test_who_takes_nothing_of_an_answer_is_cut_off(last: bytes) -> None:
    async def scene() -> None:
        async with serving(talkative, SOON) as server:
            with socket.create_connection(("127.0.0.1", server.port)) as deaf:
                deaf.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + last + b"\r\n")
                while not server._connections.connections:
                    await asyncio.sleep(0.01)
                while server._connections.connections:
                    await asyncio.sleep(0.01)

    play(scene())


def test_who_takes_an_answer_slowly_gets_it_whole() -> None:
    async def scene() -> None:
        async with serving(talkative, SOON) as server, connected(server) as client:
            await client.say(GET % 1)
            await client.reader.readuntil(b"\r\n\r\n")
            for _ in range(30):
                await client.reader.readexactly(ANSWER_BYTES // 30)
                await asyncio.sleep(0.02)

    play(scene())


# -- limits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 100_000,
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n"
        + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 900) for n in range(90))
        + b"\r\n",
    ],
    ids=["one long header", "a long path", "many headers", "many long headers"],
)
def test_headers_beyond_the_limits_get_431(head: bytes) -> None:
    async def scene() -> None:
        async with serving(Echo()) as server, connected(server) as client:
            await client.say(head)
            kind, headers, document = await client.hear_problem()
            assert (kind, document["status"], document["limit_bytes"]) == ("headers-too-large", 431, 65_536)
            assert headers["connection"] == "close"

    play(scene())


def test_headers_at_the_limits_are_taken() -> None:
    async def scene() -> None:
        async with serving(Echo()) as server, connected(server) as client:
            await client.say(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 99 + b"\r\n")
            assert (await client.hear())[2] == b"GET / 100 0"
            await client.say(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 65_000 + b"\r\n\r\n")
            assert (await client.hear())[2] == b"GET / 2 0"

    play(scene())


def test_a_connection_too_many_is_told_to_come_again() -> None:
    async def scene() -> None:
        limits = ServerLimits(connections=1)
        async with serving(Echo(), limits) as server, connected(server) as first:
            await first.say(GET % 1)
            await first.hear()
            async with connected(server) as second:
                await second.say(GET % 2)
                kind, headers, document = await second.hear_problem()
                assert (kind, document["status"], headers["retry-after"]) == ("overloaded", 503, "1")
            await first.say(GET % 3)
            assert (await first.hear())[0] == 200

    play(scene())


# -- requests that cannot be understood ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost:x\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_honest_request_gets_400_and_the_connection_ends(request_: bytes) -> None:
    async def scene() -> None:
        app = Echo()
        async with serving(app) as server, connected(server) as client:
            await client.say(request_ + GET % 666)
            kind, headers, document = await client.hear_problem()
            assert (kind, document["status"], headers["connection"]) == ("invalid-header", 400, "close")
            assert b"HTTP/1.1" not in await client.until_closed()
            assert "/666" not in app.seen

    play(scene())


def test_what_cannot_be_understood_is_answered_after_what_came_before_it() -> None:
    async def scene() -> None:
        app = Echo(hold=asyncio.Event())
        assert app.hold is not None
        async with serving(app) as server, connected(server) as client:
            await client.say(GET % 1 + b"nonsense\r\n\r\n")
            await app.begun.wait()
            app.hold.set()
            assert (await client.hear())[2] == b"GET /1 1 0"
            assert (await client.hear_problem())[0] == "invalid-header"
            assert await client.until_closed() == b""

    play(scene())


def test_wrong_requests_leave_no_warning_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with serving(Echo()) as server, connected(server) as client:
            await client.say(b"nonsense\r\n\r\n")
            await client.hear_problem()

    with caplog.at_level(logging.WARNING):
        play(scene())
    assert not caplog.records


@pytest.mark.parametrize("step", ["start", "feed"])
@pytest.mark.parametrize(
    ("error", "expected"), [(MemoryError(), ("overloaded", 503)), (KeyError("x"), ("internal", 500))]
)
def test_what_fails_here_while_a_request_is_read_is_not_the_sender_s_fault(
    error: Exception,
    expected: tuple[str, int],
    step: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def failing(*_: object) -> None:
        raise error

    async def scene() -> None:
        async with serving(Echo()) as server, connected(server) as client:
            monkeypatch.setattr(Exchange, step, failing)
            await client.say(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\nx")
            kind, _, document = await client.hear_problem()
            assert (kind, document["status"]) == expected
            assert await client.until_closed() == b""

    play(scene())
    assert [record.exc_info and record.exc_info[1] for record in caplog.records] == [error]


def test_a_target_that_cannot_be_read_is_the_sender_s_fault() -> None:
    async def scene() -> None:
        async with serving(Echo()) as server:
            for target in (b"/\xe9", b"http://[::1/"):
                async with connected(server) as client:
                    await client.say(b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % target)
                    kind, _, _ = await client.hear_problem()
                    assert kind == "invalid-header"

    play(scene())


# -- starting and stopping ----------------------------------------------------------------------------------


def test_a_stop_lets_requests_in_flight_end_and_closes_idle_connections() -> None:
    async def scene() -> None:
        app = Echo(hold=asyncio.Event())
        assert app.hold is not None
        async with serving(app) as server, connected(server) as busy, connected(server) as idle:
            await busy.say(GET % 1)
            await app.begun.wait()
            stopping = asyncio.ensure_future(server.stop(20.0))
            assert await idle.until_closed() == b""
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", server.port)
            assert not stopping.done()
            app.hold.set()
            status, headers, body = await busy.hear()
            assert (status, body, headers["connection"]) == (200, b"GET /1 1 0", "close")
            await stopping

    play(scene())


def test_a_stop_waits_no_longer_than_its_grace() -> None:
    async def scene() -> None:
        app = Echo(hold=asyncio.Event())
        async with serving(app) as server, connected(server) as client:
            await client.say(GET % 1)
            await app.begun.wait()
            await server.stop(0.05)
            assert await client.until_closed() == b""

    play(scene())


def test_stopping_twice_is_stopping_once() -> None:
    async def scene() -> None:
        async with serving(Echo()) as server:
            await server.stop(1.0)
            await server.stop(1.0)

    play(scene())


def test_a_port_that_is_taken_is_named() -> None:
    async def scene() -> None:
        async with serving(Echo()) as server:
            other = HttpServer(Echo(), host="127.0.0.1", port=server.port)
            with pytest.raises(PortInUse, match=f"127.0.0.1:{server.port} is in use"):
                await other.start()

    play(scene())


def test_an_address_that_is_not_there_is_a_mistake_in_the_configuration() -> None:
    async def scene() -> None:
        with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
            await HttpServer(Echo(), host="192.0.2.1", port=0).start()

    play(scene())


def test_the_url_is_as_a_client_writes_it() -> None:
    async def scene() -> None:
        server = HttpServer(Echo(), host="::1", port=0)
        await server.start()
        assert server.url == f"http://[::1]:{server.port}"
        await server.stop(1.0)

    play(scene())
