# SPDX-License-Identifier: Apache-2.0
"""One relay's connection to the simulated broker: `ports.Bus` and `ports.Link`, mortal like their relay.

Messages are encoded and signed by the real transport's functions; what stands between them and the queues is
simulated: the connection, its confirms, the reply queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from fairlead.core.signature import Signer
from fairlead.core.subscription import Subscription, Target
from fairlead.drivers.amqp.message import Message
from fairlead.ports import Delivery, LinkHealth, Published
from fairlead.ports.bus import TakeAnswer
from fairlead.testing.simulation.broker import REPLIES, SimulatedBroker
from fairlead.testing.simulation.clock import SimulatedClock
from fairlead.testing.simulation.loop import Process, SimulatedLoop
from fairlead.testing.simulation.outlet import Outlet
from fairlead.testing.simulation.pipe import Pipe
from fairlead.transports.amqp_message import message_of

ANSWERS_AT_ONCE = 32
Done = Callable[[Published], None]
Watch = Callable[[Delivery], None]


class SimulatedBus:
    """`ports.Bus` of one relay process.

    Args:
        node: this node's id, which names its reply queue.
        name: of the process, as the network knows it.
        sending: called with each delivery that is published. hearing: with each answer that is taken.
    """

    def __init__(
        self,
        broker: SimulatedBroker,
        loop: SimulatedLoop,
        process: Process,
        clock: SimulatedClock,
        random: Random,
        *,
        node: str,
        name: str,
        sending: Watch = lambda delivery: None,
        hearing: Callable[[bytes], None] = lambda body: None,
    ) -> None:
        self.broker = broker
        self.clock = clock
        self.name = name
        self.reply_to = REPLIES + node
        self.pipe: Pipe | None = None
        self.sending = sending
        self._hearing = hearing
        self._loop = loop
        self._process = process
        self._random = random
        self._links: list[SimulatedLink] = []
        self._take: TakeAnswer | None = None
        self._outlet: Outlet | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._answering: set[asyncio.Task[None]] = set()
        broker.changed.append(self._changed)

    # -- the port ----------------------------------------------------------------------------------------

    def listen(self, take: TakeAnswer) -> None:
        """See `Bus.listen`."""
        assert self._take is None, "listen is called once"
        assert not self._links, "listen is called before any link"
        self._take = take

    def link(self, subscription: Subscription, target: Target, changed: Callable[[], None]) -> SimulatedLink:
        """See `Bus.link`."""
        link = SimulatedLink(self, subscription, target, changed)
        self._links.append(link)
        if self.pipe is not None:
            self.soon(link.declare)
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._stay_connected())
        return link

    async def check(self, target: Target) -> None:
        """See `Bus.check`."""

    async def close(self) -> None:
        """See `Bus.close`."""
        for link in list(self._links):
            link.close()
        if self._connecting is not None:
            self._connecting.cancel()
        self.disconnect()

    # -- the connection ----------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        while True:
            await asyncio.sleep(0.02 + self._random.random() * 0.3)
            if self.pipe is None and self.broker.reaches(self.name):
                self._connect()
            elif self.pipe is not None and self._outlet is not None and not self._outlet.open:
                self._hear()  # the reply queue was taken away

    def _connect(self) -> None:
        self.pipe = Pipe(self.broker, self._random, self.name)
        self._hear()
        for link in list(self._links):
            link.declare()

    def _hear(self) -> None:
        self.broker.declare(self.reply_to)
        if self._take is not None:
            self._outlet = Outlet(ANSWERS_AT_ONCE, self._given)
            self.broker.listen(self.reply_to, self._outlet)

    def disconnect(self) -> None:
        """The connection ends, by the network, the broker or the death of the relay."""
        pipe, self.pipe = self.pipe, None
        outlet, self._outlet = self._outlet, None
        if outlet is not None:
            outlet.close()
        if pipe is not None:
            pipe.close()
            for link in list(self._links):
                link.lose("the connection ended")

    def die(self) -> None:
        """The relay was killed: nothing of it hears of anything any more."""
        if self._changed in self.broker.changed:
            self.broker.changed.remove(self._changed)
        self.disconnect()

    def _changed(self) -> None:
        """The broker has come, gone, blocked; or the network cuts us off from it."""
        if self.pipe is not None and not self.broker.reaches(self.name):
            self.disconnect()
        for link in list(self._links):
            link.note()

    def _given(self, message: Message) -> None:
        outlet = self._outlet
        assert outlet is not None
        self._loop.later(self._process, 0.0, self._answer, message, outlet)

    def _answer(self, message: Message, outlet: Outlet) -> None:
        self._answering.add(task := asyncio.create_task(self._answered(message, outlet)))
        task.add_done_callback(self._answering.discard)

    async def _answered(self, message: Message, outlet: Outlet) -> None:
        assert self._take is not None
        self._hearing(message.body)
        await self._take({**message.headers, "webhook-id": message.message_id or ""}, message.body)
        outlet.ack(message)

    def soon(self, work: Callable[..., object], *arguments: object) -> None:
        """Call something of the relay's as its next step."""
        self._loop.later(self._process, 0.0, work, *arguments)

    def later(self, seconds: float, work: Callable[..., object], *arguments: object) -> None:
        """Call something of the relay's after a while."""
        self._loop.later(self._process, seconds, work, *arguments)

    def forget(self, link: SimulatedLink) -> None:
        """A link is closed."""
        if link in self._links:
            self._links.remove(link)


class SimulatedLink:
    """`ports.Link` of one subscription."""

    def __init__(
        self, bus: SimulatedBus, subscription: Subscription, target: Target, changed: Callable[[], None]
    ) -> None:
        self._bus = bus
        self._subscription = subscription
        self._target = target
        self._signer = Signer(subscription.secrets.in_force(bus.clock.now()))
        self._changed = changed
        self._declared = False
        self._closed = False
        self._waiting: dict[Done, None] = {}
        self._health = LinkHealth(False, bus.clock.monotonic(), "not connected yet")

    @property
    def health(self) -> LinkHealth:
        """See `Link.health`."""
        return self._health

    def publish(self, delivery: Delivery, done: Done) -> None:
        """See `Link.publish`."""
        bus = self._bus
        told = self._once(done)
        if self._closed or bus.pipe is None:
            bus.soon(told, Published("lost", "not connected"))
            return
        bus.sending(delivery)
        message = message_of(delivery, self._signer, int(bus.clock.now()), bus.reply_to)
        queue = self._queue(delivery.fence.channel.partition)
        bus.pipe.publish(queue, message, lambda published: bus.soon(told, published))

    async def depth(self, partition: int) -> int | None:
        """See `Link.depth`."""
        bus = self._bus
        await asyncio.sleep(bus.broker.delay())
        return bus.broker.depth(self._queue(partition)) if self._up else None

    def close(self) -> None:
        """See `Link.close`."""
        self._closed = True
        self._bus.forget(self)
        for told in self._waiting:
            self._bus.soon(told, Published("lost", "the link was closed"))

    # -- what the bus does with it -----------------------------------------------------------------------

    def declare(self) -> None:
        """Put the topology in place."""
        if self._closed or self._bus.pipe is None:
            return
        for shard in range(self._shards):
            self._bus.broker.declare(queue_name(self._subscription.id, shard))
        self._declared = True
        self.note()

    def lose(self, detail: str) -> None:
        """The topology is not what it was, or cannot be known."""
        self._declared = False
        self.note(detail)

    def note(self, detail: str = "") -> None:
        """Look whether the link is up, and say so if that has changed."""
        up, bus = self._up, self._bus
        if up == self._health.up or self._closed:
            return
        said = "" if up else detail or ("blocked" if bus.broker.blocked else "not connected")
        self._health = LinkHealth(up, bus.clock.monotonic(), said)
        bus.soon(self._changed)

    @property
    def _up(self) -> bool:
        return self._declared and self._bus.pipe is not None and not self._bus.broker.blocked

    @property
    def _shards(self) -> int:
        return int(self._target.settings.get("shards", 1))

    def _queue(self, partition: int) -> str:
        return queue_name(self._subscription.id, partition % self._shards)

    def _once(self, done: Done) -> Done:
        """Tell what became of a publish, unless it was told before."""

        def told(published: Published) -> None:
            if published.kind == "unroutable" and self._declared:
                self.lose(published.detail)
                self._bus.later(0.05 + self._bus.broker.delay(), self.declare)
            if told in self._waiting:
                del self._waiting[told]
                done(published)

        self._waiting[told] = None
        return told


def queue_name(subscription: str, shard: int) -> str:
    """The queue of one shard (interface, section 8)."""
    return f"fairlead.{subscription}.{shard}"
