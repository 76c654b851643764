# SPDX-License-Identifier: Apache-2.0
"""Row 10 of the fault matrix at the two ends: power cuts of a receiver's inbox and of a publisher's outbox.

And of the disk of these tests itself: it forgets what was not fsynced, or nothing here would prove anything.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.history import Log, check_applied
from tests.acceptance.power import Disk
from tests.acceptance.processes import KILLED, Child, ReceiverProcess, RelayProcess
from tests.acceptance.publishers import Publisher
from tests.acceptance.receiver_process import read_history
from tests.acceptance.test_fault_power import endless
from tests.acceptance.waiting import until

WRITER = """
import sqlite3, sys
store = sqlite3.connect(sys.argv[1], isolation_level=None)
store.execute("PRAGMA journal_mode = WAL")
store.execute(f"PRAGMA synchronous = {sys.argv[2]}")
store.execute("CREATE TABLE t (n)")
store.execute("PRAGMA wal_checkpoint")
for number in range(10_000):
    store.execute("INSERT INTO t VALUES (?)", (number,))
    print(number, flush=True)
"""
COUNT = (
    "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM t').fetchone())"
)
PUBLISHER = """
import itertools, sys
from pathlib import Path
from fairlead import Event, Publisher
with Publisher(sys.argv[1], outbox=sys.argv[2]) as publisher, open(sys.argv[3], "a", buffering=1) as stored:
    run = len(Path(sys.argv[3]).read_text().splitlines())
    print("publisher ready", flush=True)
    for number in itertools.count(run + 1):
        publisher.publish(Event(f"k1-{number}", "/heat", "t", subject="k1", data={"n": number}))
        print(number, file=stored)
"""


@pytest.mark.parametrize(("synchronous", "keeps"), [("FULL", True), ("NORMAL", False)])
def test_row_10_the_disk_of_these_tests_forgets_what_was_not_fsynced(
    tmp_path: Path, disk: Disk, synchronous: str, keeps: bool
) -> None:
    file = tmp_path / "store" / "t.db"
    writer = Child(
        tmp_path,
        "writer",
        [sys.executable, "-c", WRITER, str(file), synchronous],
        ready="0\n",
        environment=disk.environment,
    )
    with writer:
        disk.kill_at("write", "before", 100)
        assert writer.ended() == KILLED
    told = len(writer.said.split())
    disk.cut()
    counted = subprocess.run([sys.executable, "-c", COUNT, file], capture_output=True, check=True)
    assert (int(counted.stdout) >= told) is keeps


def test_row_10_power_cuts_of_a_receiver_lose_nothing_that_it_has_answered_for(
    relay: RelayProcess, tmp_path: Path, disk: Disk
) -> None:
    dice = random.Random()
    secret = relay.api.subscribe("console", "http://127.0.0.1:9/", receiver="library")["config"]["secret"]
    receiver = ReceiverProcess(tmp_path / "store", "receiver", secret=secret, environment=disk.environment)
    with receiver:
        relay.api.subscribe("console", receiver.url, receiver="library")
        publisher = Publisher(relay.port, endless("a")).start()
        try:
            for number in range(8):
                call = dice.choice(("write", "sync"))
                disk.kill_at("sync" if call == "sync" else "write", "after", dice.randrange(1, 100))
                assert receiver.ended() == KILLED
                disk.cut(dice if number % 2 else None)
                receiver.start()
        finally:
            publisher.stop()
        until(lambda: relay.api.drained("console"), lambda: f"all arrives: {relay.api.status('console')}")
        check_applied(read_history(receiver.history), Log.read(relay.api), once=True)


def test_row_10_power_cuts_of_a_publisher_lose_nothing_that_it_has_stored(
    relay: RelayProcess, tmp_path: Path, disk: Disk
) -> None:
    dice, stored = random.Random(), tmp_path / "stored"
    stored.touch()
    outbox = tmp_path / "store" / "outbox.db"
    command = [sys.executable, "-c", PUBLISHER, f"http://127.0.0.1:{relay.port}", str(outbox), str(stored)]
    publisher = Child(tmp_path, "publisher", command, ready="publisher ready", environment=disk.environment)
    with publisher:
        for number in range(6):
            disk.kill_at(dice.choice(["write", "sync"]), "after", dice.randrange(1, 100))
            assert publisher.ended() == KILLED
            disk.cut(dice if number % 2 else None)
            publisher.start()
        told = stored.read_text().split()
        until(
            lambda: f"k1-{told[-1]}" in (item["event"]["id"] for item in relay.api.items("/events")),
            "the outbox is forwarded",
        )
    ids = [item["event"]["id"] for item in relay.api.items("/events", key="/heat k1")]
    assert ids == [f"k1-{number}" for number in range(1, len(ids) + 1)]
    assert len(ids) >= len(told)
