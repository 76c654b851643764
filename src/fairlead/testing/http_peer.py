# SPDX-License-Identifier: Apache-2.0
"""What tests of HTTP clients stand on: real servers on loopback that answer as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from fairlead.core.egress import EgressPolicy
from fairlead.drivers.http_client.client import HttpAnswer, HttpClient, HttpLimits
from fairlead.drivers.resolver import Resolver

PATIENCE_SECONDS = 60.0
"""How long a test waits for what must happen; reached only when it does not."""

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


class Connection:
    """One accepted connection: `request` reads, `answer` writes bytes as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number
        """1 for the server's first connection."""

    async def request(self) -> tuple[bytes, bytes]:
        """The next request: its head, and its body by Content-Length."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return head, await self.reader.readexactly(length)

    async def answer(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def until_closed(self) -> None:
        """Read and drop what comes until the client closes."""
        while await self.reader.read(65536):
            pass


Script = Callable[[Connection], Awaitable[None]]


class Peer:
    """A running server; `opened` and `ended` count its connections, `requests` is for its script."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._changed = asyncio.Event()
        self.opened = 0
        self.ended = 0
        self.requests: list[tuple[bytes, bytes]] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def url(self, host: str = "127.0.0.1", path: str = "/hook", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        task = asyncio.get_running_loop().create_task(self._serve(Connection(reader, writer, self.opened)))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        self._changed.set()

    async def _serve(self, connection: Connection) -> None:
        try:
            await self._script(connection)
        except (OSError, EOFError):
            pass  # the client left: what tests look at is `ended`
        finally:
            connection.writer.close()
            self.ended += 1
            self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition over this server's state; TimeoutError if it never holds."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def note(self, request: tuple[bytes, bytes]) -> None:
        self.requests.append(request)
        self._changed.set()


Scripted = Callable[[Peer], Script]
"""Makes the script of a server, given the server."""


@contextlib.asynccontextmanager
async def peer(
    script: Scripted, *, host: str = "127.0.0.1", context: ssl.SSLContext | None = None
) -> AsyncIterator[Peer]:
    """Serve on a free port; at the end every connection is closed and every task gone."""

    async def serve(connection: Connection) -> None:
        await inner(connection)

    running = Peer(serve)
    inner = script(running)
    server = await asyncio.start_server(running.accept, host, 0, ssl=context, backlog=4096)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
        tasks = list(running.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # let the transports close


def answering(*answers: bytes) -> Scripted:
    """A script that answers every request on every connection with these in turn, the last one for ever."""

    def script(running: Peer) -> Script:
        async def serve(connection: Connection) -> None:
            served = 0
            while True:
                running.note(await connection.request())
                await connection.answer(answers[min(served, len(answers) - 1)])
                served += 1

        return serve

    return script


def once(data: bytes) -> Scripted:
    """A script that answers one request on every connection and then closes it."""

    def script(running: Peer) -> Script:
        async def serve(connection: Connection) -> None:
            running.note(await connection.request())
            await connection.answer(data)

        return serve

    return script


def silent(running: Peer) -> Script:
    """A script that takes a request and never answers."""

    async def serve(connection: Connection) -> None:
        running.note(await connection.request())
        await connection.until_closed()

    return serve


class Client(Protocol):
    """What the suite needs of a client; `fairlead.drivers.http_client.client.HttpClient` is one."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        timeout_seconds: float,
    ) -> HttpAnswer: ...

    async def close(self) -> None: ...


class ClientTests:
    """The ground of the contract: how a client is made, and on which loop it runs. Both may be overridden."""

    def client(
        self,
        names: Mapping[str, Sequence[str]] | None = None,
        *,
        allow: Sequence[str] = ("127.0.0.0/8",),
        tls: Callable[[], ssl.SSLContext] | None = None,
        limits: HttpLimits | None = None,
        ttl_seconds: float = 30.0,
    ) -> Any:
        """A client that finds only `names`; a list is what successive look-ups give when it holds lists."""

        async def lookup(host: str, port: int) -> Sequence[str]:
            if names is None or host not in names:
                raise OSError(-2, "Name or service not known")
            return names[host]

        resolver = Resolver(EgressPolicy(allow), ttl_seconds=ttl_seconds, lookup=lookup)
        return (
            HttpClient(resolver, limits=limits)
            if tls is None
            else HttpClient(resolver, tls=tls, limits=limits)
        )

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run a test to its end; afterwards no task is left."""

        async def watched() -> None:
            async with asyncio.timeout(2 * PATIENCE_SECONDS):
                await main
            if left := asyncio.all_tasks() - {asyncio.current_task()}:
                # the server's own of a handshake that failed may take a turn or two more to end
                _, left = await asyncio.wait(left, timeout=PATIENCE_SECONDS)
            assert not left, f"tasks left: {left}"

        self.run_loop(watched())

    def run_loop(self, main: Coroutine[Any, Any, None]) -> None:
        asyncio.run(main)


@contextlib.asynccontextmanager
async def closing(client: Any) -> AsyncIterator[Any]:
    """Close a client at the end, and see that it has nothing open then."""
    try:
        yield client
    finally:
        await client.close()
    assert client.open_connections == 0
