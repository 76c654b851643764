# SPDX-License-Identifier: Apache-2.0
"""The people around a relay: they skip, retry, replay, change filters, make things anew, at any moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, TypeVar

from fairlead.core.channel import ChannelId, ReplayFrom, Skip
from fairlead.core.policy import ANYONE
from fairlead.core.retry import RetryPolicy
from fairlead.core.subscription import (
    BatchOptions,
    DeliveryOptions,
    Matching,
    Secrets,
    Start,
    Subscription,
    Target,
)
from fairlead.engine.commands.operating import LaneState
from fairlead.engine.commands.replaying import ReplayRequest
from fairlead.engine.node import Node
from fairlead.errors import FairleadError
from fairlead.testing.simulation.clock import BEGIN
from fairlead.testing.simulation.configurations import Configuration, Operation

if TYPE_CHECKING:
    from fairlead.testing.simulation.world import World

_T = TypeVar("_T")
NAME = "sim"
SINK = "http://127.0.0.1:3248/hook"
TIMEOUT_SECONDS = 1.0
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  # of no other world


def subscription_of(configuration: Configuration, kinds: int, start: Start) -> Subscription:
    """The subscription of a world, to events of some kinds (a mask: 1, 2 or 3)."""
    batch = BatchOptions(max_events=configuration.batch) if configuration.batch > 1 else None
    library = configuration.receiver in ("lib", "split", "ext")
    options = DeliveryOptions(
        retry=RetryPolicy(
            first_seconds=0.1,
            max_seconds=1.0,
            max_attempts=configuration.attempts,
            give_up_after_seconds=None,
        ),
        on_exhausted=configuration.exhausted,
        concurrency=6,
        batch=batch,
        timeout_seconds=TIMEOUT_SECONDS,
        ack_persist="lazy" if configuration.lazy else "before_next",
        receiver="library" if library else "plain",
        settles=configuration.settles if configuration.bus else None,
        failover=configuration.failover,
    )
    return Subscription(
        id=NAME, matching=matching_of(kinds), targets=targets_of(configuration), options=options,
        secrets=Secrets(SECRET), start=start,
    )  # fmt: skip


def targets_of(configuration: Configuration) -> tuple[Target, ...]:
    """Where a world's subscription sends to, in order of preference."""
    settings = {
        "exchange": "fairlead", "routing_key": NAME, "queue": "", "address": "", "addresses": [],
        "shards": configuration.shards, "mode": "structured", "declare": True,
    }  # fmt: skip
    bus = Target("amqp://127.0.0.1:5672", "AMQP", settings=settings)
    return tuple(bus if kind == "bus" else Target(SINK) for kind in configuration.route)


def matching_of(kinds: int) -> Matching:
    """The filter that passes the kinds of a mask."""
    return Matching() if kinds == 3 else Matching(types=(f"org.example.{kinds}",))


class Operators:
    """Whoever calls the API; one call at a time."""

    def __init__(self, world: World, random: Random) -> None:
        self._world = world
        self._random = random
        self._kinds = 3

    async def subscribe(self, start: Start, kinds: int) -> None:
        """Make the subscription, until it is there."""
        world = self._world
        world.checker.made_anew(kinds)
        wanted = subscription_of(world.configuration, kinds, start)
        self._kinds = kinds
        while True:
            try:
                await self._call(lambda node: node.subscribing.create(ANYONE, wanted))
                return
            except ConnectionError:
                await world.pause(0.2)
            except FairleadError as error:
                if "already" in str(error):
                    return
                await world.pause(0.2)

    async def act(self, what: Operation) -> None:
        """Do one thing, whatever comes of it."""
        world = self._world
        world.say(f"operator: {what}")
        try:
            await self._act(what)
        except (FairleadError, ConnectionError) as error:
            world.say(f"operator: {what}: {type(error).__name__} {error}")

    async def _act(self, what: Operation) -> None:
        match what:
            case "skip":
                await self._skip()
            case "retry" | "release":
                await self.put_right(what)
            case "filter":
                await self._filter()
            case "recreate":
                await self._recreate()
            case "pause":
                await self._pause()
            case "options":
                await self._options()
            case "undo":
                await self._undo()
            case "far-replay" | "far-replay-key" | "far-skip" | "far-release":
                await self._far(what)
            case _:
                await self._replay(what)

    async def put_right(self, what: str, state: LaneState | None = None) -> None:
        """Retry or release all lanes of a state, or some."""
        random = self._random
        state = state or random.choice(("held", "parked"))
        if what == "retry":
            await self._call(lambda node: node.operating.retry(ANYONE, NAME, state=state))
        else:
            await self._call(lambda node: node.operating.release(ANYONE, NAME, state=state))

    async def put_all_right(self) -> None:
        """Resume what was stopped, release what was parked: no more, or what stands still would be moved."""
        for found, work in (
            (
                "SELECT 1 FROM subscription WHERE state <> 'active'",
                lambda node: node.subscribing.resume(ANYONE, NAME),
            ),
            (
                "SELECT 1 FROM hold WHERE state = 'parked'",
                lambda node: node.operating.release(ANYONE, NAME, state="parked"),
            ),
        ):
            try:
                if self._world.rows(found):
                    await self._call(work)
            except (FairleadError, ConnectionError) as error:
                self._world.say(f"operator: {type(error).__name__} {error}")

    async def _skip(self) -> None:
        holds = self._world.rows("SELECT partition, key, head_pos FROM hold ORDER BY partition, key")
        if not holds:
            return
        partition, key, head = self._random.choice(holds)
        in_lane = "SELECT pos FROM log WHERE partition = ? AND key = ? AND pos >= ? ORDER BY pos"
        lane = self._world.rows(in_lane, partition, key, head)
        position = lane[0][0] if lane else head
        if self._random.random() < 0.2:
            position += self._random.choice((-1, 1))
        await self._call(
            lambda node: node.operating.skip(ANYONE, NAME, key=key, position=position, reason="simulated")
        )

    async def _undo(self) -> None:
        skips = self._world.rows("SELECT partition, key, pos FROM skip ORDER BY partition, pos")
        if skips:
            partition, key, position = self._random.choice(skips)
            if self._world.switches.undo_alone:
                self._undo_alone(partition, key, position)
                return
            await self._send_back(ReplayRequest(position=(partition, position), key=key))

    def _undo_alone(self, partition: int, key: str, position: int) -> None:
        """The mutant: take the skip from the record, and let the lane's hold begin there."""
        world = self._world
        head = world.checker.channels[partition].holds.get(key, position)
        place = (NAME, partition)
        world.connection.execute("BEGIN IMMEDIATE")
        for sql, more in (
            ("DELETE FROM skip WHERE subscription = ? AND partition = ? AND pos = ?", (position,)),
            ("DELETE FROM hold WHERE subscription = ? AND partition = ? AND key = ?", (key,)),
            (
                "INSERT INTO hold (subscription, partition, key, head_pos, attempt, ready_at, state, since) "
                "VALUES (?, ?, ?, ?, 0, 0, 'held', 0)",
                (key, min(position, head)),
            ),
            ("UPDATE channel SET epoch = epoch + 1 WHERE subscription = ? AND partition = ?", ()),
        ):
            world.connection.execute(sql, (*place, *more))
        world.connection.execute("COMMIT")

    async def _filter(self) -> None:
        await self.set_filter(self._random.choice((1, 2, 3)))

    async def set_filter(self, kinds: int) -> None:
        """Change what is wanted to the kinds of a mask."""
        world = self._world
        found = await self._call(lambda node: node.subscribing.get(ANYONE, NAME))
        world.checker.filter_asked(kinds)
        put = await self._call(
            lambda node: node.subscribing.create(
                ANYONE, replace(found, matching=matching_of(kinds)), replace=True
            )
        )
        world.say(f"filter {kinds} {'pending' if put.pending else 'in force'}")
        if not put.pending:
            self._kinds = kinds
            world.checker.filter_in_force(kinds)

    async def _pause(self) -> None:
        """For a while, in which other things are done."""
        await self._call(lambda node: node.subscribing.pause(ANYONE, NAME))
        for _ in range(self._random.choice((0, 1, 2))):
            await self.act(self._random.choice(self._world.configuration.operations))
        await self._world.pause(self._random.random() * 2)
        await self._call(lambda node: node.subscribing.resume(ANYONE, NAME))

    async def _options(self) -> None:
        """Change something that needs no filter: the request, say."""
        found = await self._call(lambda node: node.subscribing.get(ANYONE, NAME))
        options = replace(found.options, concurrency=self._random.choice((1, 2, 6)))
        await self._call(
            lambda node: node.subscribing.create(ANYONE, replace(found, options=options), replace=True)
        )

    async def _recreate(self) -> None:
        await self._call(lambda node: node.subscribing.delete(ANYONE, NAME))
        start = Start(self._random.choice(("now", "beginning")))
        kinds = self._random.choice((1, 2, 3)) if self._world.configuration.filters else 3
        await self.subscribe(start, kinds)

    async def _replay(self, what: Operation) -> None:
        world, random = self._world, self._random
        everything = "SELECT partition, pos, key, source, id, accepted_at FROM log ORDER BY partition, pos"
        log = world.rows(everything)
        if not log:
            return
        partition, position, key, source, id, accepted_at = random.choice(log)
        request = ReplayRequest(position=(partition, position))
        if what == "replay-key":
            request = replace(request, key=key)
        elif what == "replay-time":
            request = ReplayRequest(time=accepted_at, key=random.choice((None, key)))
        elif what == "replay-event":
            request = ReplayRequest(event=(source, id), key=random.choice((None, key)))
        await self._send_back(request)

    async def _far(self, what: Operation) -> None:
        """What an operator does by another node of a shared store: the owner meets it at its next write."""
        world, now = self._world, BEGIN + self._world.loop.time()
        lanes = world.rows(
            "SELECT partition, key, head_pos FROM hold WHERE state <> 'slow' ORDER BY partition, key"
        )
        log = world.rows("SELECT partition, key, pos, source, id FROM log ORDER BY partition, pos")
        if what in ("far-replay", "far-replay-key") and log:
            partition, key, position, _, _ = self._random.choice(log)
            start = ReplayFrom(partition, position, key if what == "far-replay-key" else None)
            generation = int(now * 1000)
            fences = await self._call(lambda node: node.store.channels.replay(NAME, [start], generation))
            world.say(f"far away: replayed {fences}")
        elif lanes:
            partition, key, head = self._random.choice(lanes)
            channel = ChannelId(NAME, partition)
            if what == "far-release":
                await self._call(lambda node: node.store.channels.release(channel, [key], None, now))
                return
            in_lane = [row for row in log if row[:2] == (partition, key) and row[2] >= head]
            if in_lane:
                _, _, position, source, id = in_lane[0]
                skip = Skip(key, position, source, id, "operator", "far away", now)
                await self._call(lambda node: node.store.channels.skip(channel, skip, head, now))

    async def _send_back(self, request: ReplayRequest) -> None:
        replayed = await self._call(lambda node: node.operating.replay(ANYONE, NAME, request))
        self._world.say(f"replayed {replayed}")
        stretches = [(one.partition, one.first, one.last) for one in replayed.channels]
        self._world.checker.replayed(replayed.generation, stretches, request.key)

    async def _call(self, work: Callable[[Node], Awaitable[_T]]) -> _T:
        relay = self._world.owner
        node = None if relay is None else relay.node
        if relay is None or node is None:
            raise ConnectionError("no relay serves")
        return await relay.call(lambda: work(node))
