# SPDX-License-Identifier: Apache-2.0
"""A message broker: durable queues with a single active consumer each; it loses, repeats and delays.

What it promises is what RabbitMQ does: a queue's order as published by one connection, redelivery of what
was not acknowledged, a confirm or a return for each publish while its connection lives. The weather and the
faults (`broker_faults`) break every one of these promises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import msgspec

from fairlead.drivers.amqp.message import Message
from fairlead.testing.simulation.loop import Process, SimulatedLoop
from fairlead.testing.simulation.outlet import Outlet

REPLIES = "fairlead.acks."


@dataclass(frozen=True, slots=True)
class BrokerWeather:
    """How bad the broker is; probabilities.

    Attributes:
        lost: a message is confirmed and lost. repeated: it is in the queue twice, or again much later.
        refused: the broker says no. lost_confirm: it says nothing.
        late: a message, a confirm or an answer takes long. slow_seconds: how long at most.
        lost_answer, repeated_answer: of the messages to a reply queue. forged: somebody else writes there.
        requeued: an acknowledgement is lost, and the message comes again.
    """

    lost: float = 0.02
    repeated: float = 0.03
    refused: float = 0.01
    lost_confirm: float = 0.01
    late: float = 0.04
    slow_seconds: float = 3.0
    lost_answer: float = 0.05
    repeated_answer: float = 0.05
    forged: float = 0.05
    requeued: float = 0.04


FINE = BrokerWeather(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(slots=True)
class Queue:
    """One durable queue. The first outlet is the active consumer; the others wait for it to go.

    Attributes:
        untouched: messages that no consumer was ever given, by identity; no copies.
    """

    messages: deque[Message] = field(default_factory=deque)
    untouched: set[int] = field(default_factory=set)
    outlets: list[Outlet] = field(default_factory=list)

    def feed(self) -> None:
        """Give the active consumer what it has room for."""
        while self.outlets and self.messages and self.outlets[0].has_room:
            message = self.messages.popleft()
            self.untouched.discard(id(message))
            self.outlets[0].give(message)

    @property
    def depth(self) -> int:
        """How many messages wait; what a consumer holds does not."""
        return len(self.messages)


class SimulatedBroker:
    """One broker, or one cluster of them, whose queues survive everything but the faults that take them away.

    Attributes:
        up: one can connect. blocked: it reads no publishes (an alarm).
        weather: as it is now.
        queues: by name.
        changed: called whenever `up`, `blocked` or who is cut off has changed.
        cut_off: the names of those whom the network keeps from connecting.
        forge: writes what nobody of ours did into a reply queue; None for nothing.
        taken: called with each message that the broker has taken in, and will confirm.
    """

    def __init__(self, loop: SimulatedLoop, random: Random, say: Callable[[str], None]) -> None:
        self.up = True
        self.blocked = False
        self.weather = BrokerWeather()
        self.queues: dict[str, Queue] = {}
        self.changed: list[Callable[[], None]] = []
        self.cut_off: set[str] = set()
        self.forge: Callable[[Message], Message | None] = lambda answer: None
        self.taken: Callable[[Message], None] = lambda message: None
        self.say = say
        self._loop = loop
        self._random = random
        self.process = Process("broker")

    # -- what it does by itself --------------------------------------------------------------------------

    def later(self, seconds: float, work: Callable[..., None], *arguments: object) -> None:
        """Do something of the broker's after a while."""
        self._loop.later(self.process, seconds, work, *arguments)

    def delay(self) -> float:
        """How long something takes, in seconds."""
        roll = self._random.random
        if roll() < self.weather.late:
            return roll() * self.weather.slow_seconds
        return roll() * 0.02

    def happens(self, probability: float) -> bool:
        """Whether something happens this time."""
        return self._random.random() < probability

    def tell(self) -> None:
        """Something has changed."""
        for changed in list(self.changed):
            changed()

    # -- topology ----------------------------------------------------------------------------------------

    def reaches(self, name: str) -> bool:
        """Whether somebody can connect at this moment."""
        return self.up and name not in self.cut_off

    def declare(self, name: str) -> None:
        """Make a queue, if it is not there."""
        self.queues.setdefault(name, Queue())

    def depth(self, name: str) -> int | None:
        """How many messages wait in a queue; None where there is none."""
        queue = self.queues.get(name)
        return None if queue is None else queue.depth

    def delete(self, name: str) -> None:
        """Take a queue away, with all that is in it and all that listen to it."""
        queue = self.queues.pop(name, None)
        for outlet in list(queue.outlets) if queue is not None else ():
            outlet.close()

    # -- publishing --------------------------------------------------------------------------------------

    def route(self, name: str, message: Message) -> bool:
        """Put a message into a queue; False if there is none of that name."""
        queue = self.queues.get(name)
        if queue is None:
            return False
        self.taken(message)
        if self.happens(self.weather.lost):
            self.say(f"broker: loses {message.message_id}")
            return True
        queue.untouched.add(id(message))
        self._put(name, message)
        if self.happens(self.weather.repeated):
            again = self._random.random() * self.weather.slow_seconds if self.happens(0.5) else 0.0
            self.later(again, self._put, name, msgspec.structs.replace(message))
        return True

    def _put(self, name: str, message: Message) -> None:
        queue = self.queues.get(name)
        if queue is not None:
            queue.messages.append(message)
            queue.feed()

    def answer(self, name: str, message: Message) -> None:
        """A receiver's message to a reply queue: lost, late, repeated, overtaken."""
        forged = self.forge(message) if self.happens(self.weather.forged) else None
        if forged is not None:
            self.later(self.delay(), self._put, name, forged)
        if not self.happens(self.weather.lost_answer):
            self.later(self.delay(), self._put, name, message)
        if self.happens(self.weather.repeated_answer):
            self.later(self._random.random() * self.weather.slow_seconds, self._put, name, message)

    # -- consuming ---------------------------------------------------------------------------------------

    def listen(self, name: str, outlet: Outlet) -> bool:
        """Consume from a queue, at once or once all before have gone; False if there is none."""
        queue = self.queues.get(name)
        if queue is None:
            return False
        outlet.opened(self, name)
        queue.outlets.append(outlet)
        queue.feed()
        return True

    def left(self, name: str, outlet: Outlet, unacknowledged: list[Message]) -> None:
        """A consumer has gone: what it had and did not acknowledge is first in the queue again."""
        queue = self.queues.get(name)
        if queue is None or outlet not in queue.outlets:
            return
        queue.outlets.remove(outlet)
        queue.messages.extendleft(reversed(unacknowledged))
        queue.feed()

    def acknowledged(self, name: str, message: Message) -> None:
        """A consumer is done with a message."""
        queue = self.queues.get(name)
        if queue is None:
            return
        if not name.startswith(REPLIES) and self.happens(self.weather.requeued):
            self.say(f"broker: gives {message.message_id} again")
            queue.messages.appendleft(message)
        queue.feed()
