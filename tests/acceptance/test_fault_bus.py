# SPDX-License-Identifier: Apache-2.0
"""Rows 29 to 36 of the fault matrix: a bus that fails, in each of its ways, with REST behind it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.api import event
from tests.acceptance.bus_route import NAME, QUEUE, BusRoute, bus_route
from tests.acceptance.history import Log, check_acknowledged
from tests.acceptance.processes import QUICK
from tests.acceptance.publishers import Publisher
from tests.acceptance.waiting import until
from tests.servers.rabbitmq import RabbitNode, settled_declares

KEYS = [f"k{number}" for number in range(12)]
HOME_SWITCHES = 2
"""Away and back."""


@pytest.fixture
def route(rabbitmq: RabbitNode, tmp_path: Path) -> Iterator[BusRoute]:
    """On a node that is not harmed."""
    with bus_route(tmp_path, rabbitmq) as route:
        yield route


@pytest.fixture
def frail_route(mortal_rabbitmq: RabbitNode, tmp_path: Path) -> Iterator[BusRoute]:
    """On a node that may be killed and blocked."""
    with bus_route(tmp_path, mortal_rabbitmq) as route:
        yield route


def test_row_29_the_broker_is_killed_and_restarted(frail_route: BusRoute) -> None:
    route = frail_route
    route.publish(range(1, 6), KEYS)
    route.settle()
    settled_declares()
    gate = route.shut_gate("k0-6")
    route.publish(range(6, 8), KEYS)
    route.until_at_gate("k0-6")  # some are applied, some lie in the queue, none of these is answered for
    route.node.kill()
    gate.unlink()
    route.publish(range(8, 11), KEYS)
    route.settle()
    assert set(route.states()) == {"rest"}, route.story()

    route.node.start()
    route.until_all("bus")
    route.publish(range(11, 13), KEYS)
    route.settle()
    assert set(route.switches().values()) == {HOME_SWITCHES}, route.story()
    route.until_delivered([12], KEYS, target=0)


def test_row_30_confirms_are_lost(route: BusRoute) -> None:
    route.publish([1], KEYS)
    route.settle()
    route.receiver_cable.cut()
    route.cable.deafen()
    route.publish(range(2, 6), KEYS)  # the broker has them; nobody hears of it
    route.settle()
    assert "the broker does not confirm what it was given" in route.reasons(), route.story()
    until(lambda: route.depth >= 4 * len(KEYS), lambda: f"the old copies wait:\n{route.story()}")
    route.until_delivered(range(2, 6), KEYS, target=1)
    route.receiver_cable.restore()
    until(lambda: route.depth == 0, lambda: f"they are taken:\n{route.story()}")
    route.cable.restore()
    route.until_all("bus")
    route.publish([6], KEYS)
    route.settle()


@pytest.mark.parametrize("declare", [True, False], ids=["declared-again", "left-to-operators"])
def test_row_31_the_queue_is_deleted(rabbitmq: RabbitNode, tmp_path: Path, declare: bool) -> None:
    with bus_route(tmp_path, rabbitmq) as route:
        if not declare:
            change = {**route.relay.api.call("GET", f"/subscriptions/{NAME}").must(200)}
            change["protocolsettings"]["declare"] = False
            route.relay.api.call("PUT", f"/subscriptions/{NAME}", change).must(200)
            route.until_all("bus")
        route.publish(range(1, 4), KEYS)
        route.settle()
        with route.operator() as operator:
            operator.queue_delete(QUEUE)
            route.publish(range(4, 7), KEYS)
            route.settle()
            if declare:
                operator.queue_declare(QUEUE, passive=True)
            else:
                assert set(route.states()) & {"rest"}, route.story()
                assert any("NOT_FOUND" in one or "NO_ROUTE" in one for one in route.reasons()), route.story()
                arguments = {"x-queue-type": "quorum", "x-single-active-consumer": True}
                operator.queue_declare(QUEUE, durable=True, arguments=arguments)
                operator.queue_bind(QUEUE, "fairlead", NAME)
        route.until_all("bus")
        route.publish(range(7, 9), KEYS)
        route.settle()
        assert max(route.switches().values()) <= HOME_SWITCHES, route.story()


def test_row_32_an_alarm_blocks_publishers(frail_route: BusRoute) -> None:
    route = frail_route
    route.publish(range(1, 4), KEYS)
    route.settle()
    route.node.block_publishers()
    route.publish(range(4, 7), KEYS)
    route.settle()
    assert any("takes no messages" in one for one in route.reasons()), route.story()
    route.until_delivered([6], KEYS, target=1)
    route.node.unblock_publishers()
    route.until_all("bus")
    route.publish([7], KEYS)
    route.settle()
    assert max(route.switches().values()) == HOME_SWITCHES, route.story()


def test_row_33_the_broker_loses_a_message_in_the_middle(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    with bus_route(tmp_path, rabbitmq, timeout="60s") as route:
        route.receiver.kill()
        route.publish(range(1, 6), KEYS)
        until(lambda: route.depth == 5 * len(KEYS), lambda: f"they are in the queue:\n{route.story()}")
        with route.operator() as thief:
            thief.basic_qos(prefetch_count=100)
            for number, (method, _, _) in enumerate(thief.consume(QUEUE), start=1):
                if number in (14, 31):  # those of another resource, of another
                    thief.basic_ack(method.delivery_tag)
                if number == 5 * len(KEYS):
                    break
        until(lambda: route.depth == 5 * len(KEYS) - 2, "all but two are there again")

        route.receiver.start()
        route.settle()
        assert set(route.switches().values()) == {0}, route.story()
        route.until_delivered(range(1, 6), KEYS, target=0)  # what was lost was published again
        assert "lost" in route.receiver.said or "missing" in route.receiver.said, route.receiver.said


def test_row_34_the_relay_is_cut_off_and_the_receiver_is_not(route: BusRoute) -> None:
    route.publish(range(1, 4), KEYS)
    route.settle()
    route.receiver_cable.cut()
    route.publish(range(4, 7), KEYS)
    until(lambda: route.depth >= 3 * len(KEYS), lambda: f"copies wait in the queue:\n{route.story()}")
    route.cable.cut()
    route.settle()  # the same events, over REST
    route.until_delivered((4, 5, 6), KEYS, target=1)
    route.publish(range(7, 9), KEYS)
    route.settle()
    before = route.applied
    route.receiver_cable.restore()
    until(lambda: route.depth == 0, lambda: f"the stale copies are taken:\n{route.story()}")
    assert route.applied == before, "and ignored"
    route.cable.restore()
    route.until_all("bus")
    route.publish([9], KEYS)
    route.settle()


def test_row_35_a_bus_that_flaps_costs_few_switches(route: BusRoute) -> None:
    flaps = 8
    for number in range(1, flaps + 1):
        route.cable.cut()
        route.publish([number], KEYS)
        route.until_applied((2 * number - 1) * len(KEYS))
        route.cable.restore()
        route.publish([flaps + number], [f"x{one}" for one in KEYS])
        route.until_applied(2 * number * len(KEYS))
    route.settle()
    assert 1 <= max(route.switches().values()) <= 6, f"a flap costs two at most:\n{route.story()}"
    route.until_all("bus")


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_row_35_a_bus_that_flaps_every_5_seconds_for_10_minutes(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    pause = threading.Event()

    def batches() -> Iterator[list[dict[str, Any]]]:
        number = 0
        while not publisher.ended.wait(0.1):
            number += 1
            yield [event(number, key) for key in KEYS]

    with bus_route(tmp_path, rabbitmq, config=QUICK, timeout="15s") as route:
        publisher = Publisher(route.relay.port, batches())
        publisher.start()
        try:
            for _ in range(60):  # each 10 s; the time is the fault
                route.cable.cut()
                pause.wait(5)
                route.cable.restore()
                pause.wait(5)
        finally:
            publisher.stop()
        route.settle()
        check_acknowledged(publisher.acknowledged, Log.read(route.relay.api))
        print(f"{len(publisher.acknowledged)} events, switches of the channels {route.switches()}")
        assert max(route.switches().values()) <= 6, route.story()


def test_row_36_the_way_back_waits_for_a_slow_request(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    with bus_route(tmp_path, rabbitmq, timeout="60s") as route:
        neighbour = a_key_beside(route, "k1")
        route.cable.cut()
        route.until_all("rest")
        gate = route.shut_gate("k1-2")
        route.publish([2])
        route.until_at_gate("k1-2")
        route.cable.restore()
        until(lambda: route.states() == {"bus": 7, "drain": 1}, lambda: f"one waits:\n{route.story()}")
        before = route.applied
        route.publish([3])
        route.publish([3], [neighbour])
        assert route.applied == before, "while it waits nothing overtakes"
        assert route.depth == 0
        assert route.states() == {"bus": 7, "drain": 1}

        gate.unlink()
        route.until_all("bus")
        route.settle()
        route.until_delivered([3], ["k1", neighbour], target=0)
        route.until_delivered([2], ["k1"], target=1)


def test_row_36_the_way_back_waits_no_longer_than_the_deadline(route: BusRoute) -> None:
    route.cable.cut()
    route.until_all("rest")
    gate = route.shut_gate("k1-1")
    route.publish([1, 2])
    route.until_at_gate("k1-1")
    route.cable.restore()
    route.until_all("bus")  # the request has ended by its deadline; its handler has not
    route.publish([3])
    gate.unlink()
    route.settle()  # and took effect once, late


def a_key_beside(route: BusRoute, key: str) -> str:
    """Another key of the same partition; an event of each is published."""
    wanted = route.relay.api.publish(event(1, key))[0]["partition"]
    number = 0
    while route.relay.api.publish(event(1, f"beside-{number}"))[0]["partition"] != wanted:
        number += 1
    route.settle()
    return f"beside-{number}"
