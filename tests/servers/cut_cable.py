# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that stands for the cable between one client and a server: cut, mute or restore it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

_CHUNK_BYTES = 64 * 1024


class CutCable:
    """Forwards connections to a port of this machine; use `cable_to`.

    Attributes:
        port: where clients connect.
        opened: how many connections there have been.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._there, self._back = asyncio.Event(), asyncio.Event()  # which way bytes flow
        self.restore()
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
        self._there.clear()
        self._back.clear()

    def deafen(self) -> None:
        """As `mute`, but what the client says does reach the server."""
        self._back.clear()

    def restore(self) -> None:
        """Let bytes pass and connections be made again; what was held back goes on its way."""
        self._refusing = False
        self._there.set()
        self._back.set()

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
        for source, drain, flowing in ((reader, back, self._there), (there, writer, self._back)):
            task = asyncio.create_task(self._pump(source, drain, flowing))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, source: asyncio.StreamReader, drain: asyncio.StreamWriter, flowing: asyncio.Event
    ) -> None:
        try:
            with suppress(OSError):
                while data := await source.read(_CHUNK_BYTES):
                    await flowing.wait()
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


class Cable:
    """A `CutCable` for tests that run no event loop: it has a thread of its own; see `strung`."""

    def __init__(self, cable: CutCable, loop: asyncio.AbstractEventLoop) -> None:
        self._cable, self._loop = cable, loop
        self.port = cable.port

    @property
    def opened(self) -> int:
        """How many connections there have been."""
        return self._cable.opened

    def cut(self) -> None:
        """See `CutCable.cut`."""
        self._do(self._cable.cut)

    def mute(self) -> None:
        """See `CutCable.mute`."""
        self._do(self._cable.mute)

    def deafen(self) -> None:
        """See `CutCable.deafen`."""
        self._do(self._cable.deafen)

    def restore(self) -> None:
        """See `CutCable.restore`."""
        self._do(self._cable.restore)

    def _do(self, what: Callable[[], None]) -> None:
        async def inside() -> None:
            what()

        asyncio.run_coroutine_threadsafe(inside(), self._loop).result(60)


@contextmanager
def strung(target_port: int) -> Iterator[Cable]:
    """A cable to `target_port`, used from the calling thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    cable = CutCable(target_port)
    try:
        asyncio.run_coroutine_threadsafe(cable.start(), loop).result(60)
        yield Cable(cable, loop)
    finally:
        asyncio.run_coroutine_threadsafe(cable.close(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
