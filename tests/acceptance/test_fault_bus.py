# SPDX-License-Identifier: Apache-2.0
"""Rows 29 to 36 of the fault matrix: a bus that fails, in each of its ways, with REST behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.bus_route import NAME, QUEUE, BusRoute, bus_route
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
