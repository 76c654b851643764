# SPDX-License-Identifier: Apache-2.0
"""The client's contract: it ends in time, keeps little, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from fairlead.core.egress import EgressPolicy
from fairlead.drivers.http_client.client import HttpClient, HttpLimits
from fairlead.drivers.resolver import Resolver
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
    peer,
    silent,
)

SHORT_SECONDS = 0.2
MANY_CONNECTIONS = 5000


def dripping(start: bytes, drop: bytes) -> Scripted:
    """A script that answers `start` and then `drop` after `drop`, until the client closes."""

    def script(running: Peer) -> Script:
        async def serve(connection: Connection) -> None:
            running.note(await connection.request())
            await connection.answer(start)
            while not connection.reader.at_eof():
                await connection.answer(drop)
                await asyncio.sleep(0.001)

        return serve

    return script


def flooding(start: bytes, block: bytes) -> Scripted:
    """A script that answers as fast as the client takes it, up to ten thousand million bytes."""

    def script(running: Peer) -> Script:
        async def serve(connection: Connection) -> None:
            running.note(await connection.request())
            await connection.answer(start)
            for _ in range(10_000_000_000 // len(block)):
                await connection.answer(block)

        return serve

    return script


class BoundsTests(ClientTests):
    """Deadlines, cancelling, sizes, numbers of connections."""

    @pytest.mark.parametrize(
        "script",
        [
            pytest.param(silent, id="no answer"),
            pytest.param(dripping(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"), id="slow headers"),
            pytest.param(dripping(b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n", b"x"), id="slow body"),
            pytest.param(dripping(b"HTTP/1.1 200 OK\r\n\r\n", b"x"), id="slow body without a length"),
            pytest.param(dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="interim answers"),
        ],
    )
    def test_the_deadline_ends_the_request_and_its_connection(self, script: Scripted) -> None:
        async def main() -> None:
            async with peer(script) as server, closing(self.client()) as c:
                with pytest.raises(SendFailed, match="within the timeout") as raised:
                    await c.request("POST", server.url(), body=b"{}", timeout_seconds=SHORT_SECONDS)
                assert raised.value.kind == "timeout"
                await server.until(lambda: server.ended == 1)
                assert c.open_connections == 0

        self.run(main())

    def test_the_deadline_covers_a_name_that_is_never_resolved(self) -> None:
        async def lookup(host: str, port: int) -> Sequence[str]:
            await asyncio.Event().wait()
            return []

        async def main() -> None:
            async with closing(HttpClient(Resolver(EgressPolicy(), lookup=lookup))) as c:
                with pytest.raises(SendFailed) as raised:
                    await c.request("POST", "https://a.example/", timeout_seconds=SHORT_SECONDS)
                assert raised.value.kind == "timeout"

        self.run(main())

    def test_the_deadline_holds_on_a_kept_connection_too(self) -> None:
        def script(running: Peer) -> Script:
            async def serve(connection: Connection) -> None:
                running.note(await connection.request())
                await connection.answer(NO_CONTENT)
                running.note(await connection.request())
                await connection.until_closed()

            return serve

        async def main() -> None:
            async with peer(script) as server, closing(self.client()) as c:
                await c.request(
                    "POST", server.url(), timeout_seconds=3600
                )  # the earlier deadline must not win
                with pytest.raises(SendFailed, match="did not answer within"):
                    await c.request("POST", server.url(), timeout_seconds=SHORT_SECONDS)
                await server.until(lambda: server.ended == 1)

        self.run(main())

    def test_a_late_answer_reaches_nobody(self) -> None:
        late = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate"

        def script(running: Peer) -> Script:
            async def serve(connection: Connection) -> None:
                running.note(await connection.request())
                if connection.number == 1:
                    await connection.until_closed()
                    await connection.answer(late)
                else:
                    await connection.answer(NO_CONTENT)

            return serve

        async def main() -> None:
            async with peer(script) as server, closing(self.client()) as c:
                with pytest.raises(SendFailed):
                    await c.request("POST", server.url(), timeout_seconds=SHORT_SECONDS)
                answer = await c.request("POST", server.url(), timeout_seconds=10)
                assert (answer.status, answer.body) == (204, b"")

        self.run(main())

    def test_cancelling_closes_the_connection(self) -> None:
        async def main() -> None:
            async with peer(silent) as server, closing(self.client()) as c:
                task = asyncio.create_task(c.request("POST", server.url(), timeout_seconds=3600))
                await server.until(lambda: len(server.requests) == 1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await server.until(lambda: server.ended == 1)

        self.run(main())

    def test_closing_the_client_ends_what_is_under_way(self) -> None:
        async def main() -> None:
            async with peer(silent) as server:
                c = self.client()
                task = asyncio.create_task(c.request("POST", server.url(), timeout_seconds=3600))
                await server.until(lambda: len(server.requests) == 1)
                await c.close()
                with pytest.raises(SendFailed):
                    await task
                await server.until(lambda: server.ended == 1)
                with pytest.raises(SendFailed, match="closed"):
                    await c.request("POST", server.url(), timeout_seconds=10)
                await c.close()

        self.run(main())

    def test_closing_the_client_ends_what_is_only_being_connected(self) -> None:
        async def main() -> None:
            async with peer(silent) as server:
                c = self.client()
                tasks = [
                    asyncio.create_task(c.request("POST", server.url(), timeout_seconds=3600))
                    for _ in range(9)
                ]
                await server.until(lambda: server.opened > 0)
                await c.close()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                assert {getattr(result, "kind", result) for result in results} == {"reset"}
                await server.until(lambda: server.ended == server.opened)

        self.run(main())

    @pytest.mark.parametrize(
        "start",
        [
            pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n", id="length"),
            pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="until closed"),
        ],
    )
    def test_a_body_of_ten_gigabytes_is_cut_at_the_limit(self, start: bytes) -> None:
        async def main() -> None:
            script = flooding(start, b"x" * 65536)
            async with peer(script) as server, closing(self.client()) as c:
                answer = await c.request("POST", server.url(), timeout_seconds=30)
                assert (answer.status, len(answer.body), answer.truncated) == (200, 64 * 1024, True)
                await server.until(lambda: server.ended == 1)

        self.run(main())

    @pytest.mark.parametrize(
        ("start", "block"),
        [
            pytest.param(b"HTTP/1.1 200 OK\r\n", b"name: value\r\n" * 1000, id="many headers"),
            pytest.param(b"HTTP/1.1 200 OK\r\nname: ", b"x" * 65536, id="one header"),
            pytest.param(b"HTTP/1.1 200 ", b"x" * 65536, id="reason"),
            pytest.param(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 1000, id="interim answers"),
            pytest.param(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                b"1;" + b"x" * 4000 + b"\r\ny\r\n",
                id="chunks",
            ),
        ],
    )
    def test_endless_headers_end_in_a_protocol_failure(self, start: bytes, block: bytes) -> None:
        async def main() -> None:
            script = flooding(start, block)
            async with peer(script) as server, closing(self.client()) as c:
                with pytest.raises(SendFailed) as raised:
                    await c.request("POST", server.url(), timeout_seconds=30)
                assert raised.value.kind == "protocol"
                await server.until(lambda: server.ended == 1)

        self.run(main())

    def test_five_thousand_requests_at_once(self) -> None:
        everybody = asyncio.Event()

        def script(running: Peer) -> Script:
            async def serve(connection: Connection) -> None:
                running.note(await connection.request())
                await everybody.wait()
                await connection.answer(NO_CONTENT)
                await connection.until_closed()

            return serve

        async def main() -> None:
            limits = HttpLimits(max_idle_per_host=MANY_CONNECTIONS)
            async with peer(script) as server, closing(self.client(limits=limits)) as c:
                calls = [c.request("POST", server.url(), timeout_seconds=60) for _ in range(MANY_CONNECTIONS)]
                tasks = [asyncio.create_task(call) for call in calls]
                await server.until(lambda: len(server.requests) == MANY_CONNECTIONS)
                everybody.set()
                assert {answer.status for answer in await asyncio.gather(*tasks)} == {204}
                assert c.open_connections == MANY_CONNECTIONS

        self.run(main())

    def test_no_more_idle_connections_are_kept_than_the_limit(self) -> None:
        async def main() -> None:
            limits = HttpLimits(max_idle_per_host=2)
            async with peer(answering(NO_CONTENT)) as server, closing(self.client(limits=limits)) as c:
                await asyncio.gather(*(c.request("POST", server.url(), timeout_seconds=10) for _ in range(8)))
                await server.until(lambda: server.opened - server.ended <= 2)

        self.run(main())

    def test_an_idle_connection_is_closed_after_a_while(self) -> None:
        async def main() -> None:
            limits = HttpLimits(idle_timeout_seconds=SHORT_SECONDS)
            async with peer(answering(NO_CONTENT)) as server, closing(self.client(limits=limits)) as c:
                await c.request("POST", server.url(), timeout_seconds=3600)
                await server.until(lambda: server.ended == 1)
                assert c.open_connections == 0

        self.run(main())
