# SPDX-License-Identifier: Apache-2.0
"""The simulated broker by itself: what it promises while it is well, and what it does when it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from random import Random

from fairlead.core.answer import AnswerDocument, parse_answer
from fairlead.core.channel import ChannelId, Fence
from fairlead.core.event import Event
from fairlead.core.log import Entry
from fairlead.core.subscription import Start
from fairlead.drivers.amqp.message import Message
from fairlead.ports import Delivery, Parcel, Published
from fairlead.testing.simulation.broker import FINE, BrokerWeather, SimulatedBroker
from fairlead.testing.simulation.bus import SimulatedBus, SimulatedLink, queue_name
from fairlead.testing.simulation.clock import BEGIN, SimulatedClock
from fairlead.testing.simulation.configurations import CONFIGURATIONS
from fairlead.testing.simulation.consumers import Consumer
from fairlead.testing.simulation.inbox import SimulatedInbox
from fairlead.testing.simulation.loop import Process, SimulatedLoop
from fairlead.testing.simulation.operators import NAME, SECRET, subscription_of
from fairlead.testing.simulation.outlet import Outlet
from fairlead.testing.simulation.receivers import Handler, LibraryReceiver, Temper

SUBSCRIPTION = subscription_of(CONFIGURATIONS["bus"], 3, Start("beginning"))
QUEUE = queue_name(NAME, 0)
KEYS = 3


def position_of(message: Message) -> str:
    """The end of its id."""
    return (message.message_id or "").rpartition("_")[2]


class Scene:
    """A broker, a relay's bus with one link, and what it was told."""

    def __init__(self, seed: int = 1) -> None:
        self.random = Random(seed)
        self.loop = SimulatedLoop(Random(seed), orderly=True)  # type: ignore[abstract]
        self.broker = SimulatedBroker(self.loop, Random(seed), lambda what: None)
        self.broker.weather = FINE
        self.process = Process("relay")
        self.bus = SimulatedBus(
            self.broker,
            self.loop,
            self.process,
            SimulatedClock(self.loop),
            Random(seed),
            node="one",
            name="relay",
        )
        self.told: dict[int, list[str]] = {}
        self.answers: list[AnswerDocument] = []
        self.changes: list[bool] = []
        self.applied: list[int] = []
        self.links: list[SimulatedLink] = []

    @property
    def link(self) -> SimulatedLink:
        return self.links[-1]

    def play(self, story: Callable[[Scene], Awaitable[None]]) -> None:
        """Tell a story once the link is up."""
        self.loop.run(self._play(story))
        assert not self.loop.defects

    async def _play(self, story: Callable[[Scene], Awaitable[None]]) -> None:
        self.loop.later(self.process, 0.0, self._connect)
        await self.until(lambda: self.links and self.link.health.up)
        await story(self)

    def _connect(self) -> None:
        self.bus.listen(self.hear)
        self.links.append(self.bus.link(SUBSCRIPTION, SUBSCRIPTION.targets[0], self._changed))

    def _changed(self) -> None:
        self.changes.append(self.link.health.up)

    async def hear(self, headers: Mapping[str, str], body: bytes) -> None:
        self.answers.append(parse_answer(body))

    async def until(self, condition: Callable[[], object]) -> None:
        for _ in range(4000):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it never came to that")

    def publish(self, position: int, *, prev: int = 0, epoch: int = 1) -> None:
        """One event of key k(position mod KEYS)."""
        self.told[position] = []
        self.loop.later(self.process, 0.0, self._publish, position, prev, epoch)

    def _publish(self, position: int, prev: int, epoch: int) -> None:
        about = {
            "specversion": "1.0", "id": f"e-{position}", "source": "/sim", "type": "org.example.1",
            "subject": f"k{position % KEYS}",
        }  # fmt: skip
        event = Event.of(about, b"{}", "json")
        entry = Entry(0, position, event.key, event, 0.0)
        fence = Fence(ChannelId(NAME, 0), 1, 1, epoch)
        delivery = Delivery(
            SUBSCRIPTION, SUBSCRIPTION.targets[0], fence, 0, (Parcel(entry, prev),), seq=position
        )

        def done(published: Published) -> None:
            self.told[position].append(published.kind)

        self.link.publish(delivery, done)

    def consumer(self, number: int, temper: Temper, inbox: SimulatedInbox) -> Consumer:
        """A process of the receiver."""
        handler = Handler(Random(number), temper, lambda stamps, key: self.applied.append(stamps.pos))
        consumer = Consumer(
            LibraryReceiver(handler, inbox), self.broker, self.loop, Random(number), queue=QUEUE,
            name=f"receiver-{number}", secrets=[SECRET], joined=False, post=lambda answer: None,
        )  # fmt: skip
        consumer.start()
        return consumer

    def inbox(self) -> SimulatedInbox:
        return SimulatedInbox(lambda: BEGIN + self.loop.time())


def test_what_is_published_is_confirmed_and_stands_in_the_queue_in_order() -> None:
    async def story(scene: Scene) -> None:
        for position in range(1, 6):
            scene.publish(position)
        await scene.until(lambda: all(scene.told.values()))
        assert set(map(tuple, scene.told.values())) == {("confirmed",)}
        assert [position_of(one) for one in scene.broker.queues[QUEUE].messages] == list("12345")
        assert await scene.link.depth(0) == 5

    Scene().play(story)


def test_a_queue_that_is_gone_is_told_and_made_again() -> None:
    async def story(scene: Scene) -> None:
        scene.broker.delete(QUEUE)
        scene.publish(1)
        await scene.until(lambda: scene.told[1])
        assert scene.told[1] == ["unroutable"]
        await scene.until(lambda: scene.link.health.up)
        scene.publish(2)
        await scene.until(lambda: scene.told[2])
        assert scene.told[2] == ["confirmed"]
        assert scene.changes[-2:] == [False, True]

    Scene().play(story)


def test_a_blocked_broker_says_nothing_and_then_all_of_it() -> None:
    async def story(scene: Scene) -> None:
        scene.broker.blocked = True
        scene.broker.tell()
        await scene.until(lambda: not scene.link.health.up)
        assert "block" in scene.link.health.detail
        scene.publish(1)
        await asyncio.sleep(5)
        assert scene.told[1] == []
        scene.broker.blocked = False
        scene.broker.tell()
        await scene.until(lambda: scene.told[1])
        assert scene.told[1] == ["confirmed"]

    Scene().play(story)


def test_what_a_dead_relay_has_written_may_land() -> None:
    landed = set()
    for seed in range(20):
        scene = Scene(seed)

        async def story(scene: Scene) -> None:
            for position in range(1, 4):
                scene.publish(position)
            await asyncio.sleep(0.001)
            scene.loop.kill(scene.process)
            scene.bus.die()
            await asyncio.sleep(1)
            landed.add(scene.broker.depth(QUEUE))
            assert not any(scene.told.values())

        scene.play(story)
    assert landed == {0, 1, 2, 3}


def test_every_publish_is_told_of_once_however_the_connection_ends() -> None:
    kinds: set[str] = set()
    for seed in range(30):
        scene = Scene(seed)

        async def story(scene: Scene) -> None:
            scene.broker.weather = BrokerWeather(refused=0.1)
            for position in range(1, 10):
                scene.publish(position)
                await asyncio.sleep(0.01)
            scene.broker.cut_off.add("relay")
            scene.broker.tell()
            scene.publish(10)
            await asyncio.sleep(5)

        scene.play(story)
        assert all(len(told) == 1 for told in scene.told.values())
        kinds |= {told[0] for told in scene.told.values()}
        assert scene.told[10] == ["lost"]
    assert kinds == {"confirmed", "refused", "lost"}


def test_the_receivers_answers_reach_the_node_even_after_its_restart() -> None:
    async def story(scene: Scene) -> None:
        scene.consumer(1, Temper(fails=0.0, dies=0.0), scene.inbox())
        for position in (1, 2, 3, 4):
            scene.publish(position, prev=position - KEYS if position > KEYS else 0)
        await scene.until(lambda: len(scene.answers) == 4)
        assert [
            (one.seq, one.result, one.applied) for one in sorted(scene.answers, key=lambda a: a.seq or 0)
        ] == [(number, "applied", number) for number in (1, 2, 3, 4)]
        scene.bus.disconnect()
        await asyncio.sleep(0)
        assert scene.broker.depth(scene.bus.reply_to) == 0
        scene.publish(5)

    Scene().play(story)


def test_a_ghost_goes_on_with_what_the_next_process_has_too() -> None:
    """With the chain nothing is applied twice, whoever comes first."""
    doubled = 0
    for seed in range(20):
        scene = Scene(seed)

        async def story(scene: Scene) -> None:
            inbox = scene.inbox()
            consumers = [scene.consumer(number, Temper(fails=0.0, dies=0.0), inbox) for number in (1, 2)]
            for position in range(1, 13):
                scene.publish(position, prev=max(0, position - KEYS))
            for count in (1, 4, 7):
                await scene.until(lambda count=count: len(scene.applied) >= count)  # type: ignore[misc]
                for consumer in consumers:
                    consumer.disconnect()
            await scene.until(lambda: len(scene.applied) == 12)
            await asyncio.sleep(2)

        scene.play(story)
        assert sorted(scene.applied) == list(range(1, 13))
        doubled += sum(one.result == "duplicate" for one in scene.answers)
    assert doubled


def test_no_consumer_has_more_than_its_prefetch() -> None:
    async def story(scene: Scene) -> None:
        given: list[Message] = []
        outlet = Outlet(3, given.append)
        for position in range(1, 8):
            scene.publish(position)
        await scene.until(lambda: scene.broker.depth(QUEUE) == 7)
        scene.broker.listen(QUEUE, outlet)
        assert len(given) == 3
        outlet.ack(given[1])
        assert len(given) == 4
        outlet.close()
        positions = [position_of(one) for one in scene.broker.queues[QUEUE].messages]
        assert positions == list("134567")

    Scene().play(story)


def test_a_publish_loop_that_only_repeats_what_is_unanswered_gets_everything_through() -> None:
    """The simplest relay there is, one event of a key at a time, against a broker in bad weather."""
    for seed in range(20):
        scene = Scene(seed)

        async def story(scene: Scene) -> None:
            scene.broker.weather = BrokerWeather(
                lost=0.2, repeated=0.2, requeued=0.2, lost_answer=0.2, forged=0.0
            )
            inbox = scene.inbox()
            for number in (1, 2):
                scene.consumer(number, Temper(fails=0.1, dies=0.05), inbox)
            for position in range(1, 8):
                while not any(one.applied == position for one in scene.answers):
                    scene.publish(position, epoch=len(scene.told))
                    await asyncio.sleep(1)

        scene.play(story)
        assert scene.applied == list(range(1, 8))
