# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that stands for the cable between one client and a server: cut, mute or restore it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_CHUNK_BYTES = 64 * 1024


class CutCable:
    """Forwards connections to a port of this machine; use `cable_to`.

    Attributes:
        port: where clients connect.
        opened: how many connections there have been.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.opened = 0

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """End every connection with a reset, and refuse new ones until `restore`."""
        self._refusing = True
        for writer in self._writers:
            writer.transport.abort()

    def mute(self) -> None:
        """Swallow: connections stand, new ones are made, and not one byte passes, either way."""
        self._flowing.clear()

    def restore(self) -> None:
        """Let bytes pass and connections be made again; what was held back goes on its way."""
        self._refusing = False
        self._flowing.set()

    async def close(self) -> None:
        """End everything; idempotent."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        if self._refusing:
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(back)
        for source, drain in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pump(source, drain))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, drain: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                while data := await source.read(_CHUNK_BYTES):
                    await self._flowing.wait()
                    drain.write(data)
                    await drain.drain()
        finally:
            drain.close()
            self._writers.discard(drain)


@asynccontextmanager
async def cable_to(target_port: int) -> AsyncIterator[CutCable]:
    """A running cable to `target_port`."""
    cable = CutCable(target_port)
    await cable.start()
    try:
        yield cable
    finally:
        await cable.close()
