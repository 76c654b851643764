# SPDX-License-Identifier: Apache-2.0
"""One channel's events in memory: a short FIFO per key, what is in flight, which keys may be sent."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator

import msgspec

from fairlead.core.log import Entry


class Run(msgspec.Struct, eq=False):
    """Some events of one lane, in order, sent in one request. `attempt` is its head's number, from 1.

    `size_bytes` is that of its events. `slow` is set once a hold covers it because its answer takes long.
    """

    key: str
    entries: tuple[Entry, ...]
    started: float
    attempt: int
    size_bytes: int = 0
    slow: bool = False


class Lane(msgspec.Struct, eq=False):
    """One key's events in memory, and what is under way.

    Attributes:
        sent: how many events of the queue, from its head on, are under way on a bus (`core/window`).
        waiting: for the flush that stores its last settlement (`ack_persist` = `before_next`).
        listed: stands in the list of ready keys.
    """

    queue: deque[Entry] = msgspec.field(default_factory=deque)
    flight: Run | None = None
    sent: int = 0
    waiting: bool = False
    listed: bool = False

    @property
    def ready(self) -> bool:
        """Whether there is an event that may be sent now."""
        return len(self.queue) > self.sent and self.flight is None and not self.waiting


class Queues:
    """The lanes of one channel by key; `open` are the unsettled positions of those without a hold,
    ascending, and `open_bytes` their size."""

    def __init__(self) -> None:
        self.open: OrderedDict[int, None] = OrderedDict()
        self.open_bytes = 0
        self.flights: OrderedDict[Run, None] = OrderedDict()
        self._lanes: dict[str, Lane] = {}
        self._ready: deque[str] = deque()
        self.get: Callable[[str], Lane | None] = self._lanes.get  # asked for several times at each event

    def __len__(self) -> int:
        return len(self._lanes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._lanes)

    def __contains__(self, key: str) -> bool:
        return key in self._lanes

    def lane(self, key: str) -> Lane:
        """The lane of a key, made if it is new."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane()
        return lane

    def push(self, entry: Entry) -> Lane:
        """Add a free lane's next event; its position is open, and it is listed, from now on."""
        key = entry.key
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane()
        lane.queue.append(entry)
        self.open[entry.position] = None
        self.open_bytes += entry.event.size
        if not lane.listed and lane.ready:
            lane.listed = True
            self._ready.append(key)
        return lane

    def fill(self, key: str, entries: Iterable[Entry]) -> Lane:
        """Give a held lane a page of its events; the hold covers their positions."""
        lane = self.lane(key)
        lane.queue = deque(entries)
        lane.sent = 0
        return lane

    def settle(self, key: str, up_to: int) -> None:
        """Every position of a key up to `up_to` is settled."""
        lane = self._lanes.get(key)
        if lane is None:
            return
        queue, sent, close = lane.queue, lane.sent, self._close
        while queue and queue[0].position <= up_to:
            close(queue.popleft())
            sent -= 1
        lane.sent = max(0, sent)

    def drop(self, key: str) -> None:
        """Forget a lane's queue: a hold covers its events."""
        lane = self._lanes.get(key)
        if lane is not None:
            for entry in lane.queue:
                self._close(entry)
            lane.queue.clear()
            lane.sent = 0
            self.tidy(key)

    def rewind(self, key: str) -> None:
        """Nothing of a lane is under way on the bus any more: it is sent again from its head on."""
        lane = self._lanes.get(key)
        if lane is not None:
            lane.sent = 0
            self.enlist(key)

    def _close(self, entry: Entry) -> None:
        if self.open.pop(entry.position, 0) is None:
            self.open_bytes -= entry.event.size

    def depart(self, key: str, now: float, attempt: int, max_events: int, max_bytes: int) -> Run:
        """Put the first events of a lane in flight, one at least, as far as the bounds allow."""
        lane = self.lane(key)
        entries: list[Entry] = []
        size = 0
        for entry in lane.queue:
            more = size + entry.event.size
            if entries and (len(entries) >= max_events or more > max_bytes):
                break
            entries.append(entry)
            size = more
        run = lane.flight = Run(key, tuple(entries), now, attempt, size)
        self.flights[run] = None
        return run

    def land(self, run: Run) -> None:
        """A run has ended, whatever came of it."""
        self.flights.pop(run, None)
        lane = self._lanes.get(run.key)
        if lane is not None and lane.flight is run:
            lane.flight = None

    def enlist(self, key: str) -> None:
        """Put a key at the end of the ready list, once."""
        lane = self._lanes.get(key)
        if lane is not None and not lane.listed and lane.ready:
            lane.listed = True
            self._ready.append(key)

    def next_ready(self) -> str | None:
        """Take the first ready key off the list; it may have stopped being ready since it was listed."""
        while self._ready:
            key = self._ready.popleft()
            lane = self._lanes.get(key)
            if lane is not None:
                lane.listed = False
                if lane.ready:
                    return key
                self.tidy(key)
        return None

    def put_back(self, key: str) -> None:
        """Let a key that was just taken be the first ready one again."""
        self.lane(key).listed = True
        self._ready.appendleft(key)

    @property
    def has_ready(self) -> bool:
        return bool(self._ready)

    @property
    def ready_count(self) -> int:
        """How many keys are listed as ready; some may have stopped being so."""
        return len(self._ready)

    def has_events(self, count: int) -> bool:
        """Whether the keys listed as ready have so many events to send."""
        for key in self._ready:
            lane = self._lanes.get(key)
            if lane is not None and lane.ready:
                count -= len(lane.queue)
                if count <= 0:
                    return True
        return False

    def tidy(self, key: str) -> None:
        """Forget a lane of which nothing is left."""
        lane = self._lanes.get(key)
        if lane and not lane.queue and lane.flight is None and not lane.waiting and not lane.listed:
            del self._lanes[key]
