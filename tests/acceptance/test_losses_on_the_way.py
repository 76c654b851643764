# SPDX-License-Identifier: Apache-2.0
"""Where others lose events between stores, queues and workers (L1 to L17 of webhook-peers)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.acceptance.api import event
from tests.acceptance.history import Log, check_acknowledged, check_applied
from tests.acceptance.power import Disk
from tests.acceptance.processes import IMPATIENT, KILLED, QUICK, RelayProcess, locked
from tests.acceptance.publishers import Publisher
from tests.acceptance.sinks import FAILED, LOST, TAKEN, Delivery, Reply, Sink
from tests.acceptance.straced import straced
from tests.acceptance.waiting import until

KEYS = [f"k{number}" for number in range(10)]


def settle(relay: RelayProcess, sink: Sink) -> None:
    until(lambda: relay.api.drained("console"), lambda: f"all arrives: {relay.api.status('console')}")
    check_applied(sink.history, Log.read(relay.api), once=False)


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[RelayProcess]:
    """A relay that gives up soon where its store is locked."""
    with RelayProcess(tmp_path, IMPATIENT + QUICK) as relay:
        yield relay


def test_loss_L1_a_crash_after_the_commit_strands_nothing(
    watched_relay: RelayProcess, disk: Disk, sink: Sink
) -> None:
    watched_relay.api.subscribe("console", sink.url)
    disk.kill_at("sync", "after")
    with pytest.raises((OSError, HTTPException)):
        watched_relay.api.offer(event(1))
    assert watched_relay.ended() == KILLED
    watched_relay.start()  # nobody publishes it again, nobody asks for it
    until(lambda: sink.numbers() == {"k1": [1]}, "the event is delivered")


def test_loss_L2_first_tries_and_retries_live_in_no_other_store(relay: RelayProcess, sink: Sink) -> None:
    sink.behave = lambda delivery: FAILED if delivery.key == "k0" else LOST
    relay.api.subscribe("console", sink.url)
    relay.api.publish(*(event(number, key) for number in (1, 2) for key in KEYS))
    until(lambda: relay.api.lanes("console"), "there are retries to come")
    relay.kill()
    for path in relay.place.iterdir():  # all it keeps is the store and its WAL
        if path.is_file() and not path.name.startswith("fairlead.db"):
            path.unlink()
    Path(relay.place / "fairlead.toml").write_text(QUICK)
    sink.behave = lambda delivery: TAKEN
    relay.start()
    settle(relay, sink)


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_loss_L5_what_could_not_be_stored_is_not_answered_202(
    relay: RelayProcess, sink: Sink, error: str
) -> None:
    relay.api.subscribe("console", sink.url)
    fault = f"inject=pwrite64:error={error}"
    with straced(relay.pid, relay.place, "-e", "trace=pwrite64", "-e", fault):
        answer = relay.api.offer(event(1))
        assert answer.status in (500, 503, 507), answer.body
    if error == "EIO":
        assert relay.ended() == 6
        relay.start()
    publisher = Publisher(relay.port, [[event(1)]]).start()
    publisher.finish()
    check_acknowledged(publisher.acknowledged, Log.read(relay.api))
    settle(relay, sink)
    assert sink.numbers() == {"k1": [1]}


def test_loss_L6_the_202_comes_after_the_fsync(relay: RelayProcess) -> None:
    calls = "trace=pwrite64,fsync,fdatasync,write,writev,sendto,sendmsg"
    with straced(relay.pid, relay.place, "-y", "-s", "64", "-e", calls) as trace:
        for number in range(1, 6):
            relay.api.publish(event(number))
        until(lambda: trace.read_text().count("HTTP/1.1 202") == 5, "the trace is complete")
    unsynced = False
    for line in trace.read_text().splitlines():
        if "pwrite64" in line and "-wal" in line:
            unsynced = True
        elif re.search(r"(fdatasync|fsync)\(.*-wal.*= 0|<\.\.\. (fdatasync|fsync) resumed>.*= 0", line):
            unsynced = False
        elif "HTTP/1.1 202" in line:
            assert not unsynced, "a 202 was sent before what it is about was fsynced"


def test_loss_L7_a_delivery_that_cannot_be_noted_is_not_stuck(impatient: RelayProcess, sink: Sink) -> None:
    relay = impatient
    relay.api.subscribe("console", sink.url)
    relay.api.call("POST", "/subscriptions/console/pause").must(200)
    relay.api.publish(*(event(number, key) for number in (1, 2, 3) for key in KEYS))
    relay.api.call("POST", "/subscriptions/console/resume").must(200)
    with locked(relay):
        until(lambda: len(sink.numbers()) == len(KEYS), "what is due is sent")
        assert relay.api.offer(event(4)).status == 503
    settle(relay, sink)


def test_loss_L8_a_retry_that_cannot_be_noted_is_made_all_the_same(
    impatient: RelayProcess, sink: Sink
) -> None:
    relay = impatient
    sink.behave = lambda delivery: FAILED
    relay.api.subscribe("console", sink.url)
    relay.api.publish(*(event(number, key) for number in (1, 2, 3) for key in KEYS))
    with locked(relay):
        came = len(sink.deliveries)
        until(lambda: len(sink.deliveries) > came, "it is tried again while nothing can be stored")
        assert relay.api.offer(event(4)).status == 503
    sink.behave = lambda delivery: TAKEN
    settle(relay, sink)


def test_loss_L12_a_failed_first_attempt_that_cannot_be_logged_loses_no_event(
    watched_relay: RelayProcess, disk: Disk, sink: Sink
) -> None:
    def fails_as_the_log_does(delivery: Delivery) -> Reply | None:
        if len(sink.deliveries) == 1:
            disk.kill_at("write", "before")
        return FAILED

    relay, sink.behave = watched_relay, fails_as_the_log_does
    relay.api.subscribe("console", sink.url)
    relay.api.publish(event(1))
    assert relay.ended() == KILLED
    relay.start()
    until(lambda: len(sink.deliveries) >= 3, "it is tried again and again")
    sink.behave = lambda delivery: TAKEN
    settle(relay, sink)


def test_loss_L16_subscriptions_and_schedules_are_as_durable_as_events(
    relay: RelayProcess, sink: Sink
) -> None:
    sink.behave = lambda delivery: FAILED
    retry = {"first": "1h", "max": "1h", "jitter": "none"}
    relay.api.subscribe("console", sink.url, retry=retry, on_exhausted="skip", start="beginning")
    relay.api.subscribe("paused", sink.url)
    relay.api.call("POST", "/subscriptions/paused/pause").must(200)
    relay.api.publish(event(1), event(2))
    until(lambda: relay.api.lanes("console"), "a retry is scheduled")
    relay.api.call("POST", "/subscriptions/console/lanes/retry", {"state": "held"}).must(200)
    until(lambda: len(sink.deliveries) == 2, "the second attempt is made")
    until(lambda: len(list(relay.api.items("/subscriptions/console/attempts"))) == 2, "and noted")
    before = [relay.api.call("GET", f"/subscriptions/{name}").document for name in ("console", "paused")]
    lanes = relay.api.lanes("console")

    relay.restart()
    after = [relay.api.call("GET", f"/subscriptions/{name}").document for name in ("console", "paused")]
    for old, new in zip(before, after, strict=True):
        assert {**old, "status": None} == {**new, "status": None}
        assert [old["status"][name] for name in ("state", "generation", "revision")] == [
            new["status"][name] for name in ("state", "generation", "revision")
        ]
    (was,), (now,) = lanes, relay.api.lanes("console")
    assert {**now, "ready_at": None, "since": None, "last_outcome": None} == {
        **was, "ready_at": None, "since": None, "last_outcome": None,
    }  # fmt: skip
    assert now["ready_at"][:16] == was["ready_at"][:16]
    assert len(sink.deliveries) == 2, "an hour has not passed"


def test_loss_L17_no_outage_is_too_long_for_the_workers(relay: RelayProcess, sink: Sink) -> None:
    sink.behave = lambda delivery: FAILED
    relay.api.subscribe("console", sink.url)
    relay.api.publish(*(event(number, key) for number in (1, 2) for key in KEYS))
    until(lambda: len(sink.deliveries) >= 60, "many more attempts fail than others forgive")
    sink.behave = lambda delivery: TAKEN
    relay.api.publish(event(3))
    settle(relay, sink)
