# SPDX-License-Identifier: Apache-2.0
"""A queue in memory with its broker: what is not acknowledged comes again, in its place."""

from __future__ import annotations

from collections.abc import Callable

from fairlead.core.source_message import SourceMessage
from fairlead.ports import Received, SourceHealth


class FakeQueue:
    """What waits, and what was acknowledged; several sources may be opened on it, one after the other.

    Attributes:
        waiting: messages that nobody has.
        acknowledged: those that are done with, in the order of their acknowledgements.
        most_unacknowledged: the most that a source had at once.
    """

    def __init__(self) -> None:
        self.waiting: list[SourceMessage] = []
        self.acknowledged: list[SourceMessage] = []
        self.most_unacknowledged = 0
        self.reader: FakeSource | None = None
        self.returned = 0  # so many of those that wait, the first ones, were given before

    def put(self, *messages: SourceMessage) -> None:
        """Somebody sends."""
        self.waiting += messages
        if self.reader is not None:
            self.reader.push()


class FakeSource:
    """The port over a `FakeQueue`; `reconnect` and `tell` are what the network does."""

    def __init__(self, queue: FakeQueue, prefetch: int = 256) -> None:
        self.health = SourceHealth(False, "it is not open")
        self._queue = queue
        self._prefetch = prefetch
        self._attachment = 1
        self._unacknowledged: dict[int, SourceMessage] = {}
        self._tags = 0
        self._take: Callable[[Received], None] | None = None
        self._changed: Callable[[], None] = lambda: None

    def open(self, take: Callable[[Received], None], changed: Callable[[], None]) -> None:
        """See `fairlead.ports.Source`."""
        self._take, self._changed = take, changed
        self._queue.reader = self
        self.tell(SourceHealth(True))
        self.push()

    def acknowledge(self, received: Received) -> None:
        """See `fairlead.ports.Source`."""
        if received.attachment == self._attachment and isinstance(received.ticket, int):
            message = self._unacknowledged.pop(received.ticket, None)
            if message is not None:
                self._queue.acknowledged.append(message)
                self.push()

    async def close(self) -> None:
        """See `fairlead.ports.Source`."""
        if self._take is not None:
            self._take = None
            self._queue.reader = None
            self._return()
            self.health = SourceHealth(False, "it is not open")

    def reconnect(self) -> None:
        """The connection is lost, and there again."""
        self._return()
        self.tell(SourceHealth(False, "the connection broke"))
        self.tell(SourceHealth(True))
        self.push()

    def tell(self, health: SourceHealth) -> None:
        """The health changes."""
        self.health = health
        self._changed()

    def push(self) -> None:
        """Give what may be given."""
        queue, pending = self._queue, self._unacknowledged
        while self._take is not None and queue.waiting and len(pending) < self._prefetch:
            self._tags += 1
            message = pending[self._tags] = queue.waiting.pop(0)
            redelivered = queue.returned > 0
            queue.returned -= redelivered
            queue.most_unacknowledged = max(queue.most_unacknowledged, len(pending))
            self._take(Received(message, self._attachment, self._tags, redelivered))

    def _return(self) -> None:
        self._attachment += 1
        self._queue.waiting[:0] = self._unacknowledged.values()
        self._queue.returned += len(self._unacknowledged)
        self._unacknowledged.clear()
