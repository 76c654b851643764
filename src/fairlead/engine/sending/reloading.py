# SPDX-License-Identifier: Apache-2.0
"""A channel is read anew, because somebody has changed it or its memory is not to be trusted any more."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from fairlead.errors import LeaseLost, NotFound, StoreBusy, StoreError, StoreFull

if TYPE_CHECKING:
    from fairlead.engine.sending.owner import Owner

RETRY_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Reloading:
    """One channel's: at most one load is under way, and one that is asked for meanwhile reads once more."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._task: asyncio.Task[None] | None = None
        self._outdated = False

    @property
    def under_way(self) -> bool:
        return self._task is not None

    async def reload(self) -> None:
        """Let what is in flight end, forget the channel and read it again, as it stands from now on.

        A node that lost the partition, or a subscription that is gone, closes the owner instead.
        """
        self.soon()
        if self._task is not None:
            await asyncio.shield(self._task)

    def soon(self) -> None:
        """As `reload`, without waiting for it. One that is under way reads once more."""
        self._outdated = True
        if self._task is None and not self._owner.closed:
            self._owner.pause()  # at once: the memory of it is not to be sent from any more
            self._task = asyncio.create_task(self._reload())

    async def _reload(self) -> None:
        owner, said = self._owner, False
        try:
            while self._outdated and not owner.closed:
                await owner.drained()
                try:
                    async with owner.works.flusher.alone():  # what is stored or fenced is of the old memory
                        self._outdated = False
                        await self._load_again()
                except (StoreBusy, StoreFull) as refusal:
                    self._outdated = True
                    if not said:
                        extra = {**owner.channel._asdict(), "detail": str(refusal)}
                        _log.warning("a channel cannot be read anew yet", extra=extra)
                    said = True
                    await asyncio.sleep(RETRY_SECONDS)
        except (LeaseLost, NotFound):
            owner.close()
        except StoreError as failure:
            _log.error("a channel cannot be read", extra={**owner.channel._asdict(), "detail": str(failure)})
            owner.close()
            owner.works.damage[owner.channel] = f"{failure}; then start again"
        finally:
            self._task = None
            owner.proceed()

    async def _load_again(self) -> None:
        owner = self._owner
        state = await owner.works.store.channels.load(owner.channel)
        if state is None:
            owner.close()
        elif not owner.closed and not self._outdated:
            await owner.load(state)
