# SPDX-License-Identifier: Apache-2.0
"""Answers that nobody takes: who reads none of one is cut off, who reads slowly is not."""

from __future__ import annotations

import asyncio


class Taking:
    """Watches that a transport's other end takes some of what waits for it in every period.

    Args:
        period_seconds: without a byte taken for so long the connection is aborted.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, period_seconds: float
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._period_seconds = period_seconds
        self._left_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """More waits than the other end takes at once. Repeatable."""
        self.stop()
        self._left_bytes = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(self._period_seconds, self._check)

    def stop(self) -> None:
        """Enough was taken, or the connection is lost. Repeatable."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        if self._transport.get_write_buffer_size() < self._left_bytes:
            self.watch()
        else:
            self._transport.abort()
