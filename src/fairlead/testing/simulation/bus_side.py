# SPDX-License-Identifier: Apache-2.0
"""A world's broker, the receiver's processes at its queues, and who writes there without being asked."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.core.answer import parse_answers
from fairlead.core.codec import decode_structured
from fairlead.core.signature import SIGNATURE, TIMESTAMP, sign
from fairlead.core.stamps import read_stamps
from fairlead.drivers.amqp.message import Message
from fairlead.errors import FairleadError
from fairlead.sdk.bus.answer import BusAnswer, signed
from fairlead.testing.simulation.broker import SimulatedBroker
from fairlead.testing.simulation.broker_faults import BrokerFaults
from fairlead.testing.simulation.bus import queue_name
from fairlead.testing.simulation.clock import BEGIN
from fairlead.testing.simulation.consumers import Consumer
from fairlead.testing.simulation.operators import NAME, SECRET
from fairlead.testing.simulation.wires import IMPOSSIBLE

if TYPE_CHECKING:
    from fairlead.testing.simulation.world import World

FOREIGN_SECRET = "whsec_YW5vdGhlciBzdWJzY3JpcHRpb24ncyBzZWNyZXQ="  # noqa: S105  # nobody's


class BusSide:
    """Everything of a world that a world without a bus has not."""

    def __init__(self, world: World, random: Random) -> None:
        self._world = world
        self._random = random
        self.broker = SimulatedBroker(world.loop, Random(random.random()), world.say)
        self.broker.forge = self._forge
        self.faults = BrokerFaults(world, self, Random(random.random()))
        self.consumers: list[Consumer] = []

    def start(self) -> list[asyncio.Task[None]]:
        """Have the receiver's processes consume."""
        world, configuration = self._world, self._world.configuration
        receiver = world.receiver
        if configuration.settles == "confirm":
            self.broker.taken = self._taken
        self.consumers = [
            Consumer(
                receiver, self.broker, world.loop, Random(self._random.random()),
                queue=queue_name(NAME, shard), name=f"receiver-{shard}-{number}", secrets=[SECRET],
                joined=configuration.joined, post=self._post,
            )
            for shard in range(configuration.shards) for number in range(configuration.consumers)
        ]  # fmt: skip
        return [consumer.start() for consumer in self.consumers]

    def _taken(self, message: Message) -> None:
        """Where a confirm settles, it is for the broker to have an event: no more is promised."""
        event = decode_structured(message.body)
        self._world.applied(read_stamps(message.body), event.key)

    def waiting(self, partition: int, generation: int) -> list[tuple[str, int]]:
        """Key and position of each event of a generation that no consumer was given yet."""
        queue = self.broker.queues.get(queue_name(NAME, partition % self._world.configuration.shards))
        if queue is None:
            return []
        untouched = [one.body for one in queue.messages if id(one) in queue.untouched]
        stamped = [(body, read_stamps(body)) for body in untouched]
        return [
            (decode_structured(body).key, stamps.pos)
            for body, stamps in stamped
            if (stamps.channel.partition, stamps.generation) == (partition, generation)
        ]

    # -- answers by other ways -----------------------------------------------------------------------------

    def _post(self, answer: BusAnswer) -> None:
        """`POST …/acks` to whichever relay is there."""
        world = self._world
        world.loop.spawn(self.broker.process, self._carry(answer))

    async def _carry(self, answer: BusAnswer) -> None:
        world = self._world
        await asyncio.sleep(self.broker.delay())
        relay = world.owner
        if relay is None:
            return
        world.say(f"an answer goes over REST: {answer.id}")
        now = BEGIN + world.loop.time()
        try:
            headers = signed(answer.secret, answer.id, answer.body, now)
            await relay.call(lambda: relay.post(headers, answer.body))
        except (ConnectionError, FairleadError) as error:
            world.say(f"an answer over REST: {error}")

    def _forge(self, answer: Message) -> Message | None:
        """What somebody without the secret makes of an answer; all would settle what was not applied."""
        genuine = [one for one in parse_answers(answer.body) if one.result != "fence"]
        if not genuine:
            return None
        lies = [replace(one, result="applied", applied=IMPOSSIBLE, type=None, detail=None) for one in genuine]
        lie = lies[0].encode() if len(lies) == 1 else b"[" + b",".join([one.encode() for one in lies]) + b"]"
        timestamp = answer.headers[TIMESTAMP]
        kind = self._random.randrange(4)
        if kind == 0:  # the signature is of another body
            return replace(answer, body=lie)
        if kind == 1:  # signed by whoever has another subscription's secret
            return self._signed(answer, lie, FOREIGN_SECRET)
        if kind == 2:  # no signature at all
            return replace(answer, body=lie, headers={TIMESTAMP: timestamp})
        return replace(answer, body=lie, headers={**answer.headers, SIGNATURE: "v1,"})

    def _signed(self, answer: Message, body: bytes, secret: str) -> Message:
        timestamp = answer.headers[TIMESTAMP]
        signature = sign(secret, answer.message_id or "", int(timestamp), body)
        return replace(answer, body=body, headers={TIMESTAMP: timestamp, SIGNATURE: signature})
