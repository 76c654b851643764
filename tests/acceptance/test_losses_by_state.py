# SPDX-License-Identifier: Apache-2.0
"""Where others lose events since something is off, over or asked for twice (L4 to L18 of webhook-peers)."""

from __future__ import annotations

import contextlib
import http.client
from typing import Any

import pytest

from tests.acceptance.api import event
from tests.acceptance.history import Excused, Log, check_applied
from tests.acceptance.processes import KILLED, RelayProcess
from tests.acceptance.sinks import FAILED, TAKEN, Delivery, Reply, Sink
from tests.acceptance.waiting import until

KEYS = [f"k{number}" for number in range(10)]


def settle(relay: RelayProcess, sink: Sink) -> None:
    until(lambda: relay.api.drained("console"), lambda: f"all arrives: {relay.api.status('console')}")
    check_applied(sink.history, Log.read(relay.api), once=False)


def post(relay: RelayProcess, what: str, document: Any = None) -> Any:
    return relay.api.call("POST", f"/subscriptions/console/{what}", document).must(200, 202)


def parked(relay: RelayProcess) -> bool:
    return bool(relay.api.lanes("console", "parked"))


def test_loss_L4_a_replay_survives_a_crash_and_passes_nothing_over(relay: RelayProcess, sink: Sink) -> None:
    def kills_amid_the_replay(delivery: Delivery) -> Reply | None:
        if delivery.event["flgeneration"] == str(replay["generation"]) and delivery.number == 3:
            sink.behave = lambda delivery: TAKEN
            relay.kill()
        return TAKEN

    relay.api.subscribe("console", sink.url)
    relay.api.publish(*(event(number, key) for number in range(1, 6) for key in KEYS))
    settle(relay, sink)
    post(relay, "pause")
    replay = post(relay, "replay", {"time": "2000-01-01T00:00:00Z"})
    assert replay["events"] == 5 * len(KEYS)
    sink.behave = kills_amid_the_replay
    with contextlib.suppress(OSError, http.client.HTTPException):  # the kill may come before the answer
        post(relay, "resume")
    assert relay.ended() == KILLED

    relay.start()
    assert relay.api.status("console")["generation"] == replay["generation"]
    settle(relay, sink)
    replayed = [one for one in sink.history if one.generation == replay["generation"]]
    assert {one.id for one in replayed} == {f"{key}-{number}" for key in KEYS for number in range(1, 6)}


def test_loss_L9_retries_that_are_used_up_park_the_lane_and_keep_its_events(
    relay: RelayProcess, sink: Sink
) -> None:
    sink.behave = lambda delivery: FAILED if delivery.key == "k0" else TAKEN
    relay.api.subscribe("console", sink.url, retry={"first": "10ms", "max": "10ms", "max_attempts": 3})
    relay.api.publish(*(event(number, key) for number in (1, 2, 3) for key in KEYS))
    until(lambda: parked(relay), "the lane is parked")
    assert [one.number for one in sink.deliveries if one.key == "k0"] == [1, 1, 1]

    relay.restart()
    assert relay.api.status("console")["parked_lanes"] == 1
    log = Log.read(relay.api)
    check_applied(sink.history, log, excused=Excused.read(relay.api, "console"), once=False)
    sink.behave = lambda delivery: TAKEN
    assert post(relay, "lanes/release", {"state": "parked"}) == {"affected": 1}
    settle(relay, sink)


@pytest.mark.parametrize("inactive", ["paused", "disabled", "stopped"])
def test_loss_L11_an_inactive_target_keeps_its_events(relay: RelayProcess, sink: Sink, inactive: str) -> None:
    become(relay, sink, inactive)
    relay.api.publish(*(event(number, key) for number in (2, 3) for key in KEYS))
    relay.restart()
    relay.api.publish(*(event(4, key) for key in KEYS))
    assert relay.api.status("console")["state"] == inactive
    assert {one.number for one in sink.deliveries} <= {1}

    sink.behave = lambda delivery: TAKEN
    post(relay, "resume")
    settle(relay, sink)
    assert {key: sorted(set(numbers)) for key, numbers in sink.numbers().items()} == {
        key: [1, 2, 3, 4] for key in KEYS
    }


def become(relay: RelayProcess, sink: Sink, state: str) -> None:
    """Bring the subscription into that state, with one event of each key published."""
    sink.behave = lambda delivery: Reply(410) if state == "disabled" else FAILED
    retry = {"first": "10ms", "max": "10ms", "max_attempts": 1}
    relay.api.subscribe("console", sink.url, retry=retry, on_exhausted="stop")
    if state == "paused":
        post(relay, "pause")
    relay.api.publish(*(event(1, key) for key in KEYS))
    until(lambda: relay.api.status("console")["state"] == state, f"the subscription is {state}")


def test_loss_L13_retries_that_come_due_while_a_target_is_disabled_are_not_dropped(
    relay: RelayProcess, sink: Sink
) -> None:
    sink.behave = lambda delivery: FAILED
    relay.api.subscribe("console", sink.url)
    relay.api.publish(*(event(number, key) for number in (1, 2) for key in KEYS))
    until(lambda: relay.api.lanes("console", "held"), "retries are scheduled")
    sink.behave = lambda delivery: Reply(410)
    until(lambda: relay.api.status("console")["state"] == "disabled", "the target says that it is gone")
    sink.behave = lambda delivery: TAKEN
    relay.restart()  # whatever comes due, comes due meanwhile
    relay.api.publish(*(event(3, key) for key in KEYS))
    assert relay.api.status("console")["state"] == "disabled"
    assert sink.taken == []

    post(relay, "resume")
    settle(relay, sink)
    assert {key: sorted(set(numbers)) for key, numbers in sink.numbers().items()} == {
        key: [1, 2, 3] for key in KEYS
    }


def test_loss_L18_the_second_retry_by_hand_is_made_like_the_first(relay: RelayProcess, sink: Sink) -> None:
    sink.behave = lambda delivery: FAILED
    relay.api.subscribe("console", sink.url, retry={"first": "10ms", "max": "10ms", "max_attempts": 1})
    relay.api.publish(event(1), event(2))
    until(lambda: parked(relay), "the lane is parked")
    for attempt in range(2, 6):
        assert post(relay, "lanes/retry", {"key": "/heat k1"}) == {"affected": 1}
        until(lambda attempt=attempt: len(sink.deliveries) == attempt, f"attempt {attempt} is made")  # type: ignore[misc]
        until(lambda: parked(relay), "and has failed")
    sink.behave = lambda delivery: TAKEN
    post(relay, "lanes/retry", {"key": "/heat k1"})
    settle(relay, sink)
    assert sink.numbers() == {"k1": [1, 2]}
