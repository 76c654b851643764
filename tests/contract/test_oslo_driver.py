# SPDX-License-Identifier: Apache-2.0
"""The notification driver in real services of OpenStack's libraries, each a process of its own."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trustme

from tests.contract.openstack import Service
from tests.contract.publishing import DEADLINE_SECONDS, StubRelay, relay_at, until

RUNS = ("plain", "eventlet-plain")


@pytest.fixture
def relay() -> Iterator[StubRelay]:
    with relay_at() as relay:
        yield relay


@pytest.fixture
def service(tmp_path: Path, relay: StubRelay) -> Service:
    service = Service(tmp_path)
    service.configure(url=relay.url, outbox=str(service.outbox))
    return service


def numbers(relay: StubRelay, key: str) -> list[int]:
    return [one["data"]["payload"]["number"] for one in relay.accepted if one["partitionkey"] == key]


def test_a_notification_arrives_as_an_event(service: Service, relay: StubRelay) -> None:
    said, log = service.run("plain", "k", 3)
    assert said[-1] == "left 0"
    start, _, error = relay.accepted
    data = start["data"]
    assert start == {
        "specversion": "1.0", "id": data["message_id"], "source": "/openstack/orchestration/host1",
        "type": "orchestration.stack.update.start", "subject": "k", "partitionkey": "k", "priority": "info",
        "time": data["timestamp"].replace(" ", "T") + "Z",
        "datacontenttype": "application/json", "data": data,
    }  # fmt: skip
    assert data["payload"] == {"stack_identity": "k", "stack_name": "k", "number": 0}
    assert (error["priority"], error["partitionkey"]) == ("error", "k")
    assert "ERROR" not in log


@pytest.mark.parametrize("mode", ["side_by_side", "eventlet-side_by_side"])
def test_threads_and_greenlets_each_keep_their_order(service: Service, relay: StubRelay, mode: str) -> None:
    said, log = service.run(mode, "abcdefgh", 40)
    assert said[-1] == "left 0"
    for key in "abcdefgh":
        assert numbers(relay, key) == list(range(40))
    assert "ERROR" not in log
    assert "Traceback" not in log


@pytest.mark.parametrize("mode", ["forks", "eventlet-forks"])
def test_it_works_on_in_the_workers_of_a_fork(service: Service, relay: StubRelay, mode: str) -> None:
    said, log = service.run(mode, 20)
    assert said.count("ended 0") == 3
    assert said[-1] == "left 0"
    for key in ("child0", "child1", "child2"):
        assert numbers(relay, key) == list(range(20))
    assert numbers(relay, "parent") == list(range(23))
    assert "Traceback" not in log


def test_it_works_in_the_workers_that_oslo_service_launches(service: Service, relay: StubRelay) -> None:
    with service.start("eventlet-launched", 3, 30) as process:
        until(lambda: len(relay.accepted) == 93, "every worker's notifications and the parent's arrived")
        process.send_signal(signal.SIGTERM)
        said, log = process.communicate(timeout=2 * DEADLINE_SECONDS)
    assert process.returncode == 0, log
    workers = {line.split()[0] for line in said.splitlines()} - {"parent"}
    assert len(workers) == 3
    for worker in workers:
        assert numbers(relay, worker) == list(range(30))
    assert "Lost" not in log
    assert "Traceback" not in log


@pytest.mark.parametrize("mode", RUNS)
def test_what_json_has_not_is_kept_and_what_cannot_be_written_is_told(
    service: Service, relay: StubRelay, mode: str
) -> None:
    _, log = service.run(mode.replace("plain", "unusual"))
    first, text, last = relay.accepted
    assert first["data"]["payload"] == {
        "stack_identity": "k", "at": "2026-11-22T14:07:50.000000", "raw": "bytes", "set": [1],
        "id": "00000000-0000-0000-0000-000000000007",
    }  # fmt: skip
    assert text["datacontenttype"] == "text/plain"
    assert '"rate": NaN, "name": "half \\ud800"' in text["data"]
    assert {one["partitionkey"] for one in relay.accepted} == {"k"}
    assert last["data"]["payload"]["last"] is True
    assert "ERROR fairlead.oslo Lost 1 notifications" in log
    assert "Circular reference" in log
    assert "WARNING fairlead.oslo Notifications are stored again; this process has lost 1" in log


def test_no_login_of_the_request_leaves_the_service(service: Service, relay: StubRelay) -> None:
    service.configure(drivers="messagingv2 fairlead", url=relay.url, outbox=str(service.outbox))
    service.run("context")
    (event,) = relay.accepted
    assert "_context" not in json.dumps(event)
    assert "req-1" not in json.dumps(event)
    assert set(event["data"]) == {
        "message_id", "publisher_id", "event_type", "priority", "payload", "timestamp",
    }  # fmt: skip


@pytest.mark.parametrize("mode", RUNS)
def test_it_speaks_tls_and_sends_its_key(service: Service, tmp_path: Path, mode: str) -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "key").write_text("flk_x\n")
    with relay_at(tls=server) as relay:
        service.configure(
            url=f"https://localhost:{relay.port}", outbox=str(service.outbox),
            ca_file=str(tmp_path / "ca.pem"), api_key_file=str(tmp_path / "key"),
        )  # fmt: skip
        said, log = service.run(mode, "k", 5)
    assert said[-1] == "left 0"
    assert numbers(relay, "k") == list(range(5))
    assert relay.requests[0][1]["authorization"] == "Bearer flk_x"
    assert "flk_x" not in log


# -- eventlet ----------------------------------------------------------------------------------------------


def test_only_who_notifies_waits_for_the_disk(service: Service, relay: StubRelay) -> None:
    service.run("plain", "before", 1)
    said, _ = service.run("eventlet-waits", service.outbox)
    assert said[0] == "waiting True", "thirty turns of the hub while a notification waited"
    assert said[-1] == "left 0"
    assert numbers(relay, "k") == [0, 1, 2]


def test_greenlets_share_a_commit(service: Service, relay: StubRelay) -> None:
    service.run("plain", "before", 1)
    said, _ = service.run("eventlet-shares", service.outbox)
    sizes = next(line.split()[1:] for line in said if line.startswith("commits"))
    assert sum(map(int, sizes)) == 50
    assert len(sizes) <= 3


def test_threads_that_are_foreign_to_the_hub_may_notify(service: Service, relay: StubRelay) -> None:
    said, log = service.run("eventlet-foreign", 30)
    assert said[-1] == "left 0"
    for key in ("t1", "t2", "t3", "g1", "g2", "g3"):
        assert numbers(relay, key) == list(range(30))
    assert "Traceback" not in log


def test_the_hub_itself_may_notify(service: Service, relay: StubRelay) -> None:
    said, log = service.run("eventlet-hub")
    assert said[-1] == "left 0"
    assert numbers(relay, "hub") == [0]
    assert "Traceback" not in log


def test_a_greenlet_that_is_killed_meanwhile_harms_nobody(service: Service, relay: StubRelay) -> None:
    service.run("plain", "before", 1)
    said, log = service.run("eventlet-killed", service.outbox)
    assert said[-1] == "left 0"
    assert numbers(relay, "after") == list(range(20))
    for round, victim in enumerate((1, 0)):
        others = {f"round{round}-{number}" for number in range(5)} - {f"round{round}-{victim}"}
        assert all(numbers(relay, name) == [0, 1, 2] for name in others)
        assert numbers(relay, f"round{round}-{victim}") == [0], "stored, though who notified is gone"
    assert "Lost" not in log


# -- what goes wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"url": ""}, "[fairlead] url: "),
        ({"url": "ftp://relay"}, "[fairlead] url: 'ftp://relay' is not a URL of a relay"),
        ({"url": "https://u:p@relay"}, "[fairlead] url: the relay's URL carries a password"),
        ({"outbox": "/nonexistent/outbox.db"}, "/nonexistent/outbox.db cannot be opened"),
        ({"max_size": "1GB"}, '[fairlead] max_size: is "1GB"; it must be a size such as'),
        ({"api_key_file": "/nonexistent/key"}, "[fairlead] api_key_file: /nonexistent/key cannot be read"),
        ({"api_key_file": "/dev/null"}, "[fairlead] api_key_file: /dev/null must hold one API key"),
        (
            {"url": "https://relay", "ca_file": "/nonexistent/ca"},
            "[fairlead] ca_file: /nonexistent/ca cannot",
        ),
        ({"source": "a b"}, '[fairlead] source: source is "a b"; it must be a URI-reference'),
        (
            {"keys": "dns.zone.:id"},
            '[fairlead] keys: the key of "dns.zone." is "id"; it must be a JSON Pointer',
        ),
    ],
)
def test_a_mistake_in_the_configuration_is_in_the_log_and_the_service_goes_on(
    service: Service, relay: StubRelay, options: dict[str, str], why: str
) -> None:
    service.configure(**{"url": relay.url, "outbox": str(service.outbox), **options})
    process = service.start("status", 2)
    out, log = process.communicate("\n", timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, log
    started, lost, *_ = [line for line in log.splitlines() if "fairlead" in line]
    assert started.startswith(f"ERROR fairlead.oslo Notifications cannot be stored: {why}")
    assert lost.startswith("ERROR fairlead.oslo Lost 1 notifications, the last one is")
    assert why in lost
    assert "Traceback" not in log
    assert out.splitlines()[-1].startswith("status 2 None ")
    assert why in out


def test_without_an_address_nothing_is_guessed(service: Service) -> None:
    service.configure(outbox=str(service.outbox))
    process = service.start("status", 1)
    _, log = process.communicate("\n", timeout=DEADLINE_SECONDS)
    assert "[fairlead] url: is missing; give the relay's address" in log


def waiting(outbox: Path) -> int:
    """How many events an outbox holds."""
    with closing(sqlite3.connect(outbox)) as file:
        return int(file.execute("SELECT count(*) FROM event").fetchone()[0])


def test_a_full_outbox_is_told_counted_and_over_when_there_is_room(service: Service, tmp_path: Path) -> None:
    relay = StubRelay()
    with relay_at(relay):
        port = relay.port
    service.configure(url=f"http://127.0.0.1:{port}", outbox=str(service.outbox), max_size="2KiB")
    process = service.start("status", 30, 1)
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stderr is not None
    said = [process.stdout.readline() for _ in range(31)]
    lost = int(said[-1].split()[1])
    assert 0 < lost < 30
    assert "max_bytes is 2048" in said[-1]
    waits = "WARNING fairlead.publisher Events wait in the outbox"
    assert any(waits in line for line in process.stderr), "read until the relay was missed: then it comes"
    with relay_at(relay, port):
        until(lambda: len(relay.accepted) == 30 - lost, "what was stored arrived")
        until(lambda: waiting(service.outbox) == 0, "the outbox has heard of it, and has room")
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        assert process.stdout.readline() == f"status {lost} {lost} None\n", "the outbox knows them all"
        _, log = process.communicate("\n", timeout=DEADLINE_SECONDS)
    assert numbers(relay, "round0") == list(range(30 - lost))
    assert f"Notifications are stored again; this process has lost {lost}" in log


def noted(outbox: Path) -> int:
    """How many losses an outbox knows of."""
    with closing(sqlite3.connect(outbox)) as file:
        return int(file.execute("SELECT coalesce(sum(count), 0) FROM lost").fetchone()[0])


def told_lost(log: str) -> list[int]:
    """How many losses each line of a service's log tells of."""
    return [int(number) for number in re.findall(r"ERROR fairlead.oslo Lost (\d+) notifications", log)]


@pytest.mark.parametrize("mode", ["status", "eventlet-status"])
def test_the_rest_of_a_burst_is_told_though_nothing_follows(service: Service, mode: str) -> None:
    service.configure(url="http://127.0.0.1:9", outbox=str(service.outbox), max_size="2KiB")
    with service.start(mode, 30) as process:
        assert process.stdout is not None
        lost = int([process.stdout.readline() for _ in range(31)][-1].split()[1])
        assert lost > 1
        until(lambda: noted(service.outbox) == lost, "the outbox has heard of all of them")
        _, log = process.communicate("\n", timeout=DEADLINE_SECONDS)
    assert told_lost(log) == [1, lost - 1]
    assert process.returncode == 0


@pytest.mark.parametrize("mode", ["leave", "eventlet-leave"])
def test_the_rest_of_a_burst_is_told_at_the_end_of_the_process(service: Service, mode: str) -> None:
    service.configure(url="", outbox=str(service.outbox))
    _, log = service.run(mode, "k", 30)
    assert told_lost(log) == [1, 29]
    assert "Traceback" not in log


def test_what_a_parent_has_lost_is_not_told_by_its_children(service: Service) -> None:
    service.configure(url="http://127.0.0.1:9", outbox=str(service.outbox), max_size="1B")
    with service.start("forks_that_lose", 10) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(20)][-1]
        until(lambda: noted(service.outbox) == 20, "the parent's and the child's")
        _, log = process.communicate("\n", timeout=DEADLINE_SECONDS)
    assert sorted(told_lost(log)) == [1, 1, 9, 9]


def test_the_options_are_listed_for_operators(tmp_path: Path) -> None:
    generator = Path(sys.executable).with_name("oslo-config-generator")
    done = subprocess.run(
        [generator, "--namespace", "fairlead"], capture_output=True, text=True, check=True, timeout=60
    )
    for option in ("url", "outbox", "max_size", "api_key_file", "ca_file", "source", "keys"):
        assert f"#{option} =" in done.stdout
