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

from fairlead.core.filters import Possible
from fairlead.core.log import Entry
from fairlead.errors import StoreBusy, StoreError, StoreFull
from fairlead.ports import Log

RING_ENTRIES = 2000
RING_BYTES = 4 * 1024 * 1024
PAGE_ENTRIES = 256
RETRY_SECONDS = 1.0
MOST_KINDS = 4096
MOST_KIND_LETTERS = 512


class Reader(Protocol):
    """A channel that has read everything so far."""

    def take(self, entry: Entry) -> None:
        """The next entry whose type and source are possible; positions before it are none of its business."""

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
        self._possible: dict[Reader, Possible] = {}
        self._by_kind: dict[tuple[str, str], tuple[Reader, ...]] = {}
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

    def attach(self, reader: Reader, possible: Possible) -> None:
        """Give `reader` each new entry of a `possible` type and source; it has read up to `head`."""
        self._possible[reader] = possible
        self._by_kind.clear()

    def detach(self, reader: Reader) -> None:
        """Give `reader` nothing more; idempotent."""
        if self._possible.pop(reader, None) is not None:
            self._by_kind.clear()

    def recent(self, after: int, limit: int) -> list[Entry] | None:
        """At most `limit` entries above `after` if memory holds them; None where the log has to be read."""
        if not self._ring or after + 1 < self._ring[0].position:
            return None if after < self.head else []
        begin = after + 1 - self._ring[0].position
        return list(islice(self._ring, begin, begin + limit))

    async def read(self, after: int, limit: int) -> list[Entry]:
        """At most `limit` entries above `after` from the log. Raises StoreCorrupt, StoreBusy."""
        return await self._log.read(self.partition, after, limit)

    def forget(self, up_to: int) -> None:
        """Retention has deleted from the log up to a position: a replay must not find it here."""
        while self._ring and self._ring[0].position <= up_to:
            self._ring_bytes -= self._ring.popleft().event.size

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
        kind = (entry.event.type, entry.event.source)
        for reader in self._by_kind[kind] if kind in self._by_kind else self._interested(kind):
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
        for reader in list(self._possible):
            reader.read_on()
        self._skip_pruned(self._target + 1)
        self.head = self._target  # only now: a reader may not count as past what it was not given

    def _skip_pruned(self, position: int) -> None:
        """Positions that retention deleted leave a gap, over which the ring cannot be counted."""
        if position != self.head + 1:
            self._ring.clear()
            self._ring_bytes = 0

    def _interested(self, kind: tuple[str, str]) -> tuple[Reader, ...]:
        """Who may want events of a type and source: found out once, not at each event."""
        readers = tuple(reader for reader, possible in self._possible.items() if possible(*kind))
        if len(self._by_kind) >= MOST_KINDS:
            self._by_kind.clear()
        if len(kind[0]) + len(kind[1]) <= MOST_KIND_LETTERS:
            self._by_kind[kind] = readers
        return readers
