# SPDX-License-Identifier: Apache-2.0
"""One connection of a relay to the broker: what it writes goes down a pipe and lands some time, in order.

A connection that ends leaves some of it on the way: it lands, however dead its relay, and nobody is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from fairlead.drivers.amqp.message import Message
from fairlead.ports import Published
from fairlead.testing.simulation.broker import SimulatedBroker

Done = Callable[[Published], None]


class Pipe:
    """Publishes of one connection, in order, each with its confirm.

    Args:
        name: of the relay that writes.

    Attributes:
        open: the connection stands.
    """

    def __init__(self, broker: SimulatedBroker, random: Random, name: str) -> None:
        self.open = True
        self.name = name
        self._broker = broker
        self._random = random
        self._wet: deque[tuple[str, Message, Done | None]] = deque()  # on the way
        self._unconfirmed: dict[Done, None] = {}
        self._pumping = False

    def publish(self, queue: str, message: Message, done: Done) -> None:
        """Write a message; `done` hears what becomes of it, once."""
        self._unconfirmed[done] = None
        self._wet.append((queue, message, done))
        self._pump_soon()

    def close(self) -> None:
        """The connection has ended: what was not confirmed is `lost` to its relay. Idempotent."""
        if not self.open:
            return
        self.open = False
        landing = self._random.randrange(len(self._wet) + 1)
        self._wet = deque((queue, message, None) for queue, message, _ in list(self._wet)[:landing])
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        for done in unconfirmed:
            done(Published("lost", "the connection ended"))

    def _pump_soon(self) -> None:
        if self._wet and not self._pumping:
            self._pumping = True
            self._broker.later(self._broker.delay(), self._pump)

    def _pump(self) -> None:
        """The broker reads what was written, or nothing for now."""
        broker = self._broker
        if broker.blocked or not broker.up:
            broker.later(0.1 + broker.delay(), self._pump)
            return
        self._pumping = False
        if self._wet:
            self._land(*self._wet.popleft())
        self._pump_soon()

    def _land(self, queue: str, message: Message, done: Done | None) -> None:
        broker = self._broker
        if done is None:
            broker.say(f"broker: takes what a lost connection of {self.name} has left")
        if broker.happens(broker.weather.refused):
            broker.say(f"broker: refuses {message.message_id}")
            self._confirm(done, Published("refused", "the broker said no"))
        elif not broker.route(queue, message):
            broker.say(f"broker: returns {message.message_id}")
            self._confirm(done, Published("unroutable", f"no queue {queue}"))
        elif broker.happens(broker.weather.lost_confirm):
            broker.say(f"broker: does not confirm {message.message_id}")
        else:
            self._confirm(done, Published("confirmed"))

    def _confirm(self, done: Done | None, published: Published) -> None:
        if done is not None:
            self._broker.later(self._broker.delay(), self._tell, done, published)

    def _tell(self, done: Done, published: Published) -> None:
        if done in self._unconfirmed:
            del self._unconfirmed[done]
            done(published)
