# SPDX-License-Identifier: Apache-2.0
"""OpenStack notifications from RabbitMQ: from queues beside the driver, and from one queue for all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.processes import RelayProcess
from tests.acceptance.queues import Sender, source, states, taking
from tests.acceptance.waiting import until
from tests.contract.openstack import Service
from tests.servers.rabbitmq import RabbitNode, RabbitNodes

QUEUES = ("info", "error")
DURABLE = "[oslo_messaging_rabbit]\namqp_durable_queues = true\n"


@pytest.fixture
def service(tmp_path: Path) -> Service:
    (tmp_path / "relay").mkdir()
    return Service(tmp_path)


def transport(node: RabbitNode, vhost: str) -> str:
    return f"rabbit://guest:guest@127.0.0.1:{node.port}/{vhost}"


def numbers(relay: RelayProcess) -> list[int]:
    items = relay.api.items("/events", key="k")
    return [item["event"]["data"]["payload"]["number"] for item in items]


@pytest.mark.parametrize("envelope", ["messaging", "messagingv2"])
def test_what_comes_by_the_driver_and_from_the_queues_is_there_once_and_in_order(
    rabbitmq: RabbitNode, service: Service, envelope: str
) -> None:
    vhost = rabbitmq.add_vhost()
    sources = [source(rabbitmq.url(vhost), f"notifications.{one}", one, format="oslo") for one in QUEUES]
    with taking(service.place / "relay", *sources) as relay:
        service.configure(
            drivers=f"{envelope} fairlead", transport=transport(rabbitmq, vhost),
            url=f"http://127.0.0.1:{relay.port}", outbox=str(service.outbox),
        )  # fmt: skip
        said, log = service.run("plain", "k", 60)
        assert said[-1] == "left 0"
        assert "refused" not in log

        def from_queues() -> int:
            return sum(one["accepted"] + one["duplicates"] for one in states(relay.api).values())

        until(lambda: from_queues() == 60, lambda: f"every message is taken: {states(relay.api)}")
        assert numbers(relay) == list(range(60))
        assert list(relay.api.items("/rejects")) == []


def test_one_queue_for_all_priorities_has_one_order_and_outlives_the_broker(
    rabbitmq_nodes: RabbitNodes, service: Service
) -> None:
    node = rabbitmq_nodes.node()
    with Sender(node, "%2F").channel() as channel:
        channel.exchange_declare("openstack", "topic", durable=True)
        channel.queue_declare("fairlead", durable=True)
        channel.queue_bind("fairlead", "openstack", "notifications.*")
    service.configure(drivers="messagingv2", transport=transport(node, ""), more=DURABLE)
    with service.start("steps", "k", 30, 30) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        told = process.stdout
        until(lambda: told.readline() == "step 30\n", "half of them are sent")
        node.restart()
        process.stdin.write("\n")
        process.stdin.flush()
        until(lambda: told.readline() == "step 60\n", "the others too")
        process.kill()
    with taking(service.place / "relay", source(node.url("%2F"), "fairlead", format="oslo")) as relay:
        until(lambda: len(numbers(relay)) >= 60, lambda: f"they are taken: {states(relay.api)}")
        assert numbers(relay) == list(range(60))
