# SPDX-License-Identifier: Apache-2.0
"""20,000 events over 200 resources while everything is killed: all of it arrives, in order."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.api import event
from tests.acceptance.history import Log, check_acknowledged, check_applied, repeats
from tests.acceptance.processes import QUICK, Child, ReceiverProcess, RelayProcess
from tests.acceptance.publishers import Publisher
from tests.acceptance.receiver_process import read_history
from tests.acceptance.waiting import until

KEYS, EVENTS_OF_A_KEY = 200, 100
PUBLISHERS, BATCH = 4, 10
RELAY_KILLS, RECEIVER_KILLS = 10, 5
FAIL = 0.05


def batches(publisher: int) -> Iterator[list[dict[str, Any]]]:
    """One publisher's events, those of a resource in order."""
    keys = [f"stack-{number}" for number in range(publisher, KEYS, PUBLISHERS)]
    for number in range(1, EVENTS_OF_A_KEY + 1):
        for first in range(0, len(keys), BATCH):
            yield [event(number, key) for key in keys[first : first + BATCH]]


def applied_by(receiver: ReceiverProcess) -> int:
    with closing(sqlite3.connect(receiver.history, timeout=60)) as history:
        return int(history.execute("SELECT count(*) FROM history").fetchone()[0])


def kill_all_along(relay: RelayProcess, receivers: list[ReceiverProcess]) -> None:
    """Each kill waits for some more to have been applied; which one is next is drawn by lot."""
    victims: list[Child] = [relay] * RELAY_KILLS
    for receiver in receivers:
        victims += [receiver] * RECEIVER_KILLS
    random.shuffle(victims)
    whole = len(receivers) * KEYS * EVENTS_OF_A_KEY
    for number, victim in enumerate(victims, start=1):
        due = whole * number * 0.9 / len(victims)
        until(lambda due=due: sum(map(applied_by, receivers)) >= due, f"{due} events are applied")  # type: ignore[misc]
        victim.kill()
        victim.start()


@pytest.mark.timeout(280)
def test_everything_arrives_in_order_whatever_is_killed(tmp_path: Path) -> None:
    with RelayProcess(tmp_path, QUICK) as relay:
        made = relay.api.subscribe("library", "http://127.0.0.1:9/", receiver="library")
        library = ReceiverProcess(tmp_path, "library", secret=made["config"]["secret"], fail=FAIL)
        plain = ReceiverProcess(tmp_path, "plain", fail=FAIL)
        with library, plain:
            relay.api.subscribe("library", library.url, receiver="library")
            relay.api.subscribe("plain", plain.url)
            publishers = [Publisher(relay.port, batches(number)).start() for number in range(PUBLISHERS)]
            try:
                kill_all_along(relay, [library, plain])
                for publisher in publishers:
                    publisher.finish()
            finally:
                for publisher in publishers:
                    publisher.stop()
            for name in ("library", "plain"):
                until(
                    lambda name=name: relay.api.drained(name),  # type: ignore[misc]
                    lambda name=name: f"{name} has everything: {relay.api.status(name)}",  # type: ignore[misc]
                )
        log = Log.read(relay.api)
        assert len(log.places) == KEYS * EVENTS_OF_A_KEY
        for publisher in publishers:
            check_acknowledged(publisher.acknowledged, log)
        check_applied(read_history(library.history), log, once=True)
        taken = read_history(plain.history)
        check_applied(taken, log, once=False)
        assert repeats(taken) > 0, "answers got lost"
        assert sum(publisher.sent_again for publisher in publishers) > 0, "so did the relay's"
        for name in ("library", "plain"):
            assert list(relay.api.items(f"/subscriptions/{name}/skips")) == []
