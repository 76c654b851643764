# SPDX-License-Identifier: Apache-2.0
"""`Receiver.consume` against a real RabbitMQ."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fairlead import Receiver
from fairlead.errors import StoreForeign
from fairlead.sdk.bus.consuming import ReceiverBus
from fairlead.sdk.bus.deliveries import BusMessage
from fairlead.sdk.inbox.sqlite_inbox import SqliteInbox
from fairlead.testing.receiver_kit import ReceiverKit, bus_message
from tests.acceptance.waiting import until
from tests.contract.receiving import OTHER_SECRET, SECRET, Taken, event, receiver_at, send
from tests.contract.relay_end import QUEUE, REPLIES, RelayEnd, consuming, relay_end
from tests.servers.rabbitmq import RabbitNode

DEADLINE_SECONDS = 60.0


@pytest.fixture
def relay(rabbitmq: RabbitNode) -> Iterator[RelayEnd]:
    with relay_end(rabbitmq) as relay:
        yield relay


@pytest.fixture
def taken() -> Taken:
    return Taken()


@pytest.fixture
def receiver(tmp_path: Path, taken: Taken) -> Iterator[Receiver]:
    receiver = receiver_at(tmp_path, taken)
    yield receiver
    receiver.close()


def kit() -> ReceiverKit:
    return ReceiverKit(SECRET, bus=True)


def test_events_are_applied_in_order_answered_and_settled(
    relay: RelayEnd, receiver: Receiver, taken: Taken
) -> None:
    sender = kit()
    with consuming(receiver, relay):
        relay.publish(*[sender.deliver(event(n, f"k{n % 3}")) for n in range(60)])
        assert relay.results(60) == ["applied"] * 60
    for key in range(3):
        mine = [n for n in taken.numbers if n % 3 == key]
        assert mine == sorted(mine)
    assert sorted(taken.numbers) == list(range(60))
    assert relay.depth() == 0
    assert {answer.seq for answer in relay.answers} == set(range(1, 61))


def test_each_result_is_answered_but_stale(relay: RelayEnd, receiver: Receiver, taken: Taken) -> None:
    sender = kit()
    first = sender.deliver(event(1))
    taken.fail = lambda n: ValueError("later") if n == 7 else None
    with consuming(receiver, relay):
        relay.publish(first, first, sender.out_of_chain(event(2)), sender.deliver(event(7, "k7")))
        assert sorted(relay.results(4)) == ["applied", "chain", "duplicate", "failed"]
        relay.publish(sender.fence())
        assert relay.results(5)[-1] == "fence"
        relay.publish(sender.stale(event(3)), sender.deliver(event(8, "k8")))
        assert relay.results(6)[-1] == "applied"
    assert relay.depth() == 0
    assert len(relay.read()) == 6


def test_what_no_relay_has_sent_does_not_stop_the_queue(
    relay: RelayEnd, receiver: Receiver, taken: Taken, caplog: pytest.LogCaptureFixture
) -> None:
    sender = kit()
    good = bus_message(sender.deliver(event(1)), REPLIES)
    with consuming(receiver, relay):
        relay.publish(
            BusMessage({}, None, b""),
            replace(good, headers={"webhook-timestamp": 7, "webhook-signature": [b"x"], "t": {"u": None}}),
            bus_message(ReceiverKit(OTHER_SECRET, bus=True).deliver(event(5))),
            replace(good, body=b"x" * (9 * 1024 * 1024)),
            replace(good, reply_to="somebody.elses.queue"),
            sender.deliver(event(2)),
        )
        until(lambda: taken.numbers == [1, 2], "both events are taken")
        assert relay.results(1) == ["applied"]
    assert relay.depth() == 0
    assert caplog.text.count("no delivery of a relay") == 4


def test_a_file_that_is_no_inbox_is_said_at_once_and_nothing_is_taken(
    relay: RelayEnd, tmp_path: Path
) -> None:
    (tmp_path / "inbox.db").write_text("no database, " * 100)
    relay.publish(kit().deliver(event(1)))
    receiver = receiver_at(tmp_path, Taken())
    with pytest.raises(StoreForeign, match=r"inbox\.db"):
        receiver.consume(relay.url, QUEUE)
    receiver.close()
    assert relay.depth() == 1


def test_a_slow_resource_does_not_hold_others_up(relay: RelayEnd, tmp_path: Path) -> None:
    leave = threading.Event()
    taken: list[int] = []

    def handler(event: object, transaction: object) -> None:
        n = event.data["n"]  # type: ignore[attr-defined]
        if n == 0:
            assert leave.wait(DEADLINE_SECONDS)
        taken.append(n)

    receiver, sender = receiver_at(tmp_path, handler), kit()
    slow = [sender.deliver(event(n, "slow")) for n in range(300)]
    quick = [sender.deliver(event(n, f"k{n}")) for n in range(1000, 1020)]
    with consuming(receiver, relay):
        relay.publish(*slow, *quick)
        assert relay.results(20) == ["applied"] * 20
        leave.set()
        assert relay.results(320) == ["applied"] * 320
    assert sorted(taken[:20]) == list(range(1000, 1020))
    assert taken[20:] == list(range(300))
    receiver.close()


def test_an_async_handler_takes_events_from_a_bus(relay: RelayEnd, tmp_path: Path) -> None:
    taken: list[int] = []

    async def handler(event: object, transaction: object) -> None:
        taken.append(event.data["n"])  # type: ignore[attr-defined]

    receiver, sender = receiver_at(tmp_path, handler), kit()
    with consuming(receiver, relay):
        relay.publish(*[sender.deliver(event(n)) for n in range(5)])
        assert relay.results(5) == ["applied"] * 5
    assert taken == list(range(5))
    receiver.close()


def test_rest_and_bus_lead_into_one_inbox(relay: RelayEnd, receiver: Receiver, taken: Taken) -> None:
    sender = kit()
    requests = [sender.deliver(event(n)) for n in range(6)]
    with consuming(receiver, relay):
        relay.publish(requests[0])
        assert relay.results(1) == ["applied"]
        assert send(receiver, requests[1]).status == 200
        relay.publish(requests[1], requests[3])
        assert relay.results(3) == ["applied", "duplicate", "chain"]
        assert send(receiver, requests[2]).status == 200
        relay.publish(*requests[1:])
        assert relay.results(8)[3:] == ["duplicate", "duplicate", "applied", "applied", "applied"]
    assert taken.numbers == list(range(6))


def test_an_inbox_that_is_busy_is_waited_for_in_order(
    relay: RelayEnd, receiver: Receiver, taken: Taken, tmp_path: Path
) -> None:
    receiver.inbox = SqliteInbox(tmp_path / "inbox.db", lock_wait_seconds=0.1)
    sender = kit()
    held = receiver.inbox.begin(sender.channel, event().key)
    with consuming(receiver, relay):
        relay.publish(*[sender.deliver(event(n)) for n in range(3)], sender.deliver(event(9, "other")))
        assert relay.results(1) == ["applied"]
        assert taken.numbers == [9]
        held.rollback()
        assert relay.results(4) == ["applied"] * 4
    assert taken.numbers == [9, 0, 1, 2]


def test_stop_leaves_what_has_not_begun_to_the_next(relay: RelayEnd, tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()
    taken: list[int] = []

    def handler(event: object, transaction: object) -> None:
        entered.set()
        assert leave.wait(DEADLINE_SECONDS)
        taken.append(event.data["n"])  # type: ignore[attr-defined]

    receiver, sender = receiver_at(tmp_path, handler), kit()
    relay.publish(*[sender.deliver(event(n)) for n in range(5)])
    with consuming(receiver, relay):
        assert entered.wait(DEADLINE_SECONDS)
        receiver.stop()
        leave.set()
    assert taken == [0]
    assert relay.results(1) == ["applied"]
    until(lambda: relay.depth() == 4, "the others are in the queue again")
    with consuming(receiver, relay):
        assert relay.results(5) == ["applied"] * 5
    assert taken == list(range(5))
    receiver.close()


def test_close_ends_consume(relay: RelayEnd, receiver: Receiver) -> None:
    with consuming(receiver, relay) as thread:
        relay.publish(kit().deliver(event(1)))
        assert relay.results(1) == ["applied"]
        receiver.close()
        thread.join(DEADLINE_SECONDS)
        assert not thread.is_alive()


def test_a_stop_that_comes_before_it_is_connected_counts(
    relay: RelayEnd, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(self: ReceiverBus, *args: Any, **options: Any) -> None:
        receiver.stop()
        original(self, *args, **options)

    original = ReceiverBus.__init__
    monkeypatch.setattr(ReceiverBus, "__init__", late)
    receiver.consume(relay.url, QUEUE)


def test_a_queue_that_is_not_there_yet_is_waited_for(
    relay: RelayEnd, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    relay.channel.queue_delete(QUEUE)
    with consuming(receiver, relay):
        until(lambda: "NOT_FOUND" in caplog.text, "it says what is missing")
        relay.declare()
        relay.publish(kit().deliver(event(1)))
        assert relay.results(1) == ["applied"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("guest:guest@", "guest:wrong@"), "does not accept the login"),
        (("/v", "/nowhere"), "virtual host"),
        (("guest:guest@127.0.0.1", "guest:guest@nowhere.invalid"), "nowhere.invalid"),
    ],
)
def test_what_keeps_it_from_consuming_is_said_without_the_password(
    change: tuple[str, str], said: str, relay: RelayEnd, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    with consuming(receiver, relay, urls=relay.url.replace(*change)):
        until(lambda: said in caplog.text, lambda: f"{said} in {caplog.text}")
    assert "wrong" not in caplog.text
    assert "Traceback" not in caplog.text


def test_one_of_several_addresses_is_enough(relay: RelayEnd, receiver: Receiver) -> None:
    with consuming(receiver, relay, urls=["amqp://guest:guest@127.0.0.1:1/x", relay.url]):
        relay.publish(kit().deliver(event(1)))
        assert relay.results(1) == ["applied"]


@pytest.mark.parametrize("url", ["http://x", "mq.example", "", [], "amqp://h:port/"])
def test_a_url_that_is_none_is_refused_at_once(url: str | list[str], receiver: Receiver) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the sentence is the driver's
        receiver.consume(url, QUEUE)


def test_a_queue_that_amqp_cannot_name_is_refused_at_once(receiver: Receiver) -> None:
    with pytest.raises(ValueError, match="queue has 256 bytes"):
        receiver.consume("amqp://h/", "ä" * 128)


def test_without_the_amqp_library_it_says_what_to_install(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["pika"] = None
from fairlead import Receiver
receiver = Receiver(print, secrets=[sys.argv[1]], inbox=sys.argv[2])
receiver.handle("POST", {}, b"")
try:
    receiver.consume("amqp://h/", "q")
except ModuleNotFoundError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, SECRET, str(tmp_path / "inbox.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pip install 'fairlead[amqp]'" in done.stdout
