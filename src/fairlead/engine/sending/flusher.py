# SPDX-License-Identifier: Apache-2.0
"""Stores what owners have settled, many channels in one commit (design, section 4).

A lane that waits for its settlement hurries; everything else waits for company.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Protocol

from fairlead.core.channel import ChannelFlush, Fence
from fairlead.errors import StoreBusy, StoreError, StoreFull
from fairlead.ports import Channels

COMPANY_SECONDS = 0.05
RETRY_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Flushing(Protocol):
    """Somebody with something to store."""

    def to_flush(self, everything: bool) -> ChannelFlush | None:
        """What is to be stored now; `flushed` follows before this is called again."""

    def flushed(self, result: Fence | Exception) -> None:
        """The fence now in force, or why nothing was stored."""


class Flusher:
    """One per dispatcher; `want` says that an owner has something to store.

    Attributes:
        refusal: why nothing can be stored at the moment; None once something was, or nobody waits for it.
    """

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self.refusal: StoreFull | StoreBusy | None = None
        self._dirty: dict[Flushing, None] = {}
        self._hurry = asyncio.Event()
        self._any = asyncio.Event()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(_tell)

    async def stop(self) -> None:
        """Stop flushing by itself; `flush` still works."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def want(self, owner: Flushing, *, hurry: bool) -> None:
        """Something of `owner` is to be stored; never blocks."""
        self._dirty[owner] = None
        self._any.set()
        if hurry:
            self._hurry.set()

    def forget(self, owner: Flushing) -> None:
        self._dirty.pop(owner, None)
        if not self._dirty:
            self.refusal = None

    def alone(self) -> asyncio.Lock:
        """A context in which nothing is being stored, and nothing is until it ends."""
        return self._lock

    async def flush(self, owners: Iterable[Flushing] | None = None, *, everything: bool = True) -> bool:
        """Store what these owners have, or all that are dirty; False if the store refused for now."""
        async with self._lock:
            chosen = list(self._dirty if owners is None else owners)
            for owner in chosen:
                self._dirty.pop(owner, None)
            asked = [(owner, flush) for owner in chosen if (flush := owner.to_flush(everything)) is not None]
            return not asked or await self._store(asked)

    async def _store(self, asked: list[tuple[Flushing, ChannelFlush]]) -> bool:
        results: list[Fence | Exception]
        try:
            results = await self._channels.flush([flush for _, flush in asked])
            accepted, self.refusal = True, None
        except (StoreFull, StoreBusy) as refusal:
            _log.warning("settlements cannot be stored now", extra={"detail": str(refusal)})
            results, accepted, self.refusal = [refusal] * len(asked), False, refusal
        except asyncio.CancelledError:
            for owner, _ in asked:
                owner.flushed(StoreBusy("the flush was cancelled"))
            raise
        for (owner, _), result in zip(asked, results, strict=True):
            owner.flushed(result)
        return accepted

    async def _run(self) -> None:
        while True:
            await self._any.wait()
            if not self._hurry.is_set():
                timer = asyncio.get_running_loop().call_later(COMPANY_SECONDS, self._hurry.set)
                await self._hurry.wait()
                timer.cancel()
                everything = True
            else:
                everything = False
            self._any.clear()
            self._hurry.clear()
            try:
                if not await self.flush(everything=everything):
                    await asyncio.sleep(RETRY_SECONDS)
            except StoreError as failure:
                _log.critical("the store failed; nothing is sent any more", extra={"detail": str(failure)})
                return
            if self._dirty:
                self._any.set()


def _tell(task: asyncio.Task[None]) -> None:
    """A flusher that ends by a defect must not end unnoticed: nobody's next event is sent any more."""
    if not task.cancelled() and (defect := task.exception()) is not None:
        _log.critical("settlements are stored no more; start the relay again", exc_info=defect)
