# SPDX-License-Identifier: Apache-2.0
"""A receiver that notes every byte of what it is sent, and answers as a test says."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.contract.api_scene import Relay

PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Hook:
    """One request as it came; header names in lower case, `lines` as they were written."""

    method: str
    target: str
    headers: Mapping[str, str]
    lines: Sequence[str]
    body: bytes
    at: float

    @property
    def event(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def batch(self) -> list[dict[str, Any]]:
        documents: list[dict[str, Any]] = json.loads(self.body)
        return documents

    def signed_by(self, secret: str) -> bool:
        """Whether one of the signatures is this secret's, by the words of Standard Webhooks alone."""
        named = self.headers
        content = f"{named['webhook-id']}.{named['webhook-timestamp']}.".encode() + self.body
        key = base64.b64decode(secret.removeprefix("whsec_"))
        ours = "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        return ours in named["webhook-signature"].split(" ")


def answer(status: int = 204, *, content: bytes = b"", **headers: str) -> bytes:
    """An HTTP answer; `_` in the name of a header is a hyphen."""
    named = [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    lines = [f"HTTP/1.1 {status} Answer", *named]
    if status != 204:
        lines.append(f"content-length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode() + content


TAKEN = answer(204)
Behaviour = Callable[[Hook], bytes]


@dataclass
class Receiver:
    """A listening receiver.

    Attributes:
        behave: the answer to a request.
        got: every request, OPTIONS too, in order of arrival.
    """

    behave: Behaviour = lambda hook: TAKEN
    got: list[Hook] = field(default_factory=list)
    port: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def posts(self) -> list[Hook]:
        """The deliveries."""
        return [one for one in self.got if one.method != "OPTIONS"]

    def answers(self, *answers: bytes) -> None:
        """Answer deliveries with these in turn from now on, the last one for ever."""
        waiting = list(answers)
        self.behave = lambda hook: waiting.pop(0) if len(waiting) > 1 else waiting[0]

    async def until(self, count: int) -> list[Hook]:
        """The deliveries, once there are at least so many."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.posts) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.posts

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
                parts = [line.partition(":") for line in lines]
                named = {name.lower(): text.strip() for name, _, text in parts}
                body = await reader.readexactly(int(named.get("content-length", "0")))
                method, target, _ = first.split(" ")
                hook = Hook(method, target, named, lines, body, time.monotonic())
                self.got.append(hook)
                self._changed.set()
                writer.write(self.behave(hook))
        writer.close()


@contextlib.asynccontextmanager
async def receiver(*answers: bytes) -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    one = Receiver()
    if answers:
        one.answers(*answers)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0, limit=16 * 1024 * 1024)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()


async def subscribe(api: Relay, sink: str, id: str = "s", **members: Any) -> dict[str, Any]:
    """Make a subscription; the object as the 201 shows it."""
    got = await api.call("PUT", f"/subscriptions/{id}", {"sink": sink, "protocol": "HTTP", **members})
    assert got.status == 201, got.body
    document: dict[str, Any] = got.json
    return document


async def shows(api: Relay, path: str, wanted: Callable[[Any], bool], **query: object) -> Any:
    """The document at a path, once it is as wanted."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            document = (await api.get(path, **query)).json
            if wanted(document):
                return document
            await asyncio.sleep(0.01)


def soon(**more: Any) -> dict[str, Any]:
    """A `config` whose retries come at once."""
    return {"retry": {"first": "1ms", "max": "1ms", "jitter": "none"}, **more}
