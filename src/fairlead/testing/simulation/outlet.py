# SPDX-License-Identifier: Apache-2.0
"""A consumer as its broker sees it: what it was given and has not acknowledged, at most `prefetch`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairlead.drivers.amqp.message import Message
    from fairlead.testing.simulation.broker import SimulatedBroker


class Outlet:
    """One consumer, from `SimulatedBroker.listen` until its connection ends.

    Args:
        take: called with each message, and again with what `ack` needs; on the broker's own steps.

    Attributes:
        open: its connection stands.
    """

    def __init__(self, prefetch: int, take: Callable[[Message], None]) -> None:
        self.open = False
        self._prefetch = prefetch
        self._take = take
        self._given: list[Message] = []
        self._broker: SimulatedBroker | None = None
        self._queue = ""

    def opened(self, broker: SimulatedBroker, queue: str) -> None:
        """The broker has taken it on."""
        self.open, self._broker, self._queue = True, broker, queue

    @property
    def has_room(self) -> bool:
        return self.open and len(self._given) < self._prefetch

    def give(self, message: Message) -> None:
        """The broker hands a message over."""
        self._given.append(message)
        self._take(message)

    def ack(self, message: Message) -> None:
        """The consumer is done with a message; of an older connection's nothing is known here."""
        for index, given in enumerate(self._given):
            if given is message:
                del self._given[index]
                assert self._broker is not None
                self._broker.acknowledged(self._queue, message)
                return

    def close(self) -> None:
        """The connection has ended; what was not acknowledged goes back. Idempotent."""
        if self.open:
            self.open = False
            given, self._given = self._given, []
            assert self._broker is not None
            self._broker.left(self._queue, self, given)
