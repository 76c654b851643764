# SPDX-License-Identifier: Apache-2.0
"""Rows 12 to 16 of the fault matrix: a disk that fails, is full, lies, or is held by somebody else."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.acceptance.api import event
from tests.acceptance.history import Log, check_acknowledged, check_applied, repeats
from tests.acceptance.processes import QUICK, RelayProcess, fairlead, serve_once
from tests.acceptance.publishers import Publisher
from tests.acceptance.sinks import FAILED, TAKEN, Sink
from tests.acceptance.straced import straced
from tests.acceptance.waiting import until

KEYS = [f"k{number}" for number in range(10)]


def settle(relay: RelayProcess, sink: Sink, *publishers: Publisher) -> None:
    until(lambda: relay.api.drained("console"), lambda: f"all arrives: {relay.api.status('console')}")
    log = Log.read(relay.api)
    for publisher in publishers:
        check_acknowledged(publisher.acknowledged, log)
    check_applied(sink.history, log, once=False)


def test_row_12_a_failed_fsync_ends_serving_and_nothing_acknowledged_is_lost(
    relay: RelayProcess, sink: Sink
) -> None:
    relay.api.subscribe("console", sink.url)
    relay.api.publish(*(event(1, key) for key in KEYS))
    only_once = "inject=fsync,fdatasync:error=EIO:when=1"  # a second one would say that all is well
    with straced(relay.pid, relay.place, "-e", "trace=fsync,fdatasync", "-e", only_once):
        publisher = Publisher(relay.port, [[event(2, key)] for key in KEYS]).start()
        assert relay.ended() == 6
    assert "store" in relay.said
    assert publisher.acknowledged == []

    relay.start()
    publisher.finish()
    settle(relay, sink, publisher)
    for numbers in sink.numbers().values():  # the flush that failed may have been of the first ones
        assert numbers in ([1, 2], [1, 1, 2])


# -- a full disk -------------------------------------------------------------------------------------------


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A file system of its own that is soon full; as root only."""
    mounted = place / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "fairlead-test", str(mounted)]
    subprocess.run(command, check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", "--lazy", str(mounted)], check=True)


@pytest.fixture
def full_relay(tmp_path: Path) -> Iterator[RelayProcess]:
    """A relay whose store has a small disk to itself."""
    config = '[store_options]\ndisk_reserve = "8MiB"\n' + QUICK
    with (
        small_disk(tmp_path, "32m") as disk,
        RelayProcess(tmp_path, config, store=disk / "fairlead.db") as relay,
    ):
        yield relay


def fill(relay: RelayProcess, leave_bytes: int) -> Path:
    """Take all of the store's disk but so much."""
    ballast = relay.store.parent / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        left = os.statvfs(relay.store.parent)
        file.write(b"x" * max(0, left.f_bavail * left.f_frsize - leave_bytes))
        while leave_bytes == 0:
            file.write(b"x" * 4096)
    return ballast


def with_backlog(relay: RelayProcess, sink: Sink) -> None:
    """Five events of each key have been accepted; none is delivered yet."""
    relay.api.subscribe("console", sink.url)
    relay.api.call("POST", "/subscriptions/console/pause").must(200)
    relay.api.publish(*(event(number, key) for number in range(1, 6) for key in KEYS))


def refuses_for_want_of_room(relay: RelayProcess) -> None:
    answer = relay.api.offer(event(99, "other"))
    assert answer.status == 507, answer.body
    assert answer.document["type"] == "urn:fairlead:problem:store-full"
    assert answer.headers["retry-after"] == "10"


def test_row_13_a_full_disk_stops_intake_while_deliveries_go_on(full_relay: RelayProcess, sink: Sink) -> None:
    relay = full_relay
    with_backlog(relay, sink)
    ballast = fill(relay, 6 * 1024 * 1024)
    refuses_for_want_of_room(relay)
    relay.api.call("POST", "/subscriptions/console/resume").must(200)
    settle(relay, sink)
    assert sink.numbers(came=True) == {key: [1, 2, 3, 4, 5] for key in KEYS}
    refuses_for_want_of_room(relay)
    assert relay.api.call("GET", "/readyz").document["store"] == "full"
    told = fairlead("doctor", "--url", f"http://127.0.0.1:{relay.port}", place=relay.place)
    assert told.returncode == 1
    assert "store: full: publishers get 507" in told.stdout

    ballast.unlink()
    until(lambda: relay.api.call("GET", "/readyz").document["store"] == "ok", "it is seen")
    until(lambda: relay.api.offer(event(99, "other")).status == 202, "it recovers by itself")
    settle(relay, sink)


def test_row_14_lanes_pause_while_their_settlement_cannot_be_stored(
    full_relay: RelayProcess, sink: Sink
) -> None:
    relay = full_relay
    with_backlog(relay, sink)
    relay.api.call("POST", "/subscriptions/console/resume").must(200)
    ballast = fill(relay, 0)
    refuses_for_want_of_room(relay)
    until(lambda: len(sink.numbers()) == len(KEYS), "what was due is sent")
    relay.kill()  # with what could not be stored: a lane repeats its last event and no other

    ballast.unlink()
    relay.start()
    settle(relay, sink)
    for numbers in sink.numbers(came=True).values():
        assert numbers == sorted(numbers)
        assert repeats(numbers) <= 1


def test_row_14_a_full_disk_heals_without_a_restart(full_relay: RelayProcess, sink: Sink) -> None:
    relay = full_relay
    with_backlog(relay, sink)
    ballast = fill(relay, 0)
    refuses_for_want_of_room(relay)
    relay.api.call("POST", "/subscriptions/console/resume")  # which may not be storable either
    ballast.unlink()
    until(lambda: relay.api.offer(event(99, "other")).status == 202, "it takes events again")
    relay.api.call("POST", "/subscriptions/console/resume").must(200)
    settle(relay, sink)


def test_row_13_a_quota_that_is_used_up_is_a_full_disk(tmp_path: Path, sink: Sink) -> None:
    disk, used_up, library = tmp_path / "disk", tmp_path / "used-up", tmp_path / "quota.so"
    disk.mkdir()
    source = Path(__file__).with_name("quota.c")
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    quota = {"LD_PRELOAD": library, "QUOTA_ROOT": disk.resolve(), "QUOTA_USED_UP": used_up}
    environment = {name: str(path) for name, path in quota.items()}
    with RelayProcess(tmp_path, store=disk / "fairlead.db", environment=environment) as relay:
        with_backlog(relay, sink)
        used_up.touch()
        refuses_for_want_of_room(relay)
        assert relay.api.call("GET", "/readyz").document["store"] == "full"
        assert relay.api.call("POST", "/subscriptions/console/resume").status == 507
        used_up.unlink()
        until(lambda: relay.api.offer(event(99, "other")).status == 202, "it takes events again")
        relay.api.call("POST", "/subscriptions/console/resume").must(200)
        settle(relay, sink)


# -- a disk that lies --------------------------------------------------------------------------------------


def flip_a_bit(file: Path, needle: bytes) -> None:
    """In the middle of the only place where `needle` is."""
    content = bytearray(file.read_bytes())
    at = content.index(needle)
    assert content.count(needle) == 1
    content[at + len(needle) // 2] ^= 1
    file.write_bytes(content)


def test_row_15_a_flipped_bit_in_an_event_surfaces_and_is_not_skipped(
    relay: RelayProcess, sink: Sink
) -> None:
    sink.behave = lambda delivery: FAILED
    relay.api.subscribe("console", sink.url)
    relay.api.publish(*(event(number, data={"n": number, "text": f"w{number}" * 40}) for number in (1, 2, 3)))
    assert relay.stop() == 0
    flip_a_bit(relay.store, b"w2" * 40)

    checked = fairlead("store", "check", "--store", f"sqlite:///{relay.store}", place=relay.place)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert "digest" in checked.stdout + checked.stderr

    sink.behave = lambda delivery: TAKEN
    relay.start()
    told = "event 1:2 does not hold what was written"
    until(lambda: told in relay.said, lambda: f"the damage is told: {relay.said}")
    before = relay.api.call("GET", "/events").must(200)
    assert [one["position"] for one in before["items"]] == [1], "what stands before it is listed"
    listed = relay.api.call("GET", "/events", after=before["next"])
    assert (listed.status, listed.document["title"]) == (500, "The store is damaged")
    assert told in listed.document["detail"]
    relay.api.publish(event(1, "k2"))
    until(lambda: "k2" in sink.numbers(), "another resource goes on")
    assert sink.numbers(came=True)["k1"][-1] == 1, "what follows the damaged event waits behind it"
    assert relay.api.status("console")["lag_events"] > 0


def test_row_15_a_flipped_bit_in_a_page_header_is_refused(relay: RelayProcess, sink: Sink) -> None:
    relay.api.publish(*(event(number) for number in range(1, 200)))
    assert relay.stop() == 0
    with relay.store.open("r+b") as file:
        for page in range(1, relay.store.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff")
    ended = serve_once(relay.place, "--store", f"sqlite:///{relay.store}", "--listen", "127.0.0.1:0")
    assert ended.returncode == 6
    assert str(relay.store) in ended.stderr
    assert "fairlead store check" in ended.stderr or "backup" in ended.stderr


# -- a disk that somebody else holds -----------------------------------------------------------------------


def test_row_16_a_locked_database_is_back_pressure_and_no_loss(tmp_path: Path, sink: Sink) -> None:
    config = '[store_options]\nbusy_timeout = "50ms"\n' + QUICK
    with RelayProcess(tmp_path, config) as relay:
        with_backlog(relay, sink)
        relay.api.call("POST", "/subscriptions/console/resume").must(200)
        with closing(sqlite3.connect(relay.store, isolation_level=None, timeout=60)) as other:
            other.execute("BEGIN IMMEDIATE")
            answer = relay.api.offer(event(1, "other"))
            assert answer.status == 503, answer.body
            assert answer.document["type"] == "urn:fairlead:problem:store-busy"
            assert int(answer.headers["retry-after"]) >= 1
            other.execute("ROLLBACK")
        publisher = Publisher(relay.port, [[event(1, "other")]]).start()
        publisher.finish()
        settle(relay, sink, publisher)
        for numbers in sink.numbers(came=True).values():
            assert numbers == sorted(numbers)
