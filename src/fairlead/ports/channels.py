# SPDX-License-Identifier: Apache-2.0
"""The store's second noun: the channels that read the log (design, section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fairlead.core.channel import (
    ChannelFlush,
    ChannelId,
    ChannelState,
    Fence,
    HoldRow,
    HoldState,
    ReplayFrom,
    Skip,
    SkipRow,
)
from fairlead.core.subscription import Subscription


class Channels(Protocol):
    """Progress, holds, skips and fences. Every write of an owner is fenced (design, section 4)."""

    async def take_all(self, owner: str) -> list[ChannelState]:
        """Become the owner of every partition: raise each lease's and each channel's epoch; load them all."""

    async def load(self, channel: ChannelId) -> ChannelState | None:
        """One channel as it stands, under the lease this store's caller took; None if it is gone.

        Raises:
            LeaseLost: the partition has another owner.
        """

    async def flush(self, flushes: Sequence[ChannelFlush]) -> list[Fence | Exception]:
        """Store each channel's share, one commit for all; per channel the fence now in force, or why not.

        An element is `Fenced` or `LeaseLost` where the channel has changed; nothing of that flush was stored.

        Raises:
            StoreFull, StoreBusy: nothing was stored; try again later. StoreFailed: stop.
        """

    async def fence(
        self, fence: Fence, *, at_least: int = 0, target: int | None = None, reason: str = ""
    ) -> Fence:
        """Raise the epoch of a channel one owns to max(own + 1, `at_least`), durably, before it is used.

        Raises:
            Fenced, LeaseLost: as for `flush`.
        """

    async def replay(
        self,
        subscription: str,
        starts: Sequence[ReplayFrom],
        now_ms: int,
        replacement: Subscription | None = None,
    ) -> dict[int, Fence]:
        """Go back, in one transaction: the design's section 4, "Replay"; per partition the new fence.

        `replacement` is stored with it (a change of `receiver` or `settles` goes only so).

        Raises:
            NotReplayable: a start lies above what was read, or its events were pruned (`oldest`).
            NotFound: no such subscription.
        """

    async def release(
        self, channel: ChannelId, keys: Sequence[str] | None, state: HoldState | None, now: float
    ) -> int:
        """Give held or parked lanes attempt 0, state held, ready now; raise the epoch; return how many.

        `keys` None means every lane in `state`.
        """

    async def skip(self, channel: ChannelId, skip: Skip, head_pos: int, now: float) -> bool:
        """Drop the head of a lane on record, then release it; raise the epoch.

        False, and nothing stored, if the lane's `head_pos` is no longer `head_pos`.
        """

    async def expire(
        self, skips: Mapping[ChannelId, Sequence[Skip]], partition: int, positions: Sequence[int]
    ) -> int:
        """Delete unsettled entries by a retention rule, with their skips, at once; raise epochs.

        Holds of these channels that cover no entry any more go with them.
        """

    async def holds(
        self, subscription: str, state: HoldState | None, after: tuple[int, str] | None, limit: int
    ) -> list[HoldRow]:
        """Held and parked lanes by partition and key (`slow` ones only if asked for by name)."""

    async def count_holds(self, subscription: str) -> dict[HoldState, int]:
        """How many lanes are in which state."""

    async def count_waiting(self, subscription: str, most: int) -> int:
        """How many entries the holds cover, whether or not the filter passes them; counts up to `most`."""

    async def skips(self, subscription: str, after: tuple[int, int, int] | None, limit: int) -> list[SkipRow]:
        """Skips by generation, partition, position, the newest generation first."""

    async def count_skips(self, subscription: str) -> int:
        """How many events were skipped in the channels' present generations."""

    async def skipped_before(
        self, channel: ChannelId, generation: int, key: str, below: int, limit: int
    ) -> list[int]:
        """The skipped positions of a key below a position in one generation, newest first."""
