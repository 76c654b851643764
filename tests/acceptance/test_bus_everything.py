# SPDX-License-Identifier: Apache-2.0
"""20,000 events over 200 resources while the bus fails in every way: all of it arrives, in order, once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.api import event
from tests.acceptance.bus_route import NAME, QUEUE, BusRoute, bus_route
from tests.acceptance.history import Log, check_acknowledged
from tests.acceptance.publishers import Publisher
from tests.acceptance.waiting import until
from tests.servers.rabbitmq import RabbitNode, settled_declares

KEYS, EVENTS_OF_A_KEY = 200, 100
PUBLISHERS, BATCH = 4, 10
FLAPS = 5
FAIL = 0.02
MOST_SWITCHES = 2
"""Of a channel, in one outage; flapping counts as two."""


class Flow:
    """Publishers that go as far as they are allowed to, so that each fault meets events under way."""

    def __init__(self, route: BusRoute, stages: int) -> None:
        self._route = route
        self._stages = stages
        self._gates = [threading.Event() for _ in range(stages)]
        self.publishers = [Publisher(route.relay.port, self._batches(one)) for one in range(PUBLISHERS)]
        self._before = 0

    def _batches(self, publisher: int) -> Iterator[list[dict[str, Any]]]:
        keys = [f"stack-{number}" for number in range(publisher, KEYS, PUBLISHERS)]
        for number in range(1, EVENTS_OF_A_KEY + 1):
            self._gates[(number - 1) * self._stages // EVENTS_OF_A_KEY].wait()
            for first in range(0, len(keys), BATCH):
                yield [event(number, key) for key in keys[first : first + BATCH]]

    def open(self, stage: int) -> None:
        """Let them publish the events of one stage more; back when some of these are applied."""
        before = self._route.applied
        self._gates[stage].set()
        self._route.until_applied(before + KEYS)

    def __enter__(self) -> Flow:
        for publisher in self.publishers:
            publisher.start()
        return self

    def __exit__(self, *_: object) -> None:
        for publisher in self.publishers:
            publisher.ended.set()
        for gate in self._gates:
            gate.set()
        for publisher in self.publishers:
            publisher.stop()

    def finish(self) -> None:
        """Wait until all is accepted."""
        for publisher in self.publishers:
            publisher.finish()


class Faults:
    """What is done to the bus; each is over when the block ends."""

    def __init__(self, route: BusRoute) -> None:
        self._route = route

    @contextmanager
    def the_node_is_killed(self) -> Iterator[None]:
        self._route.node.kill()
        yield
        self._route.node.start()

    @contextmanager
    def the_queue_is_deleted(self) -> Iterator[None]:
        with self._route.operator() as operator:
            operator.queue_delete(QUEUE)
        yield

    @contextmanager
    def publishers_are_blocked(self) -> Iterator[None]:
        self._route.node.block_publishers()
        yield
        self._route.node.unblock_publishers()

    @contextmanager
    def the_relay_is_cut_off(self) -> Iterator[None]:
        self._route.cable.cut()
        yield
        self._route.cable.restore()

    @contextmanager
    def it_flaps(self) -> Iterator[None]:
        for _ in range(FLAPS):
            self._route.cable.cut()
            self._some_more()
            self._route.cable.restore()
            self._some_more()
        yield

    def _some_more(self) -> None:
        route, enough = self._route, self._route.applied + KEYS // 4
        until(lambda: route.applied >= enough or route.relay.api.drained(NAME), route.story)

    @contextmanager
    def the_relay_is_killed_during_a_switch(self) -> Iterator[None]:
        self._route.cable.cut()
        until(lambda: {"rest", "suspect"} & set(self._route.states()), "channels leave the bus")
        self._route.relay.restart()
        yield
        self._route.cable.restore()


@pytest.mark.timeout(290)
def test_everything_arrives_in_order_however_the_bus_fails(
    mortal_rabbitmq: RabbitNode, tmp_path: Path
) -> None:
    with bus_route(tmp_path, mortal_rabbitmq, fail=FAIL) as route:
        settled_declares()
        faults = Faults(route)
        outages = [
            faults.the_node_is_killed,
            faults.the_queue_is_deleted,
            faults.publishers_are_blocked,
            faults.the_relay_is_cut_off,
            faults.it_flaps,
            faults.the_relay_is_killed_during_a_switch,
        ]
        begun: dict[str, float] = {}
        over_rest = [outages[0], outages[2], outages[3], outages[5]]
        with Flow(route, 2 * len(outages) + 1) as flow:
            for stage, outage in enumerate(outages):
                route.until_all("bus")
                flow.open(2 * stage)
                begun[outage.__name__.replace("_", " ")] = time.time()
                with outage():
                    flow.open(2 * stage + 1)
                    if outage in over_rest:
                        route.until_any("rest")
                most = max(route.switches().values())
                assert most <= MOST_SWITCHES * (stage + 2), f"{most} switches of a channel:\n{route.story()}"
            flow.open(2 * len(outages))
            flow.finish()
            route.settle()
        report(route, begun)
        log = Log.read(route.relay.api)
        assert len(log.places) == KEYS * EVENTS_OF_A_KEY
        for publisher in flow.publishers:
            check_acknowledged(publisher.acknowledged, log)
        assert list(route.relay.api.items(f"/subscriptions/{NAME}/skips")) == []
        route.until_all("bus")


def report(route: BusRoute, begun: dict[str, float]) -> None:
    """Say how long after each fault the first event went over REST; nothing is asserted of it."""
    over_rest = [
        datetime.fromisoformat(one["started_at"]).timestamp()
        for one in route.relay.api.items(f"/subscriptions/{NAME}/attempts", outcome="delivered")
        if one["target"] == 1
    ]
    ends = [*list(begun.values())[1:], time.time()]
    for (name, start), end in zip(begun.items(), ends, strict=True):
        within = [at - start for at in over_rest if start <= at < end]
        first = f"first over REST {min(within):.2f} s later" if within else "REST was not needed"
        print(f"{name}: {first}, {len(within)} events over REST until the next")
