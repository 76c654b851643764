# SPDX-License-Identifier: Apache-2.0
"""Retention and whoever places a channel in the log take turns.

Retention first finds out what every channel has settled, and then deletes it. A subscription made, or a
replay begun, between the two would start at events that are just being deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turn:
    """A lock that also counts how often channels were placed.

    Attributes:
        moves: how often a channel was given a place below what it had settled: what was found out about
            settlements before is worth nothing after.
    """

    def __init__(self) -> None:
        self.moves = 0
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def moving(self) -> AsyncIterator[None]:
        """While a channel gets a place."""
        async with self._lock:
            self.moves += 1
            yield

    @asynccontextmanager
    async def deleting(self) -> AsyncIterator[int]:
        """While entries are deleted; gives `moves`."""
        async with self._lock:
            yield self.moves
