# SPDX-License-Identifier: Apache-2.0
"""An HTTP server of one page, because a framework does not let an answer get lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

Answer = tuple[int, Mapping[str, str], bytes]
Serve = Callable[[str, dict[str, str], bytes], Awaitable[Answer | None]]
"""From method, headers (lower case) and body to the answer; None closes the connection without one."""


async def serve(port: int, handle: Serve) -> asyncio.Server:
    """Listen on loopback; connections are kept alive."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (answer := await _turn(reader, handle)) is not None:
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # a relay that was killed
        finally:
            writer.close()

    return await asyncio.start_server(connection, "127.0.0.1", port, backlog=512)


async def _turn(reader: asyncio.StreamReader, handle: Serve) -> bytes | None:
    head = await reader.readuntil(b"\r\n\r\n")
    request, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    answer = await handle(request.partition(" ")[0], headers, body)
    if answer is None:
        return None
    status, extra, content = answer
    fields = "".join(f"{name}: {value}\r\n" for name, value in extra.items())
    return f"HTTP/1.1 {status} X\r\n{fields}content-length: {len(content)}\r\n\r\n".encode() + content
