# SPDX-License-Identifier: Apache-2.0
"""The client's contract: HTTP/1.1 as servers speak it, well and badly."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from fairlead.errors import SendFailed
from fairlead.testing.http_peer import (
    NO_CONTENT,
    ClientTests,
    Connection,
    Peer,
    Script,
    Scripted,
    answering,
    closing,
    once,
    peer,
)

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
PACKED = gzip.compress(b"x" * 100_000)


def serving_then_closing(answers_before: int, first: bytes = NO_CONTENT) -> Scripted:
    """The first connection answers some requests, then takes one and closes; later connections answer all."""

    def script(running: Peer) -> Script:
        async def serve(connection: Connection) -> None:
            while True:
                running.note(await connection.request())
                if connection.number == 1 and len(running.requests) > answers_before:
                    return
                await connection.answer(first)

        return serve

    return script


class WireTests(ClientTests):
    """Framing, keep-alive, sending again, garbage."""

    @pytest.mark.parametrize(
        ("raw", "status", "body"),
        [
            pytest.param(OK, 200, b"ok", id="length"),
            pytest.param(CHUNKED + b"1\r\no\r\n1;x=y\r\nk\r\n0\r\nt: v\r\n\r\n", 200, b"ok", id="chunked"),
            pytest.param(b"HTTP/1.1 200 OK\r\n\r\nok", 200, b"ok", id="until closed"),
            pytest.param(b"HTTP/1.0 200 OK\r\n\r\nok", 200, b"ok", id="HTTP/1.0"),
            pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok", id="100"),
            pytest.param(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 3 + OK, 200, b"ok", id="103"),
            pytest.param(b"HTTP/1.1 204 No Content\r\nx: y\r\n\r\n", 204, b"", id="204"),
            pytest.param(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n", 304, b"", id="304"),
            pytest.param(b"HTTP/1.1 500\r\ncontent-length: 0\r\n\r\n", 500, b"", id="no reason"),
        ],
    )
    def test_an_answer_is_read_however_it_is_framed(self, raw: bytes, status: int, body: bytes) -> None:
        async def main() -> None:
            async with peer(once(raw)) as server, closing(self.client()) as c:
                answer = await c.request("POST", server.url(), body=b"{}", timeout_seconds=10)
                assert (answer.status, answer.body, answer.truncated) == (status, body, False)
                assert answer.header("link") is None  # of an interim answer

        self.run(main())

    def test_an_answer_is_read_byte_by_byte(self) -> None:
        def script(running: Peer) -> Script:
            async def serve(connection: Connection) -> None:
                await connection.request()
                for byte in CHUNKED + b"2\r\nok\r\n0\r\n\r\n":
                    await connection.answer(bytes([byte]))

            return serve

        async def main() -> None:
            async with peer(script) as server, closing(self.client()) as c:
                assert (await c.request("POST", server.url(), timeout_seconds=10)).body == b"ok"

        self.run(main())

    @pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
    def test_a_method_without_a_body_sends_and_expects_none(self, method: str) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"

        async def main() -> None:
            raw = head if method == "HEAD" else head + b"hello"
            async with peer(answering(raw)) as server, closing(self.client()) as c:
                for _ in range(2):
                    answer = await c.request(method, server.url(), timeout_seconds=10)
                    assert (answer.status, answer.body) == (200, b"" if method == "HEAD" else b"hello")
                assert b"content-length" not in server.requests[0][0]

        self.run(main())

    def test_requests_in_turn_share_a_connection(self) -> None:
        async def main() -> None:
            async with (
                peer(answering(OK, CHUNKED + b"0\r\n\r\n", NO_CONTENT)) as server,
                closing(self.client()) as c,
            ):
                for number in range(10):
                    await c.request("POST", server.url(), body=b"x" * number, timeout_seconds=10)
                assert server.opened == 1
                assert [len(body) for _, body in server.requests] == list(range(10))

        self.run(main())

    @pytest.mark.parametrize(
        "raw",
        [
            pytest.param(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", id="close"),
            pytest.param(b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", id="HTTP/1.0"),
            pytest.param(OK + b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother", id="two answers"),
            pytest.param(OK + b"garbage", id="garbage after the answer"),
        ],
    )
    def test_a_connection_that_may_not_be_used_again_is_not(self, raw: bytes) -> None:
        async def main() -> None:
            async with peer(answering(raw)) as server, closing(self.client()) as c:
                for number in (1, 2):
                    answer = await c.request("POST", server.url(), timeout_seconds=10)
                    assert answer.body in (b"", b"ok")
                    assert server.opened == number

        self.run(main())

    def test_bytes_that_nobody_asked_for_close_an_idle_connection(self) -> None:
        def script(running: Peer) -> Script:
            async def serve(connection: Connection) -> None:
                await connection.request()
                await connection.answer(NO_CONTENT)
                if connection.number == 1:
                    await server_may_speak.wait()
                    await connection.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong")
                await connection.until_closed()

            return serve

        server_may_speak = asyncio.Event()

        async def main() -> None:
            async with peer(script) as server, closing(self.client()) as c:
                await c.request("POST", server.url(), timeout_seconds=10)
                server_may_speak.set()
                await server.until(lambda: server.ended == 1)
                assert (await c.request("POST", server.url(), timeout_seconds=10)).status == 204

        self.run(main())

    def test_a_request_on_a_kept_connection_closed_by_the_server_is_sent_again_once(self) -> None:
        async def main() -> None:
            script = serving_then_closing(1)
            async with peer(script) as server, closing(self.client()) as c:
                for _ in range(2):
                    assert (
                        await c.request("POST", server.url(), body=b"{}", timeout_seconds=10)
                    ).status == 204
                assert (server.opened, len(server.requests)) == (2, 3)
                assert server.requests[1] == server.requests[2]

        self.run(main())

    def test_a_request_on_a_new_connection_is_never_sent_again(self) -> None:
        async def main() -> None:
            script = serving_then_closing(0)
            async with peer(script) as server, closing(self.client()) as c:
                with pytest.raises(SendFailed, match="without an answer") as raised:
                    await c.request("POST", server.url(), timeout_seconds=10)
                assert raised.value.kind == "reset"
                assert len(server.requests) == 1

        self.run(main())

    def test_a_request_whose_answer_began_is_never_sent_again(self) -> None:
        def script(running: Peer) -> Script:
            async def serve(connection: Connection) -> None:
                running.note(await connection.request())
                await connection.answer(NO_CONTENT)
                running.note(await connection.request())
                await connection.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nha")

            return serve

        async def main() -> None:
            async with peer(script) as server, closing(self.client()) as c:
                await c.request("POST", server.url(), timeout_seconds=10)
                with pytest.raises(SendFailed, match="within its answer") as raised:
                    await c.request("POST", server.url(), timeout_seconds=10)
                assert raised.value.kind == "reset"
                assert len(server.requests) == 2

        self.run(main())

    @pytest.mark.parametrize(
        "raw",
        [
            b"\x00" * 100,
            b"hello, who is there?\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2p1\r\n",
            b"HTTP/1.1 two hundred\r\n\r\n",
            b"HTTP/7.3 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            CHUNKED + b"zz\r\n",
            CHUNKED + b"fffffffffffffffffffff\r\n",
        ],
    )
    def test_garbage_is_a_protocol_failure(self, raw: bytes) -> None:
        async def main() -> None:
            async with peer(once(raw)) as server, closing(self.client()) as c:
                with pytest.raises(SendFailed) as raised:
                    await c.request("POST", server.url(), timeout_seconds=10)
                assert raised.value.kind == "protocol"

        self.run(main())

    def test_nothing_is_asked_for_or_decoded_but_identity(self) -> None:
        raw = (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(PACKED) + PACKED
        )

        async def main() -> None:
            async with peer(answering(raw)) as server, closing(self.client()) as c:
                answer = await c.request("POST", server.url(), timeout_seconds=10)
                assert answer.body == PACKED
                assert b"accept-encoding: identity\r\n" in server.requests[0][0]

        self.run(main())

    def test_an_answer_before_the_request_was_read_counts_and_ends_the_connection(self) -> None:
        def script(running: Peer) -> Script:
            async def serve(connection: Connection) -> None:
                await connection.reader.readuntil(b"\r\n\r\n")
                await connection.answer(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
                await connection.until_closed()

            return serve

        async def main() -> None:
            async with peer(script) as server, closing(self.client()) as c:
                answer = await c.request("POST", server.url(), body=b"x" * 32_000_000, timeout_seconds=30)
                assert answer.status == 413
                await server.until(lambda: server.ended == 1)

        self.run(main())

    def test_a_large_body_arrives_whole(self) -> None:
        body = bytes(range(256)) * 32_768

        async def main() -> None:
            async with peer(once(NO_CONTENT)) as server, closing(self.client()) as c:
                await c.request("PUT", server.url(path="/a?b=\u00fc"), body=body, timeout_seconds=30)
                assert server.requests[0][1] == body
                assert server.requests[0][0].startswith(b"PUT /a?b=%C3%BC HTTP/1.1\r\n")

        self.run(main())
