# SPDX-License-Identifier: Apache-2.0
"""A whole relay on loopback, as `fairlead serve` runs it, with a client that shows answers as they came."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fairlead.config import Config, Listen
from fairlead.drivers.http_server.server import new_event_loop
from fairlead.wiring import Server

PATIENCE_SECONDS = 60.0
ONE_EVENT = "application/cloudevents+json"


def play(scene: Coroutine[Any, Any, None]) -> None:
    """Run a test's scene to its end on the relay's own kind of loop."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(asyncio.wait_for(scene, PATIENCE_SECONDS))


@dataclass(frozen=True)
class Got:
    """One answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self, status: int, kind: str) -> dict[str, Any]:
        """The problem document, which is of this status and type, and keeps the rules of all of them."""
        assert self.headers["content-type"] == "application/problem+json", (self.status, self.body)
        document: dict[str, Any] = self.json
        assert document["type"] == f"urn:fairlead:problem:{kind}", document
        assert (self.status, document["status"]) == (status, status), document
        assert document["title"]
        assert document["detail"]
        assert document["request_id"] == self.headers["x-request-id"]
        for error in document.get("errors", ()):
            assert error["detail"]
            assert sum(place in error for place in ("pointer", "header", "query")) == 1, error
        return document


class Relay:
    """A running relay and what is called on it.

    Attributes:
        key: sent as a bearer where it is set.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.key: str | None = None

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, object] | None = None,
    ) -> Got:
        """One call on a connection of its own; a body that is not bytes is sent as JSON."""
        sent = {"host": "127.0.0.1", "connection": "close", **(headers or {})}
        payload = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        if body is not None:
            sent.setdefault("content-type", "application/json")
            sent["content-length"] = str(len(payload))
        if self.key is not None:
            sent.setdefault("authorization", f"Bearer {self.key}")
        target = path + ("?" + urlencode(query) if query else "")
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
        answer = await self.raw("\r\n".join([*lines, "", ""]).encode() + payload)
        got = parse_answer(answer, method)
        assert got.headers["x-request-id"]
        assert "access-control-allow-origin" not in got.headers
        return got

    async def raw(self, data: bytes) -> bytes:
        """Everything that comes back for these bytes until the relay closes."""
        port = int(self.server.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(data)
            with contextlib.suppress(ConnectionResetError):
                await writer.drain()
            return await reader.read()
        finally:
            writer.close()

    async def get(self, path: str, **query: object) -> Got:
        return await self.call("GET", path, query=query)

    async def post(self, path: str, body: object = None, **headers: str) -> Got:
        return await self.call("POST", path, body, headers=headers)

    async def publish(self, *events: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Publish events one by one; where each stands."""
        accepted = []
        for event in events:
            got = await self.call("POST", "/events", event, headers={"content-type": ONE_EVENT})
            assert got.status == 202, got.body
            accepted += got.json["accepted"]
        return accepted

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Ask again until it holds."""
        while not await condition():
            await asyncio.sleep(0.01)


@dataclass
class Sink:
    """A receiver: notes what it gets, answers `status`.

    Attributes:
        got: the events, in order of arrival.
    """

    status: int = 204
    got: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
                body = await reader.readexactly(size)
                if self.status < 300:
                    self.got.append(json.loads(body))
                writer.write(b"HTTP/1.1 %d Answer\r\ncontent-length: 0\r\n\r\n" % self.status)
        writer.close()


@contextlib.asynccontextmanager
async def sink(status: int = 204) -> AsyncIterator[Sink]:
    """A receiver on a free port."""
    receiver = Sink(status)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        server.close()


@contextlib.asynccontextmanager
async def relay(folder: Path, **config: Any) -> AsyncIterator[Relay]:
    """A relay on a free port, its store in `folder`."""
    store = f"sqlite:////{str(folder / 'relay.db').lstrip('/')}"
    server = Server(Config(store=store, listen=Listen("127.0.0.1", 0), **config))
    await server.start()
    try:
        yield Relay(server)
    finally:
        await server.stop()


def parse_answer(data: bytes, method: str = "GET") -> Got:
    """The first answer in what a connection gave."""
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    size = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
    assert len(rest) >= size, "the answer was cut off"
    return Got(int(first.split()[1]), headers, rest[:size])


def event(id: str = "a-1", **attributes: Any) -> dict[str, Any]:
    """A small event."""
    given: dict[str, Any] = {"specversion": "1.0", "id": id, "source": "/heat", "type": "org.example.state"}
    return {**given, "subject": "k1", "data": {"n": 1}, **attributes}
