# SPDX-License-Identifier: Apache-2.0
"""Row 26 of the fault matrix: the wall clock jumps, under a running relay and between two runs."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.api import event
from tests.acceptance.history import Log, check_applied
from tests.acceptance.processes import ReceiverProcess, RelayProcess
from tests.acceptance.receiver_process import read_history
from tests.acceptance.sinks import FAILED, TAKEN, Sink
from tests.acceptance.waiting import until

HOUR = 3600
KEYS = ("k1", "k2")


class WallClock:
    """The wall clock of processes that are started with `environment`."""

    def __init__(self, place: Path) -> None:
        library = place / "shifted_clock.so"
        source = Path(__file__).with_name("shifted_clock.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-o", library, source, "-ldl"], check=True)
        self._file = place / "shift"
        self._file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(self._file)}

    def jump_to(self, seconds: int) -> None:
        """Be wrong by so much from now on."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", seconds))


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


@pytest.fixture
def jumpy(tmp_path: Path, clock: WallClock) -> Iterator[RelayProcess]:
    """A relay whose wall clock a test can move."""
    with RelayProcess(tmp_path, environment=clock.environment) as relay:
        yield relay


def publish(relay: RelayProcess, number: int) -> None:
    relay.api.publish(*(event(number, key) for key in KEYS))


def settle(relay: RelayProcess, sink: Sink) -> None:
    until(lambda: relay.api.drained("console"), lambda: f"all arrives: {relay.api.lanes('console')}")
    check_applied(sink.history, Log.read(relay.api), once=False)


def test_row_26_the_clock_that_a_test_moves_is_the_relays(jumpy: RelayProcess, clock: WallClock) -> None:
    publish(jumpy, 1)
    clock.jump_to(-HOUR)
    publish(jumpy, 2)
    accepted = [item["accepted_at"] for item in jumpy.api.items("/events", source="/heat", key="/heat k1")]
    assert accepted[1] < accepted[0]


@pytest.mark.parametrize("hours", [1, -1, 30 * 24, -30 * 24])
def test_row_26_a_jump_of_the_wall_clock_leaves_back_off_and_deliveries_alone(
    jumpy: RelayProcess, clock: WallClock, sink: Sink, hours: int
) -> None:
    sink.behave = lambda delivery: FAILED if delivery.key == "k1" else TAKEN
    jumpy.api.subscribe("console", sink.url)
    publish(jumpy, 1)
    until(lambda: jumpy.api.lanes("console", "held"), "the lane is held")
    clock.jump_to(hours * HOUR)
    came = len(sink.deliveries)
    until(lambda: len(sink.deliveries) >= came + 3, "the lane is tried again and again")
    sink.behave = lambda delivery: TAKEN
    publish(jumpy, 2)
    settle(jumpy, sink)
    clock.jump_to(0)
    publish(jumpy, 3)
    settle(jumpy, sink)


@pytest.mark.parametrize("hours", [1, -1, -30 * 24])
def test_row_26_a_jump_between_two_runs_holds_no_lane_for_longer_than_its_back_off(
    jumpy: RelayProcess, clock: WallClock, sink: Sink, hours: int
) -> None:
    sink.behave = lambda delivery: FAILED
    jumpy.api.subscribe("console", sink.url)
    publish(jumpy, 1)
    until(lambda: len(jumpy.api.lanes("console", "held")) == 2, "the lanes are held")
    jumpy.kill()
    clock.jump_to(hours * HOUR)
    sink.behave = lambda delivery: TAKEN
    jumpy.start()
    publish(jumpy, 2)
    settle(jumpy, sink)


def test_row_26_a_wrong_clock_is_a_signature_error_and_no_loss(
    jumpy: RelayProcess, clock: WallClock, tmp_path: Path
) -> None:
    secret = jumpy.api.subscribe("console", "http://127.0.0.1:9/", receiver="library")["config"]["secret"]
    with ReceiverProcess(tmp_path, "receiver", secret=secret) as receiver:
        jumpy.api.subscribe("console", receiver.url, receiver="library")
        publish(jumpy, 1)
        until(lambda: jumpy.api.drained("console"), "the first have arrived")
        clock.jump_to(HOUR)
        publish(jumpy, 2)
        until(
            lambda: {lane["last_outcome"]["status"] for lane in jumpy.api.lanes("console")} == {401},
            "the receiver finds the timestamp too far off",
        )
        clock.jump_to(0)
        until(lambda: jumpy.api.drained("console"), "all arrives when the clock is right again")
        check_applied(read_history(receiver.history), Log.read(jumpy.api), once=True)
