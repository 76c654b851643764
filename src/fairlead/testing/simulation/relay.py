# SPDX-License-Identifier: Apache-2.0
"""One relay process: the real node over the real store and transport, mortal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import TypeVar

from fairlead.core.egress import EgressPolicy
from fairlead.core.failover import FailoverRules
from fairlead.drivers.http_client.client import HttpClient
from fairlead.engine.node import Node
from fairlead.engine.settings import BreakerRules, EngineSettings, Limits, RetentionRules
from fairlead.errors import FairleadError
from fairlead.ports import Answer, Delivery
from fairlead.stores.sqlite.store import SqliteStore
from fairlead.telemetry import Telemetry
from fairlead.testing.simulation.broker import SimulatedBroker
from fairlead.testing.simulation.bus import SimulatedBus
from fairlead.testing.simulation.checker import Checker
from fairlead.testing.simulation.clock import SimulatedClock
from fairlead.testing.simulation.configurations import Configuration
from fairlead.testing.simulation.disk import Disk, FaultyConnection, free_bytes
from fairlead.testing.simulation.loop import Process, SimulatedLoop, where
from fairlead.testing.simulation.network import Network, Wire
from fairlead.testing.simulation.operators import NAME
from fairlead.testing.simulation.wires import WireChecker
from fairlead.transports.http import HttpSender

T = TypeVar("T")
WINDOW = 4


class SharedStore(SqliteStore):
    """A store that says that several nodes share it, and does not mind if they do."""

    shared = True

    def look_again(self) -> None:
        """Another node may have appended: its heads are ours."""
        rows = self.connection.execute("SELECT pos FROM partition_head ORDER BY partition")
        self._writer._heads = [pos for (pos,) in rows]


class WatchedSender(HttpSender):
    """The real transport; tells the checker what goes out."""

    def __init__(self, wire: Wire, clock: SimulatedClock, relay: Relay) -> None:
        client: HttpClient = wire  # type: ignore[assignment]  # a wire is a client as far as sending goes
        super().__init__(client, EgressPolicy((), loopback_allowed=True), clock, origin="relay.example")
        self._relay = relay

    async def send(self, delivery: Delivery) -> Answer:
        """As `HttpSender.send`."""
        relay = self._relay
        relay.watch(delivery, published=False)
        head = relay.tell("sends", delivery)
        try:
            answer = await super().send(delivery)
        finally:
            relay.wires.landed(relay.name, delivery)
        relay.say(f"hears {head} {' '.join(_word(answer, index) for index in range(len(answer.outcomes)))}")
        return answer


def _word(answer: Answer, index: int) -> str:
    outcome = answer.outcomes[index]
    return f"{outcome.kind}({outcome.status},{outcome.applied})"


class Relay:
    """One incarnation of one node, from its start to its death.

    Attributes:
        alive: it was neither killed nor stopped.
    """

    def __init__(
        self,
        name: str,
        loop: SimulatedLoop,
        connection: FaultyConnection,
        network: Network,
        checker: Checker,
        *,
        configuration: Configuration,
        random: Random,
        say: Callable[[str], None],
        wires: WireChecker,
        broker: SimulatedBroker | None = None,
    ) -> None:
        self.name = name
        self.checker = checker
        self.wires = wires
        self.process = Process(name)
        self.clock = SimulatedClock(loop)
        self._loop = loop
        self._connection = connection
        self._network = network
        self._configuration = configuration
        self._random = random
        self._say = say
        self._broker = broker
        self.bus: SimulatedBus | None = None
        self.node: Node | None = None
        self._store: SqliteStore | None = None

    def say(self, what: str) -> None:
        """Put a line in the trace."""
        self._say(f"{self.name} {what}")

    def tell(self, verb: str, delivery: Delivery) -> str:
        """Put a delivery into the trace; its short name."""
        places = [f"{one.entry.position}<{one.prev}" for one in delivery.parcels]
        fence = delivery.fence
        head = f"{fence.channel.partition}:{','.join(places) or 'fence'}"
        seq = "" if delivery.seq is None else f" seq {delivery.seq}"
        self.say(
            f"{verb} {head} generation {fence.generation} epoch {fence.epoch} floor {delivery.floor}{seq}"
        )
        return head

    def watch(self, delivery: Delivery, *, published: bool) -> None:
        """Have a delivery that goes out looked at."""
        self.wires.sending(self.name, delivery, published=published)
        self.checker.sending(self.name, delivery)

    @property
    def alive(self) -> bool:
        return self.process.alive

    async def start(self) -> None:
        """Open the store, take everything over, serve. Raises what a real start would."""
        await self.call(self._start, lossless=True)

    async def _start(self) -> None:
        random, connection = self._random, self._connection
        kind = SharedStore if self._configuration.zombie else SqliteStore
        disk = Disk(random)
        store = kind.open(
            connection=connection,
            executor=disk,
            partitions=self._configuration.partitions,
            free_bytes=lambda: free_bytes(connection),
            now=self.clock.now,
        )
        self._store = store
        self.bus = self._new_bus()
        if isinstance(store, SharedStore):
            disk.before = store.look_again
        node = Node(
            store,
            WatchedSender(Wire(self._network), self.clock, self),
            self.clock,
            settings(self._configuration),
            random=Random(random.random()),
            telemetry=Telemetry(),
            random_bytes=random.randbytes,
            owner=self.name,
            bus=self.bus,
        )
        await node.start()
        self.node = node
        self.say("serves")

    def _new_bus(self) -> SimulatedBus | None:
        """Its way to the broker. A node that starts again finds its reply queue; two nodes have one each."""
        if self._broker is None:
            return None
        return SimulatedBus(
            self._broker,
            self._loop,
            self.process,
            self.clock,
            Random(self._random.random()),
            node=self.name if self._configuration.zombie else "one",
            name=self.name,
            sending=self._publishing,
            hearing=self._hearing,
        )

    def _publishing(self, delivery: Delivery) -> None:
        self.tell("publishes", delivery)
        self.watch(delivery, published=True)
        self.wires.publishing(self.name, delivery)

    def _hearing(self, body: bytes) -> None:
        self.say(f"is told {body.decode()}")
        self.wires.hearing(self.name, body)

    async def call(self, work: Callable[[], Awaitable[T]], *, lossless: bool = False) -> T:
        """Have the relay do something for somebody outside of it.

        Raises:
            ConnectionError: it died, or its answer was lost; it may have been done or not.
            What `work` raises.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        if not self.alive:
            raise ConnectionError(f"{self.name} is down")
        self.process.calls[answer] = None

        async def work_and_tell() -> None:
            try:
                result = await work()
            except Exception as error:
                if not isinstance(error, FairleadError):
                    self._loop.defects.append(f"a call ended with {error!r}{where(error)}")
                if not answer.done():
                    answer.set_exception(error)
            else:
                if not answer.done():
                    answer.set_result(result)

        self._loop.spawn(self.process, work_and_tell())
        try:
            result = await answer
        finally:
            self.process.calls.pop(answer, None)
        if not lossless and self._random.random() < self._network.weather.lost_answer:
            raise ConnectionError("the answer was lost")
        return result

    async def post(self, headers: Mapping[str, str], body: bytes) -> None:
        """As `POST …/acks` of the world's subscription does. Raises Problem."""
        assert self.node is not None
        self._hearing(body)
        self.node.answers.take(NAME, headers, body)

    def kill(self) -> None:
        """As `kill -9` does."""
        self.say("is killed")
        self._loop.kill(self.process)
        if self.bus is not None:
            self.bus.die()
        if self._store is not None:
            self._store.abandon()

    async def stop(self, grace_seconds: float) -> None:
        """Stop as on SIGTERM, then die."""
        node = self.node
        assert node is not None
        try:
            await self.call(lambda: node.stop(grace_seconds), lossless=True)
        finally:
            if self.alive:
                self.kill()


def settings(configuration: Configuration) -> EngineSettings:
    """The engine's numbers, small, so that little time does much."""
    return EngineSettings(
        limits=Limits(request_timeout_seconds=3.0),
        retention=RetentionRules(
            keep_seconds=configuration.keep_seconds,
            max_age_seconds=configuration.max_age_seconds,
            attempts_seconds=5.0,
            sweep_seconds=2.0,
        ),
        breaker=BreakerRules(failures=4, probe_every_seconds=0.4, probe_max_seconds=2.0),
        slow_after_seconds=0.3,
        read_ahead=5,
        window=WINDOW,
        failover=FailoverRules(
            confirm_late_seconds=0.5,
            suspect_seconds=0.4,
            return_after_seconds=1.0,
            return_max_seconds=4.0,
            probe_every_seconds=0.4,
        ),
        grace_seconds=1.0,
    )
