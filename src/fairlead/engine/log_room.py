# SPDX-License-Identifier: Apache-2.0
"""Whether the log may grow: at `log_bytes` events are refused until retention has made room.

Told in the log of the process once when it begins and once when it is over, and to whoever asks.
"""

from __future__ import annotations

import logging

from fairlead.errors import StoreFull
from fairlead.ports import Clock, Log

MEASURE_EVERY_SECONDS = 1.0
_log = logging.getLogger("fairlead.ingest")


class LogRoom:
    """What the log may still take.

    Args:
        log_bytes: its greatest size on disk, None for none.
    """

    def __init__(self, log: Log, clock: Clock, log_bytes: int | None) -> None:
        self._events = log
        self._clock = clock
        self._log_bytes = log_bytes
        self._measured_until = float("-inf")
        self._refused = False

    async def demand(self) -> None:
        """Measure the log now and then. Raises StoreFull at its limit."""
        now = self._clock.monotonic()
        if self._log_bytes is None or now < self._measured_until:
            return
        size = await self._events.size_bytes()
        if size >= self._log_bytes:
            self._tell_refused(self._log_bytes)
            raise StoreFull(
                f"the log takes {size} bytes and limits.log_bytes is {self._log_bytes}; "
                "raise it, or shorten retention.keep",
                retry_after_seconds=10,
            )
        self._measured_until = now + MEASURE_EVERY_SECONDS
        if self._refused:
            self._refused = False
            _log.info("the log is below its limit again; events are taken")

    async def left(self) -> bool:
        """Whether there is room now; while nothing was refused nothing is measured."""
        if not self._refused or self._log_bytes is None:
            return True
        return await self._events.size_bytes() < self._log_bytes

    def _tell_refused(self, log_bytes: int) -> None:
        if not self._refused:
            self._refused = True
            _log.warning(
                "the log is full: events are refused with 507 until retention has made room or "
                "[limits] log_bytes is raised; what was accepted is delivered",
                extra={"log_bytes": log_bytes},
            )
