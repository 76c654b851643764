# SPDX-License-Identifier: Apache-2.0
"""A receiver as an ASGI application: to serve alone, or as a route's endpoint in Starlette and FastAPI.

It answers at whatever path it is mounted. Use a route for one exact path rather than a mount: a mount
redirects `/hook` to `/hook/`, and the relay follows no redirects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from fairlead.sdk.receiving.reply import Reply

if TYPE_CHECKING:
    from fairlead.sdk.receiving.receiver import Receiver

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class ReceiverAsgi:
    """The ASGI 3 callable; it also answers a server's lifespan, at whose end it closes the receiver."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            headers = _headers(scope["headers"])
            reply = await self._reply(scope["method"], headers, receive)
            if reply is not None:
                await _answer(reply, send, scope["method"] == "HEAD")
        else:
            raise NotImplementedError(f"a receiver speaks HTTP, not {scope['type']}")

    async def _reply(self, method: str, headers: dict[str, str], receive: Receive) -> Reply | None:
        """The reply, or None when the client went away before its request was complete."""
        length = headers.get("content-length", "")
        if length.isdigit() and (refusal := self._receiver.too_large(int(length))) is not None:
            return refusal
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if (refusal := self._receiver.too_large(len(body))) is not None:
                return refusal
        return await self._receiver.handle_async(method, headers, bytes(body))

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await asyncio.to_thread(self._receiver.close)
                await send({"type": "lifespan.shutdown.complete"})
                return


def _headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


async def _answer(reply: Reply, send: Send, without_body: bool) -> None:
    length = [] if reply.status == 204 else [(b"content-length", str(len(reply.body)).encode())]
    headers = [(name.encode(), value.encode("latin-1")) for name, value in reply.headers.items()] + length
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if without_body else reply.body})
