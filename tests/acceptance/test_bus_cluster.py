# SPDX-License-Identifier: Apache-2.0
"""Three nodes of one cluster: one that dies is not worth a switch, two are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.api import event
from tests.acceptance.bus_route import BusRoute, bus_route
from tests.acceptance.history import Log, check_acknowledged
from tests.acceptance.processes import QUICK
from tests.acceptance.publishers import Publisher
from tests.servers.rabbitmq import RabbitNode, RabbitNodes, settled_declares

PATIENT = f'{QUICK}\n[failover]\nreturn_after = "2s"\nprobe_every = "1s"\n'
"""To leave as late as it does by default, and to come back soon."""

KEYS = [f"k{number}" for number in range(20)]


@pytest.fixture(scope="module")
def one_cluster() -> Iterator[list[RabbitNode]]:
    """Half a minute."""
    nodes = RabbitNodes()
    try:
        yield nodes.cluster()
    finally:
        nodes.stop()


@pytest.fixture
def cluster(one_cluster: list[RabbitNode]) -> list[RabbitNode]:
    """All three run, whatever a test before has done to them."""
    dead = [node for node in one_cluster if not node.runs]
    for node in dead:
        node.begin()
    for node in dead:
        node.ready()
    return one_cluster


@pytest.fixture
def route(cluster: list[RabbitNode], tmp_path: Path) -> Iterator[BusRoute]:
    """The relay is connected to the first node, where its queue's leader is."""
    first, *others = cluster
    with bus_route(tmp_path, first, config=PATIENT, others=others, timeout="60s") as route:
        settled_declares()
        yield route


def test_a_cluster_that_loses_its_leader_needs_no_switch_to_rest(
    route: BusRoute, cluster: list[RabbitNode]
) -> None:
    batches = ([event(number, key) for key in KEYS] for number in range(1, 101))
    publisher = Publisher(route.relay.port, batches).start()
    try:
        route.until_applied(5 * len(KEYS))
        assert route.leader() == cluster[0].name
        cluster[0].kill()
        publisher.finish()
        route.settle()
        check_acknowledged(publisher.acknowledged, Log.read(route.relay.api))
        assert set(route.switches().values()) == {0}, route.story()
        route.until_delivered(range(1, 101), KEYS, target=0)
    finally:
        publisher.stop()


def test_a_cluster_without_a_majority_is_left_for_rest(route: BusRoute, cluster: list[RabbitNode]) -> None:
    route.publish([1], KEYS)
    route.settle()
    for node in cluster[1:]:
        node.kill()
    route.publish(range(2, 5), KEYS)
    route.settle()
    route.until_delivered([4], KEYS, target=1)
    cluster[1].start()  # two of three are enough
    route.until_all("bus")
    route.publish([5], KEYS)
    route.settle()
