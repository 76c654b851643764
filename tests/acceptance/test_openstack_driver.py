# SPDX-License-Identifier: Apache-2.0
"""A service of OpenStack with the driver `fairlead`: relay, service and broker die, and nothing is lost."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pika
import pytest

from tests.acceptance.processes import RelayProcess
from tests.acceptance.waiting import until
from tests.contract.openstack import Service
from tests.servers.rabbitmq import RabbitNode

STYLES = ("", "eventlet-")
"""With threads, and patched by eventlet."""


@pytest.fixture
def stopped_relay(tmp_path: Path) -> Iterator[RelayProcess]:
    """A relay that has not been started."""
    (tmp_path / "relay").mkdir()
    relay = RelayProcess(tmp_path / "relay")
    try:
        yield relay
    finally:
        if relay.alive:
            relay.kill()


@pytest.fixture
def service(tmp_path: Path, stopped_relay: RelayProcess) -> Service:
    service = Service(tmp_path)
    service.configure(url=f"http://127.0.0.1:{stopped_relay.port}", outbox=str(service.outbox))
    return service


def in_log(relay: RelayProcess) -> dict[str, list[int]]:
    """What the relay has: per key the numbers of its notifications, in the order of the log."""
    numbers = defaultdict(list)
    for item in relay.api.items("/events"):
        numbers[item["key"]].append(item["event"]["data"]["payload"]["number"])
    return numbers


def told(lines: Iterator[str] | list[str]) -> dict[str, list[int]]:
    """What the service said: notifications for which `notify` returned."""
    numbers = defaultdict(list)
    for line in lines:
        name, number = line.split()
        numbers[name].append(int(number))
    return numbers


def read_lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return list(itertools.islice(process.stdout, count))


@pytest.mark.parametrize("style", STYLES)
def test_the_relay_is_down_at_the_first_notification(
    service: Service, stopped_relay: RelayProcess, style: str
) -> None:
    with service.start(f"{style}plain", "k", 50) as process:
        assert len(read_lines(process, 50)) == 50, "it was not held up"
        stopped_relay.start()
        out, log = process.communicate(timeout=60)
    assert out == "left 0\n"
    assert in_log(stopped_relay) == {"k": list(range(50))}
    assert log.count("Events wait in the outbox") == 1


@pytest.mark.parametrize("style", STYLES)
def test_the_relay_is_killed_in_the_middle_and_started_again(
    service: Service, stopped_relay: RelayProcess, style: str
) -> None:
    relay = stopped_relay.start()
    with service.start(f"{style}side_by_side", "abcd", 300) as process:
        assert process.stdout is not None
        for _ in range(4):
            assert len(read_lines(process, 200)) == 200
            relay.restart()
        out, _ = process.communicate(timeout=120)
    assert out.splitlines()[-1] == "left 0"
    assert in_log(relay) == {key: list(range(300)) for key in "abcd"}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("relay_runs", [True, False])
def test_a_service_is_killed_right_after_notify_returned(
    service: Service, stopped_relay: RelayProcess, style: str, relay_runs: bool
) -> None:
    relay = stopped_relay
    if relay_runs:
        relay.start()
    returned: dict[str, list[int]] = {}
    for life in range(3):
        with service.start(f"{style}endless", f"life{life}") as process:
            lines = read_lines(process, random.Random(life).randrange(20, 120))
            process.kill()
            assert process.stdout is not None
            whole = [line for line in [*lines, *process.stdout] if line.endswith("\n")]
        returned |= told(whole)
    if not relay_runs:
        relay.start()
    service.run(f"{style}plain", "last", 1)  # the next life sends what the earlier ones left
    arrived = in_log(relay)
    for name, numbers in returned.items():
        assert arrived[name] == list(range(len(arrived[name]))), "without a gap, in order, once"
        assert len(arrived[name]) - len(numbers) in (0, 1), "all that returned, and at most the one under way"


def test_a_full_outbox_keeps_what_it_has_and_counts_the_rest(
    service: Service, stopped_relay: RelayProcess
) -> None:
    service.configure(
        url=f"http://127.0.0.1:{stopped_relay.port}", outbox=str(service.outbox), max_size="20KiB"
    )
    with service.start("status", 200, 5) as process:
        lines = read_lines(process, 201)
        lost = int(lines[-1].split()[1])
        assert 0 < lost < 200
        stopped_relay.start()
        until(lambda: len(in_log(stopped_relay)["round0"]) == 200 - lost, "what was stored arrives")
        process.stdin.write("\n")  # type: ignore[union-attr]  # it is a pipe
        process.stdin.flush()  # type: ignore[union-attr]
        assert read_lines(process, 6)[-1] == f"status {lost} {lost} None\n"
        until(lambda: len(in_log(stopped_relay)["round1"]) == 5, "and what came after it")
        process.communicate("\n", timeout=60)
    arrived = in_log(stopped_relay)
    assert arrived["round0"] == sorted(arrived["round0"])
    assert arrived["round1"] == list(range(5))


# -- beside oslo.messaging's own driver --------------------------------------------------------------------


def at_broker(node: RabbitNode) -> list[int]:
    """What messagingv2 has brought to the broker's queues."""
    numbers: list[int] = []
    with closing(pika.BlockingConnection(pika.URLParameters(node.url("%2F")))) as connection:
        for queue in ("notifications.info", "notifications.error"):
            channel = connection.channel()
            while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
                numbers.append(payload_of(got[2])["number"])
    return sorted(numbers)


def payload_of(body: bytes) -> Any:
    return json.loads(json.loads(body)["oslo.message"])["payload"]


@pytest.mark.parametrize("style", STYLES)
def test_a_broker_that_is_absent_killed_and_restarted_loses_notifications_and_we_do_not(
    service: Service, stopped_relay: RelayProcess, style: str
) -> None:
    relay = stopped_relay.start()
    node = RabbitNode()
    service.configure(
        drivers="messagingv2 fairlead", transport=f"rabbit://guest:guest@127.0.0.1:{node.port}/",
        url=f"http://127.0.0.1:{relay.port}", outbox=str(service.outbox),
    )  # fmt: skip
    try:
        with service.start(f"{style}steps", "k", 10, 10, 10) as process:
            assert process.stdin is not None
            assert read_lines(process, 11)[-1] == "step 10\n", "no broker at the first connection"
            node.start()
            for step in (20, 30):
                process.stdin.write("\n")
                process.stdin.flush()
                if step == 30:
                    node.restart()  # messagingv2 blocks its caller until the broker is back
                assert read_lines(process, 11)[-1] == f"step {step}\n"
            until(lambda: in_log(relay)["k"] == list(range(30)), "all of them are in the relay, in order")
            process.kill()
        theirs = at_broker(node)
        print("messagingv2 has brought", theirs)
        assert not set(theirs) & set(range(10)), "what was notified without a broker was dropped"
        assert set(theirs) < set(range(30))
    finally:
        node.stop()
