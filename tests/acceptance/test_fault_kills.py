# SPDX-License-Identifier: Apache-2.0
"""Rows 1 to 8 of the fault matrix: `kill -9` at named points of the way of an event."""

from __future__ import annotations

import http.client
import random
import sqlite3
from contextlib import closing, suppress

import pytest

from tests.acceptance.api import event
from tests.acceptance.history import Log, check_applied, repeats
from tests.acceptance.power import Call, Disk, When
from tests.acceptance.processes import KILLED, RelayProcess
from tests.acceptance.sinks import FAILED, TAKEN, Delivery, Reply, Sink
from tests.acceptance.waiting import until

NO_ANSWER = (OSError, http.client.HTTPException)


def killed_while_publishing(relay: RelayProcess, number: int) -> None:
    with pytest.raises(NO_ANSWER):
        relay.api.offer(event(number))
    assert relay.ended() == KILLED


def drained(relay: RelayProcess, *names: str) -> None:
    for name in names or ("console",):
        until(
            lambda name=name: relay.api.drained(name),  # type: ignore[misc]
            lambda name=name: f"{name} has all: {relay.api.status(name)} {relay.said}",  # type: ignore[misc]
        )


def check(relay: RelayProcess, sink: Sink) -> None:
    """Everything in the log reached the sink, in order."""
    drained(relay)
    check_applied(sink.history, Log.read(relay.api), once=False)


def test_row_01_kill_before_the_append_commits(watched_relay: RelayProcess, disk: Disk, sink: Sink) -> None:
    relay = watched_relay
    relay.api.subscribe("console", sink.url)
    disk.kill_at("write", "before")
    killed_while_publishing(relay, 1)

    relay.start()
    assert list(relay.api.items("/events")) == []
    (accepted,) = relay.api.publish(event(1))
    assert not accepted["duplicate"]
    check(relay, sink)
    assert sink.numbers() == {"k1": [1]}


def test_row_02_kill_after_the_commit_and_before_the_202(
    watched_relay: RelayProcess, disk: Disk, sink: Sink
) -> None:
    relay = watched_relay
    relay.api.subscribe("console", sink.url)
    disk.kill_at("sync", "after")
    killed_while_publishing(relay, 1)

    relay.start()
    (accepted,) = relay.api.publish(event(1))
    assert accepted["duplicate"]
    check(relay, sink)
    assert sink.numbers() == {"k1": [1]}


def test_row_03_kill_after_send_before_response(relay: RelayProcess, sink: Sink) -> None:
    def kills_at_the_second(delivery: Delivery) -> Reply | None:
        if delivery.number == 2 and [one.number for one in sink.deliveries].count(2) == 1:
            relay.kill()
        return TAKEN

    sink.behave = kills_at_the_second
    relay.api.subscribe("console", sink.url)
    relay.api.publish(*(event(number) for number in (1, 2, 3)))
    assert relay.ended() == KILLED
    relay.start()
    check(relay, sink)
    assert sink.numbers(came=True) == {"k1": [1, 2, 2, 3]}
    first, again = (one for one in sink.deliveries if one.number == 2)
    assert first.headers["webhook-id"] == again.headers["webhook-id"]


@pytest.mark.parametrize("seed", range(3))
def test_row_04_kill_after_2xx_before_flush_repeats_at_most_the_last_event_of_a_key(
    watched_relay: RelayProcess, disk: Disk, sink: Sink, seed: int
) -> None:
    relay, keys = watched_relay, [f"k{number}" for number in range(8)]
    relay.api.subscribe("console", sink.url, start="beginning")
    relay.api.call("POST", "/subscriptions/console/pause").must(200)
    relay.api.publish(*(event(number, key) for number in range(1, 6) for key in keys))
    disk.kill_at("write", "before", random.Random(seed).randrange(1, 40))
    with suppress(*NO_ANSWER):  # it may be killed as early as that
        relay.api.call("POST", "/subscriptions/console/resume")
    assert relay.ended() == KILLED

    relay.start()
    relay.api.call("POST", "/subscriptions/console/resume").must(200)
    check(relay, sink)
    for numbers in sink.numbers(came=True).values():
        assert numbers == sorted(numbers), "an older event came after a newer one"
        assert repeats(numbers) <= 1


@pytest.mark.parametrize("point", [
    ("write", "before", 1), ("write", "before", 2), ("write", "after", 2), ("write", "before", 4),
    ("sync", "before", 1), ("sync", "after", 1),
])  # fmt: skip
def test_row_05_kill_during_a_flush_leaves_old_or_new_progress(
    watched_relay: RelayProcess, disk: Disk, sink: Sink, point: tuple[Call, When, int]
) -> None:
    relay = watched_relay

    def kills_at_the_flush(delivery: Delivery) -> Reply | None:
        if delivery.number == 2:
            disk.kill_at(*point)
        return TAKEN

    sink.behave = kills_at_the_flush
    relay.api.subscribe("console", sink.url)
    relay.api.publish(*(event(number) for number in range(1, 6)))
    assert relay.ended() == KILLED

    sink.behave = lambda delivery: TAKEN
    relay.start()
    check(relay, sink)
    numbers = sink.numbers(came=True)["k1"]
    assert numbers == sorted(numbers)
    assert repeats(numbers) <= 1


@pytest.mark.parametrize(("call", "when"), [("write", "before"), ("write", "after"), ("sync", "after")])
def test_row_06_kill_while_a_hold_is_written_sends_the_head_again(
    watched_relay: RelayProcess, disk: Disk, sink: Sink, call: Call, when: When
) -> None:
    relay = watched_relay

    def kills_at_the_hold(delivery: Delivery) -> Reply | None:
        disk.kill_at(call, when)
        return FAILED

    sink.behave = kills_at_the_hold
    relay.api.subscribe("console", sink.url, retry={"first": "1h", "max": "1h", "jitter": "none"})
    relay.api.publish(event(1), event(2), event(3))
    assert relay.ended() == KILLED

    sink.behave = lambda delivery: TAKEN
    relay.start()
    until(lambda: sink.taken or relay.api.lanes("console"), "the head is sent again, or its lane is held")
    held = relay.api.lanes("console")
    if held:
        assert (held[0]["head"]["id"], held[0]["attempt"]) == ("k1-1", 1)
        relay.api.call("POST", "/subscriptions/console/lanes/retry", {"key": "/heat k1"}).must(200)
    check(relay, sink)
    assert sink.numbers() == {"k1": [1, 2, 3]}


def epochs(relay: RelayProcess) -> int:
    """The greatest epoch that the store of a dead relay holds."""
    with closing(sqlite3.connect(relay.store)) as store:
        return int(store.execute("SELECT max(epoch) FROM channel").fetchone()[0])


@pytest.mark.parametrize(("call", "when"), [("write", "before"), ("sync", "before"), ("sync", "after")])
def test_row_07_kill_between_the_epoch_and_the_next_delivery(
    watched_relay: RelayProcess, disk: Disk, sink: Sink, call: Call, when: When
) -> None:
    relay, told = watched_relay, 40

    def has_seen_a_newer_epoch(delivery: Delivery) -> Reply | None:
        if int(delivery.event["flepoch"]) > told:
            return answered(delivery)
        if len(sink.deliveries) == 1:
            disk.kill_at(call, when)
        return stale(delivery, told)

    sink.behave = has_seen_a_newer_epoch
    relay.api.subscribe("console", sink.url, receiver="library")
    relay.api.publish(event(1), event(2))
    assert relay.ended() == KILLED
    durable, before = epochs(relay), len(sink.deliveries)

    relay.start()
    drained(relay)
    after = [int(one.event["flepoch"]) for one in sink.deliveries[before:]]
    assert min(after) > durable, "a delivery carried an epoch that was raised before"
    assert after == sorted(after)
    assert sink.numbers() == {"k1": [1, 2]}


def test_row_08_kill_amid_a_resend_resumes_where_it_was(relay: RelayProcess, sink: Sink) -> None:
    def kills_amid_the_resend(delivery: Delivery) -> Reply | None:
        if delivery.number == 8 and not resumed:
            resumed.append(delivery)
            relay.kill()
        return TAKEN

    resumed: list[Delivery] = []
    sink.behave = lambda delivery: FAILED
    relay.api.subscribe("console", sink.url)
    relay.api.publish(*(event(number) for number in range(1, 16)))
    until(lambda: relay.api.lanes("console", "held"), "the lane is held")
    sink.deliveries.clear()
    sink.behave = kills_amid_the_resend
    assert relay.ended() == KILLED

    relay.start()
    check(relay, sink)
    assert sink.taken[7].number == 8
    assert sink.numbers() == {"k1": [*range(1, 9), *range(8, 16)]}


def answered(delivery: Delivery) -> Reply:
    """What a receiver with the library says of an event that it has applied."""
    stamps = delivery.event
    settled = stamps["flfloor"] if delivery.is_fence else stamps["flpos"]
    answer = {
        "subscription": stamps["flsubscription"],
        "partition": int(stamps["flpartition"]),
        "generation": int(stamps["flgeneration"]),
        "epoch": int(stamps["flepoch"]),
        "result": "fence" if delivery.is_fence else "applied",
    }
    if not delivery.is_fence:
        answer |= {"key": delivery.applied.key, "applied": int(settled)}
    return Reply.json(200, answer)


def stale(delivery: Delivery, epoch: int) -> Reply:
    """What it says of an epoch that is not the newest it has seen."""
    generation = int(delivery.event["flgeneration"])
    return Reply.json(
        409, {"type": "urn:fairlead:problem:stale", "generation": generation, "epoch": epoch}, problem=True
    )
