# SPDX-License-Identifier: Apache-2.0
"""OpenStack's notifications from the queues in which oslo.messaging's own driver leaves them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.queues import Sender, source, states, taken, taking, until_state
from tests.acceptance.waiting import until
from tests.servers.rabbitmq import RabbitNode

SERVICE_SECONDS = 120.0
QUEUES = ("info", "error")


def notify(node: RabbitNode, vhost: str, driver: str, *sends: tuple[str, str, dict[str, object]]) -> None:
    """What a service sends; it declares the queues itself, as every service does."""
    options = {"url": f"rabbit://guest:guest@127.0.0.1:{node.port}/{vhost}", "driver": driver, "sends": sends}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.acceptance.oslo_service", json.dumps(options)],
        capture_output=True,
        text=True,
        check=False,
        timeout=SERVICE_SECONDS,
    )
    assert done.stdout.endswith("sent\n"), done.stderr


def life(instance: str) -> list[tuple[str, str, dict[str, object]]]:
    """One instance that begins to be made, fails, and is deleted."""
    payload: dict[str, object] = {"instance_id": instance, "host": "node-1"}
    return [
        ("info", "compute.instance.create.start", payload),
        ("error", "compute.instance.create.error", payload),
        ("info", "compute.instance.delete.start", payload),
        ("info", "compute.instance.delete.end", payload),
    ]


@pytest.mark.parametrize("driver", ["messaging", "messagingv2"])
def test_start_and_error_come_out_in_order_though_each_has_a_queue_of_its_own(
    rabbitmq: RabbitNode, tmp_path: Path, driver: str
) -> None:
    vhost = rabbitmq.add_vhost()
    before, after = [f"i-{at}" for at in range(20)], [f"i-{at}" for at in range(20, 25)]
    notify(rabbitmq, vhost, driver, *(one for instance in before for one in life(instance)))
    sources = [
        source(rabbitmq.url(vhost), f"notifications.{queue}", f"os-{queue}", format="oslo")
        for queue in QUEUES
    ]
    with taking(tmp_path, *sources) as relay:
        notify(rabbitmq, vhost, driver, *(one for instance in after for one in life(instance)))
        total = 4 * len(before + after)
        until(lambda: sum(one["accepted"] for one in states(relay.api).values()) == total, "all are taken")
        types = [one[1] for one in life("")]
        for instance in before + after:
            items = list(relay.api.items("/events", key=instance))
            assert [item["event"]["type"] for item in items] == types, instance
            assert items[0]["event"]["source"] == "/openstack/compute/node-1"
        assert "s3cret" not in str(items)
        assert list(relay.api.items("/rejects")) == []


def test_a_key_of_one_s_own_and_what_is_no_notification(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    vhost = rabbitmq.add_vhost()
    notify(rabbitmq, vhost, "messagingv2", ("info", "dns.zone.create", {"zone": {"id": "z-1"}}))
    sender = Sender(rabbitmq, vhost)
    one = source(rabbitmq.url(vhost), "notifications.info", "os", format="oslo")
    with taking(tmp_path, one, '[source.keys]\n"dns.zone." = "/zone/id"\n') as relay:
        until_state(relay.api, "up", "os")
        until(lambda: len(taken(relay.api, "z-1")) == 1, "it is taken under its key")
        with sender.channel() as channel:
            channel.basic_publish("", "notifications.info", b'{"hello": "world"}')
        until(lambda: list(relay.api.items("/rejects", source="os")), "it is kept")
        (reject,) = relay.api.items("/rejects", source="os")
        assert reject["reason"].startswith(
            "invalid-event: not an OpenStack notification: /message_id is missing"
        )
