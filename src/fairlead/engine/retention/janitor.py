# SPDX-License-Identifier: Apache-2.0
"""What is done every half minute, whoever calls or does not: retention, old records, handshakes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from fairlead.engine.commands.handshakes import Handshakes
from fairlead.engine.retention.expiry import Expiry
from fairlead.engine.retention.retention import Retention
from fairlead.engine.settings import RetentionRules
from fairlead.errors import FairleadError, StoreFailed
from fairlead.ports import Attempts, Clock, Rejects

CHUNK = 1000
PATIENCE_SECONDS = 2.0

_log = logging.getLogger(__name__)


class Janitor:
    """Runs its chores one after the other, sweep by sweep. What fails is logged and done at the next one."""

    def __init__(
        self,
        clock: Clock,
        rules: RetentionRules,
        *,
        retention: Retention,
        expiry: Expiry,
        attempts: Attempts,
        rejects: Rejects,
        handshakes: Handshakes,
    ) -> None:
        self._retention = retention
        self._expiry = expiry
        self._attempts = attempts
        self._rejects = rejects
        self._handshakes = handshakes
        self._clock = clock
        self._rules = rules
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sweep from now on, the first time after `sweep_seconds`."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(_tell)

    async def stop(self) -> None:
        """Start nothing more; return when the chunk or handshake under way has ended. Idempotent.

        After `PATIENCE_SECONDS` it is cut off: nothing half done is left, the store's transactions are whole.
        """
        self._stop.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=PATIENCE_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def sweep(self) -> None:
        """Every chore once.

        Raises:
            StoreFailed: serving has ended.
        """
        stopped = self._stop.is_set
        chores: list[tuple[str, Callable[[], Awaitable[object]]]] = [
            ("retention", lambda: self._retention.prune(stopped)),
            ("expiry", lambda: self._expiry.expire(stopped)),
            ("attempts", lambda: self._prune(self._attempts.prune_attempts)),
            ("rejects", lambda: self._prune(self._rejects.prune_rejects)),
            ("handshakes", lambda: self._handshakes.renew(stopped)),
        ]
        for chore, do in chores:
            if stopped():
                return
            try:
                await do()
            except StoreFailed:
                raise
            except FairleadError as error:
                _log.warning("a chore failed and is done later", extra={"chore": chore, "detail": str(error)})

    async def _prune(self, delete: Callable[[float, int], Awaitable[int]]) -> None:
        """Delete, chunk by chunk, what people had long enough to look at."""
        older_than = self._clock.now() - self._rules.attempts_seconds
        while not self._stop.is_set():
            if await delete(older_than, CHUNK) < CHUNK:
                return
            await asyncio.sleep(0)  # intake and deliveries come first

    async def _run(self) -> None:
        while not self._stop.is_set():
            try:
                await asyncio.wait_for(self._stop.wait(), self._rules.sweep_seconds)
            except TimeoutError:
                try:
                    await self.sweep()
                except StoreFailed:
                    return  # the node knows, and ends


def _tell(task: asyncio.Task[None]) -> None:
    """A janitor that ends by a defect must not end unnoticed."""
    if not task.cancelled() and (defect := task.exception()) is not None:
        _log.critical("the janitor ended; retention stands still until the next start", exc_info=defect)
