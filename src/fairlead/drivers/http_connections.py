# SPDX-License-Identifier: Apache-2.0
"""The open connections of an HTTP server, and when the last of them is closed."""

from __future__ import annotations

import asyncio
import contextlib
import time

from uvicorn.server import ServerState


class Connections(ServerState):
    """What uvicorn's protocol shares between connections, and a signal that the last one is closed."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = asyncio.Event()

    def closed_one(self) -> None:
        if not self.connections:
            self._closed.set()

    async def all_closed(self, deadline: float) -> None:
        """Return when no connection is left, or at a monotonic time."""
        while self.connections and (left := deadline - time.monotonic()) > 0:
            self._closed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), left)
