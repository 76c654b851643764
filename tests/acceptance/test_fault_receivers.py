# SPDX-License-Identifier: Apache-2.0
"""Rows 37 to 40 of the fault matrix: receivers that fail for one resource, hang, babble, or forget."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.api import event
from tests.acceptance.history import Log, check_applied
from tests.acceptance.processes import KILLED, ReceiverProcess, RelayProcess
from tests.acceptance.receiver_process import read_history
from tests.acceptance.sinks import CHUNK, FAILED, TAKEN, Delivery, Reply, Sink
from tests.acceptance.waiting import until

FREE = [f"free-{number}" for number in range(20)]
MIB = 1024 * 1024


def settle(relay: RelayProcess, sink: Sink) -> None:
    until(lambda: relay.api.drained("console"), lambda: f"all arrives: {relay.api.lanes('console')}")
    check_applied(sink.history, Log.read(relay.api), once=False)


def test_row_37_a_failing_resource_holds_back_only_itself(relay: RelayProcess, sink: Sink) -> None:
    sink.behave = lambda delivery: FAILED if delivery.key == "bad" else TAKEN
    relay.api.subscribe("console", sink.url)
    relay.api.publish(*(event(number, key) for number in range(1, 11) for key in ("bad", *FREE)))
    until(
        lambda: sink.numbers() == {key: list(range(1, 11)) for key in FREE},
        "all that is not of the failing resource arrives",
    )
    (held,) = until(lambda: relay.api.lanes("console"), "the failing one is held")
    assert (held["key"], held["head"]["id"], held["waiting"]) == ("/heat bad", "bad-1", 10)
    assert {one.number for one in sink.deliveries if one.key == "bad"} == {1}
    sink.behave = lambda delivery: TAKEN
    settle(relay, sink)


class Nuisance:
    """Answers as no receiver should, by the key's name, until it has been told to stop."""

    def __init__(self, sink: Sink) -> None:
        self.over = threading.Event()
        self.sent_bytes = 0
        sink.raw = self._answer

    def _answer(self, connection: BaseHTTPRequestHandler, delivery: Delivery) -> Reply | None:
        if delivery.key not in ("hangs", "slow head", "slow body", "10 GB"):
            return TAKEN
        with suppress(OSError):  # the relay goes away
            for piece in self._pieces(delivery.key):
                connection.wfile.write(piece)
                if len(piece) == 1 and self.over.wait(0.05):
                    break
                self.sent_bytes += len(piece)
            if delivery.key == "hangs":
                self.over.wait()
        return None

    def _pieces(self, key: str) -> Iterable[bytes]:
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"
        if key == "slow head":
            return (bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\nx-slow: " + b"s" * 100_000)
        if key == "slow body":
            return [head % 100_000, *(b"s" for _ in range(100_000))]
        if key == "10 GB":
            return [head % (10 * 1024 * MIB), *([CHUNK] * (10 * 1024 * MIB // len(CHUNK)))]
        return []


@pytest.mark.parametrize("nuisance", ["hangs", "slow head", "slow body", "10 GB"])
def test_row_38_a_nuisance_of_a_receiver_gives_its_slot_back(
    relay: RelayProcess, sink: Sink, nuisance: str
) -> None:
    receiver = Nuisance(sink)
    try:
        relay.api.subscribe("console", sink.url, concurrency=1, timeout="300ms")
        relay.api.publish(event(1, nuisance), *(event(number, key) for number in (1, 2) for key in FREE))
        until(
            lambda: {key: sink.numbers().get(key) for key in FREE} == {key: [1, 2] for key in FREE},
            "all that is not of the nuisance arrives, one request at a time",
        )
        if nuisance != "10 GB":
            (held,) = until(lambda: relay.api.lanes("console"), "the nuisance is held")
            assert held["last_outcome"]["outcome"] == "unavailable"
        else:
            until(lambda: relay.api.drained("console"), "a 2xx with too much to say is a 2xx")
            assert receiver.sent_bytes < 64 * MIB, "the relay reads no further than it must"
        assert relay.alive
    finally:
        receiver.over.set()
        sink.raw = None
    until(lambda: relay.api.drained("console"), "the nuisance has stopped, so all arrives")


def test_row_39_a_2xx_is_the_word_of_a_plain_receiver(relay: RelayProcess, sink: Sink) -> None:
    relay.api.subscribe("console", sink.url)
    relay.api.publish(event(1), event(2))
    settle(relay, sink)
    relay.restart()
    relay.api.publish(event(3))
    settle(relay, sink)
    lost_by_the_receiver = sink.numbers(came=True)["k1"]
    assert sorted(set(lost_by_the_receiver)) == [1, 2, 3]
    assert sink.numbers()["k1"][-1] == 3, "what it took is not sent once more after newer ones"


@pytest.mark.parametrize("point", ["handler", "answer"])
def test_row_39_the_library_answers_for_what_it_has_committed(
    relay: RelayProcess, tmp_path: Path, point: str
) -> None:
    secret = relay.api.subscribe("console", "http://127.0.0.1:9/", receiver="library")["config"]["secret"]
    options: dict[str, Any] = {"secret": secret, "dies_in": point, "dies_of": "k1-2"}
    with ReceiverProcess(tmp_path, "receiver", **options) as receiver:
        relay.api.subscribe("console", receiver.url, receiver="library")
        relay.api.publish(*(event(number) for number in (1, 2, 3)))
        assert receiver.ended() == KILLED
        applied = [one.id for one in read_history(receiver.history)]
        assert applied == (["k1-1"] if point == "handler" else ["k1-1", "k1-2"])
        receiver.start()
        until(lambda: relay.api.drained("console"), "all arrives")
        check_applied(read_history(receiver.history), Log.read(relay.api), once=True)


def test_row_40_free_resources_pass_thousands_of_blocked_ones(relay: RelayProcess, sink: Sink) -> None:
    blocked = [f"blocked-{number}" for number in range(5000)]
    not_now = Reply(503, (("retry-after", "3600"),))
    sink.behave = lambda delivery: not_now if delivery.key.startswith("blocked") else TAKEN
    relay.api.subscribe("console", sink.url)
    for number in range(1, 5):
        for first in range(0, len(blocked), 1000):
            relay.api.publish(*(event(number, key) for key in blocked[first : first + 1000]))
            relay.api.publish(*(event(number * 10 + first // 1000, key) for key in FREE))
    in_order = {key: [number * 10 + part for number in range(1, 5) for part in range(5)] for key in FREE}
    until(lambda: sink.numbers() == in_order, "all of the free ones arrives")
    until(lambda: relay.api.status("console")["held_lanes"] == len(blocked), "the blocked ones are held")
    assert {one.number for one in sink.deliveries if one.key.startswith("blocked")} == {1}

    relay.restart()
    relay.api.publish(*(event(99, key) for key in FREE))
    until(lambda: all(numbers[-1] == 99 for numbers in sink.numbers().values()), "and after a restart")
    assert relay.api.status("console")["held_lanes"] == len(blocked)
    waiting = relay.api.call("GET", "/subscriptions/console/lanes", limit=10).must(200)["items"]
    assert {lane["waiting"] for lane in waiting} == {4}
