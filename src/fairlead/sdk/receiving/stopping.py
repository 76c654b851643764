# SPDX-License-Identifier: Apache-2.0
"""Ending something that runs on an event loop, from any thread or a signal handler, whenever it began."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress


class Stop:
    """One ending.

    Attributes:
        asked: somebody wants it.
        ended: it has come.
    """

    def __init__(self) -> None:
        self.asked = False
        self.ended = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken: asyncio.Event | None = None

    def ask(self) -> None:
        """Let `wait` return. Idempotent."""
        self.asked = True
        if self._loop is not None and self._woken is not None:
            with suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._woken.set)

    async def wait(self) -> None:
        """Return when it is asked for, or was before."""
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if not self.asked:
            await self._woken.wait()
