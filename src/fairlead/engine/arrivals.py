# SPDX-License-Identifier: Apache-2.0
"""Who follows the log is woken when something arrives."""

from __future__ import annotations

import asyncio


class Arrivals:
    """A signal that many can wait for; ringing costs nothing while nobody waits.

    Attributes:
        closed: nothing will arrive any more; do not wait.
    """

    def __init__(self) -> None:
        self.closed = False
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        """Wake everybody who waits."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    def close(self) -> None:
        """Wake everybody for good."""
        self.closed = True
        self.ring()

    def expect(self) -> asyncio.Future[None]:
        """Done at the next ring. Ask for it before looking, then nothing rings unheard; see `forget`."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        return future

    def forget(self, future: asyncio.Future[None]) -> None:
        """Wait no more."""
        self._waiting.discard(future)
