# SPDX-License-Identifier: Apache-2.0
"""The end of one partition's log in memory: what was just appended goes to the channels that have caught up.

The log is the truth; this only saves reading it back. An entry offered out of turn makes the feed read the
log up to it, so whoever appended, and however late it says so, nothing is passed over.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import Protocol

from fairlead.core.filters import Needs
from fairlead.core.log import Entry
from fairlead.errors import StoreBusy, StoreError, StoreFull
from fairlead.ports import Log

RING_ENTRIES = 2000
RING_BYTES = 4 * 1024 * 1024
PAGE_ENTRIES = 256
RETRY_SECONDS = 1.0


class Reader(Protocol):
    """A channel that has read everything so far."""

    def take(self, entry: Entry) -> None:
        """The next entry that its needs do not rule out; positions before it are none of its business."""

    def read_on(self) -> None:
        """Nothing more is handed over: detach, and read the log from the last entry taken on."""


class Feed:
    """One partition's feed.

    Attributes:
        head: the last position known; everything up to it can be read.
    """

    def __init__(self, log: Log, partition: int, head: int) -> None:
        self.partition = partition
        self.head = head
        self._log = log
        self._ring: deque[Entry] = deque()
        self._ring_bytes = 0
        self._by_type: dict[str, dict[Reader, None]] = {}
        self._by_source: dict[str, dict[Reader, None]] = {}
        self._others: dict[Reader, None] = {}
        self._needs: dict[Reader, Needs] = {}
        self._catching_up: asyncio.Task[None] | None = None
        self._target = head

    def offer(self, entry: Entry) -> None:
        """An entry was appended; never blocks."""
        if entry.position == self.head + 1:
            self._add(entry)
        elif entry.position > self.head:
            self._target = max(self._target, entry.position)
            if self._catching_up is None:
                self._catching_up = asyncio.create_task(self._catch_up())

    def attach(self, reader: Reader, needs: Needs) -> None:
        """From now on give `reader` each new entry that `needs` do not rule out; it has read up to `head`."""
        self._needs[reader] = needs
        for readers in self._places(needs):
            readers[reader] = None

    def detach(self, reader: Reader) -> None:
        """Give `reader` nothing more; idempotent."""
        needs = self._needs.pop(reader, None)
        if needs is not None:
            for readers in self._places(needs):
                readers.pop(reader, None)

    def recent(self, after: int, limit: int) -> list[Entry] | None:
        """At most `limit` entries above `after` if memory holds them; None where the log has to be read."""
        if not self._ring or after + 1 < self._ring[0].position:
            return None if after < self.head else []
        begin = after + 1 - self._ring[0].position
        return list(islice(self._ring, begin, begin + limit))

    async def read(self, after: int, limit: int) -> list[Entry]:
        """At most `limit` entries above `after` from the log. Raises StoreCorrupt, StoreBusy."""
        return await self._log.read(self.partition, after, limit)

    async def close(self) -> None:
        """Stop catching up."""
        if self._catching_up is not None:
            self._catching_up.cancel()
            await asyncio.gather(self._catching_up, return_exceptions=True)

    def _add(self, entry: Entry) -> None:
        self._ring.append(entry)
        self._ring_bytes += entry.event.size
        while len(self._ring) > RING_ENTRIES or self._ring_bytes > RING_BYTES:
            self._ring_bytes -= self._ring.popleft().event.size
        event = entry.event
        for readers in (self._by_type.get(event.type), self._by_source.get(event.source), self._others):
            if readers:
                for reader in tuple(readers):
                    reader.take(entry)
        self.head = entry.position  # only now: a reader may not count as past what it was not yet given

    async def _catch_up(self) -> None:
        try:
            while self.head < self._target:
                try:
                    page = await self.read(self.head, PAGE_ENTRIES)
                except (StoreBusy, StoreFull):
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                except StoreError:
                    self._give_up()
                    return
                for entry in page:
                    if entry.position > self.head:
                        self._skip_pruned(entry.position)
                        self._add(entry)
                if not page:
                    self._skip_pruned(self._target + 1)
                    self.head = self._target
        finally:
            self._catching_up = None

    def _give_up(self) -> None:
        """The log cannot be read here: whoever reads it by himself meets that, says so and tries again."""
        for reader in list(self._needs):
            reader.read_on()
        self._skip_pruned(self._target + 1)
        self.head = self._target  # only now: a reader may not count as past what it was not given

    def _skip_pruned(self, position: int) -> None:
        """Positions that retention deleted leave a gap, over which the ring cannot be counted."""
        if position != self.head + 1:
            self._ring.clear()
            self._ring_bytes = 0

    def _places(self, needs: Needs) -> list[dict[Reader, None]]:
        if needs.types is not None:
            return [self._by_type.setdefault(type, {}) for type in needs.types]
        if needs.sources is not None:
            return [self._by_source.setdefault(source, {}) for source in needs.sources]
        return [self._others]
