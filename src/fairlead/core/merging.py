# SPDX-License-Identifier: Apache-2.0
"""Several queues as one order: by the senders' time as far as that can be known, never against a queue's own.

A sender that writes into two queues, one after the other (OpenStack: `start` to `notifications.info`, then
`error` to `notifications.error`), has its second message overtake the first where they are read side by side.
So the heads of the queues are compared, and the one with the earliest time goes; while some queue has
nothing, a head waits a moment for what may still be on its way from there.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

WINDOW_SECONDS = 0.05
NO_TIME = float("-inf")


class _Waiting(NamedTuple, Generic[T]):
    time: float
    arrived: float
    item: T


class Merge(Generic[T]):
    """Items of several inlets, first in first out for each.

    Args:
        inlets: how many; a single one never waits.
        window_seconds: how long after its arrival a head waits for inlets that are empty.
    """

    def __init__(self, inlets: int, window_seconds: float = WINDOW_SECONDS) -> None:
        self._queues: list[deque[_Waiting[T]]] = [deque() for _ in range(inlets)]
        self._window_seconds = window_seconds

    def put(self, inlet: int, item: T, time: float | None, now: float) -> None:
        """An item has arrived; without a time it waits for nothing when its turn in its queue comes."""
        self._queues[inlet].append(_Waiting(NO_TIME if time is None else time, now, item))

    def drop(self, inlet: int) -> None:
        """Forget what waits of one inlet: it will come again."""
        self._queues[inlet].clear()

    def peek(self, now: float) -> T | None:
        """The item whose turn it is; None where there is none, or none yet."""
        at = self._first()
        return None if at is None or self._patience(at, now) > 0 else self._queues[at][0].item

    def take(self, now: float) -> T | None:
        """The same, and it is taken."""
        at = self._first()
        return None if at is None or self._patience(at, now) > 0 else self._queues[at].popleft().item

    def wait_seconds(self, now: float) -> float | None:
        """How long until `peek` gives something if nothing else comes; None where nothing waits."""
        at = self._first()
        return None if at is None else max(0.0, self._patience(at, now))

    def _first(self) -> int | None:
        heads = [(queue[0].time, queue[0].arrived, at) for at, queue in enumerate(self._queues) if queue]
        return min(heads)[2] if heads else None

    def _patience(self, at: int, now: float) -> float:
        head = self._queues[at][0]
        if head.time == NO_TIME or all(self._queues):
            return 0.0
        return head.arrived + self._window_seconds - now
