# SPDX-License-Identifier: Apache-2.0
"""The processes of a receiver that consume from the simulated broker, into the inbox that REST uses too.

They verify and answer by the library's own code. One that has lost its connection may go on working on what
it had (a ghost), while the broker gives the same messages to the next one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from random import Random

from fairlead.core.answer import AnswerDocument, Stale
from fairlead.core.event import Event
from fairlead.core.stamps import FenceStamps, Stamps
from fairlead.drivers.amqp.message import Message
from fairlead.errors import InboxError
from fairlead.sdk.bus.answer import BusAnswer, body_of, signed, together
from fairlead.sdk.bus.deliveries import BusDeliveries, BusDelivery, BusMessage
from fairlead.testing.simulation.broker import SimulatedBroker
from fairlead.testing.simulation.clock import BEGIN
from fairlead.testing.simulation.loop import Process, SimulatedLoop
from fairlead.testing.simulation.outlet import Outlet
from fairlead.testing.simulation.receivers import DiedError, LibraryReceiver, OutsideReceiver, Receiver

PREFETCH = 3
POLL_SECONDS = 0.3
PostAnswer = Callable[[BusAnswer], None]


class Told:
    """An `Applier` that has applied."""

    def __init__(self, outcome: AnswerDocument | Stale) -> None:
        self._outcome = outcome

    def apply(self, event: Event, stamps: Stamps) -> AnswerDocument | Stale:
        """See `Applier.apply`."""
        return self._outcome

    def fence(self, stamps: FenceStamps) -> AnswerDocument | Stale:
        """See `Applier.fence`."""
        return self._outcome


class Consumer:
    """One process of the receiver at one queue.

    Args:
        receiver: a library; of any other the messages are only taken out of the queue.
        joined: answers of one moment go in one message.
        post: takes an answer over `POST …/acks`, where the reply queue cannot be reached.
    """

    def __init__(
        self,
        receiver: Receiver,
        broker: SimulatedBroker,
        loop: SimulatedLoop,
        random: Random,
        *,
        queue: str,
        name: str,
        secrets: Sequence[str],
        joined: bool,
        post: PostAnswer,
    ) -> None:
        self.name = name
        self.queue = queue
        self._receiver = receiver
        self._broker = broker
        self._loop = loop
        self._random = random
        self._secrets = tuple(secrets)
        self._joined = joined
        self._leaving: list[BusAnswer] = []
        self._post = post
        self._process = Process(name)
        self._outlet: Outlet | None = None

    def start(self) -> asyncio.Task[None]:
        """Begin to consume; goes on until it is cancelled."""
        return self._loop.spawn(self._process, self._consume())

    def disconnect(self) -> None:
        """Its connection ends; what it has it may go on with."""
        outlet, self._outlet = self._outlet, None
        if outlet is not None:
            outlet.close()

    async def _consume(self) -> None:
        while True:
            await asyncio.sleep(self._random.random() * POLL_SECONDS)
            outlet = self._outlet
            if outlet is not None and (not outlet.open or self._cannot()):
                self.disconnect()
            elif outlet is None and not self._cannot():
                self._connect()

    def _cannot(self) -> bool:
        return self._receiver.temper.down or not self._broker.reaches(self.name)

    def _connect(self) -> None:
        had: deque[Message] = deque()
        some = asyncio.Event()

        def take(message: Message) -> None:
            had.append(message)
            self._loop.later(self._process, self._broker.delay(), some.set)

        outlet = Outlet(PREFETCH, take)
        if self._broker.listen(self.queue, outlet):
            self._outlet = outlet
            self._loop.spawn(self._process, self._work(outlet, had, some))

    async def _work(self, outlet: Outlet, had: deque[Message], some: asyncio.Event) -> None:
        """Take one message after the other; as a ghost, once the connection is lost."""
        haunts = self._random.random() < 0.5
        while True:
            if not had:
                if not outlet.open:
                    return
                some.clear()
                try:
                    async with asyncio.timeout(POLL_SECONDS):
                        await some.wait()
                except TimeoutError:
                    continue
                continue
            await asyncio.sleep(self._broker.delay())
            if not outlet.open and not haunts:
                return
            if not outlet.open:
                self._broker.say(f"{self.name}: works on {had[0].message_id} as a ghost")
            if not await self._take(had[0], outlet):
                self._broker.say(f"{self.name}: dies")
                self._leaving.clear()
                outlet.close()
                return
            had.popleft()

    async def _take(self, message: Message, outlet: Outlet) -> bool:
        """Apply a message, answer it, settle it at the broker; False if the process dies of it."""
        receiver = self._receiver
        if isinstance(receiver, LibraryReceiver | OutsideReceiver) and not await self._apply(
            message, receiver
        ):
            return False
        if self._random.random() < receiver.temper.dies:
            return False  # it has answered, and not settled
        outlet.ack(message)
        return True

    async def _apply(self, message: Message, receiver: LibraryReceiver | OutsideReceiver) -> bool:
        deliveries = BusDeliveries(Told(_NOTHING), self._secrets, clock=self._now)  # type: ignore[arg-type]
        headers = {**message.headers, "webhook-id": message.message_id}
        delivery = deliveries.open(BusMessage(headers, message.content_type, message.body, message.reply_to))
        if delivery is not None:
            try:
                outcome = await self._outcome(delivery, receiver)
            except DiedError:
                return False
            answer = BusDeliveries(Told(outcome), self._secrets).apply(delivery)  # type: ignore[arg-type]
            if answer is not None:
                self._answer(answer)
        return True

    async def _outcome(
        self, delivery: BusDelivery, receiver: LibraryReceiver | OutsideReceiver
    ) -> AnswerDocument | Stale:
        while True:
            try:
                if delivery.event is None or not isinstance(delivery.stamps, Stamps):
                    return receiver.fence(delivery.stamps)
                return await receiver.apply(delivery.event, delivery.stamps)
            except InboxError:
                await asyncio.sleep(self._random.random() * 0.2)

    def _answer(self, answer: BusAnswer) -> None:
        """Send it, now or with those of the next moment."""
        if not (self._joined and answer.joins):
            self._send([answer])
            return
        if not self._leaving:
            self._loop.later(self._process, self._broker.delay(), self._leave)
        self._leaving.append(answer)

    def _leave(self) -> None:
        answers, self._leaving = self._leaving, []
        for group in together(answers):
            self._send(group)

    def _send(self, group: Sequence[BusAnswer]) -> None:
        """To the reply queue or, if it cannot be reached, over REST."""
        first = group[0]
        if first.reply_to is None or not self._broker.reaches(self.name):
            for answer in group:
                self._post(answer)
            return
        body = body_of(group)
        headers = signed(first.secret, first.id, body, self._now())
        message_id = headers.pop("webhook-id")
        message = Message(body, first.content_type, message_id, headers=headers)
        self._broker.answer(first.reply_to, message)

    def _now(self) -> float:
        return BEGIN + self._loop.time()


_NOTHING = Stale.of(0, 0)
