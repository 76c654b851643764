# SPDX-License-Identifier: Apache-2.0
"""The store's first noun: the log (design, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fairlead.core.event import Event
from fairlead.core.log import Appended, Entry, EventQuery


class Log(Protocol):
    """The append-only, durable sequence of accepted events."""

    partitions: int

    async def append(self, events: Sequence[Event], accepted_at: float) -> list[Appended]:
        """Append all events or none, in order; return when they are on disk, fsynced.

        Concurrent calls share a commit. The same event again is not appended but returned as a duplicate.

        Raises:
            EventConflict: another event stands under the same source, id and key; `faults` name the indexes.
            StoreFull: the disk reserve is reached. StoreBusy: locked past the busy timeout.
            StoreFailed: the commit or fsync failed; nothing may be assumed.
        """

    async def heads(self) -> dict[int, int]:
        """The last position of every partition, 0 where nothing was appended."""

    async def oldest(self) -> dict[int, int]:
        """The lowest position still kept in every partition; head + 1 where nothing is kept."""

    async def read(self, partition: int, after: int, limit: int) -> list[Entry]:
        """At most `limit` entries above `after`, ascending. Pruned positions are simply not there.

        A page also ends at `PAGE_BYTES`; only an empty one says that there are no more.

        Raises:
            StoreCorrupt: a row's digest is not that of its event.
        """

    async def read_lane(self, partition: int, key: str, first: int, last: int, limit: int) -> list[Entry]:
        """At most `limit` entries of one key from `first` up to `last`, ascending. Raises as `read`."""

    async def search(self, query: EventQuery) -> list[Entry]:
        """The entries a query asks for; `key`, or `source` with `id`, use an index, others scan.

        The list also ends at `PAGE_BYTES`. Raises as `read`.
        """

    async def first_at(self, accepted_at: float) -> dict[int, int]:
        """Per partition the first position accepted at or after a time; head + 1 where there is none."""

    async def prune(self, partition: int, positions: Sequence[int]) -> int:
        """Delete entries; return how many there were. The caller knows that nobody has yet to get them."""

    async def size_bytes(self) -> int:
        """What the log takes on disk, as far as the store can tell cheaply."""
