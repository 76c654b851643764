# SPDX-License-Identifier: Apache-2.0
"""Receivers on a real broker while processes, nodes and queues are killed: all is applied, in order, once."""

from __future__ import annotations

import http.client
import json
import random
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from fairlead.testing.receiver_kit import ReceiverKit, SignedRequest
from tests.acceptance.bus_receivers import BusReceiver, Owed, bus_receivers, effects
from tests.acceptance.relay_process import Program, run
from tests.acceptance.waiting import until
from tests.contract.receiving import SECRET, event
from tests.contract.relay_end import QUEUE, RelayEnd, relay_end
from tests.servers.rabbitmq import RabbitNode, RabbitNodes, settled_declares


@pytest.fixture
def relay(rabbitmq: RabbitNode) -> Iterator[RelayEnd]:
    with relay_end(rabbitmq) as relay:
        yield relay


def reached(receiver: BusReceiver, effects: int) -> bool:
    return receiver.applied() >= effects


def test_kill_9_of_the_receiver_with_unsettled_messages(relay: RelayEnd, tmp_path: Path) -> None:
    with bus_receivers(tmp_path, relay) as (receiver,), Owed(relay, keys=20, each=20) as owed:
        for target in (20, 110, 200, 290):
            until(partial(reached, receiver, target), f"{target} are applied")
            receiver.kill()
            receiver.start()
        owed.settled()
        assert effects(receiver.inbox) == owed.wanted


def test_kill_9_of_the_broker_in_the_middle(rabbitmq_nodes: RabbitNodes, tmp_path: Path) -> None:
    node = rabbitmq_nodes.node()
    with relay_end(node) as relay, bus_receivers(tmp_path, relay) as (receiver,):
        settled_declares()
        with Owed(relay, keys=20, each=30) as owed:
            until(lambda: receiver.applied() >= 100, "some are applied")
            node.restart()
            owed.settled()
        assert effects(receiver.inbox) == owed.wanted
        assert "Not consuming" in receiver.said
        assert receiver.said.count("Consuming") == 2
        assert "Traceback" not in receiver.said


def test_the_queue_is_deleted_in_the_middle(relay: RelayEnd, tmp_path: Path) -> None:
    with bus_receivers(tmp_path, relay) as (receiver,), Owed(relay, keys=10, each=20) as owed:
        until(lambda: receiver.applied() >= 40, "some are applied")
        with relay_end(relay.node, relay.vhost) as operator:
            operator.channel.queue_delete(QUEUE)
            until(lambda: "NOT_FOUND" in receiver.said or "is gone" in receiver.said, lambda: receiver.said)
            operator.declare()
        owed.settled()
        assert effects(receiver.inbox) == owed.wanted


def test_the_single_active_consumer_moves_between_processes_that_share_an_inbox(
    relay: RelayEnd, tmp_path: Path
) -> None:
    with bus_receivers(tmp_path, relay, count=2) as receivers, Owed(relay, keys=20, each=25) as owed:
        for round in range(4):
            until(partial(reached, receivers[0], 60 * (round + 1)), "some more are applied")
            victim = receivers[round % 2]
            victim.kill()
            victim.start()
        owed.settled()
        assert effects(receivers[0].inbox) == owed.wanted


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_as_it_is_told_and_leaves_the_rest_in_the_queue(
    by: signal.Signals, relay: RelayEnd, tmp_path: Path
) -> None:
    kit = ReceiverKit(SECRET, bus=True)
    relay.publish(*[kit.deliver(event(n, f"k{n % 50}")) for n in range(500)])
    with bus_receivers(tmp_path, relay) as (receiver,):
        until(lambda: receiver.applied() >= 10, "some are applied")
        assert receiver.end(by) == 0
        assert ("interrupted" in receiver.said) == (by is signal.SIGINT)
        done = receiver.applied()
        assert "ended" in receiver.said
        until(lambda: relay.depth() == 500 - done, "what was not begun waits in the queue")
        assert len(relay.read()) == done


def test_rest_and_bus_at_once_with_old_copies_that_come_late(relay: RelayEnd, tmp_path: Path) -> None:
    kit, dice = ReceiverKit(SECRET, bus=True), random.Random(3)
    requests = [kit.deliver(event(n // 10, f"k{n % 10}")) for n in range(200)]
    with bus_receivers(tmp_path, relay) as (receiver,):
        connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=60)
        late: list[SignedRequest] = []
        owed = list(requests)
        while owed:
            for request in owed:
                if dice.random() < 0.5:
                    relay.publish(request)
                else:
                    post(connection, kit.again(request))
                late.append(request)
                if dice.random() < 0.3:
                    old = dice.choice(late)
                    relay.publish(old)
                    post(connection, kit.again(old))
            until(lambda: relay.depth() == 0, "the queue is taken")
            position = {f"/heat k{key}": 0 for key in range(10)}
            for answer in relay.read():
                if answer.key is not None and answer.applied is not None:
                    position[answer.key] = max(position[answer.key], answer.applied)
            owed = [one for one in requests if is_owed(one, position)]
        connection.close()
        assert effects(receiver.inbox) == {f"/heat k{key}": list(range(20)) for key in range(10)}


def post(connection: http.client.HTTPConnection, request: SignedRequest) -> int:
    connection.request("POST", "/", request.body, dict(request.headers))
    response = connection.getresponse()
    response.read()
    assert response.status in (200, 425), response.status
    return response.status


def is_owed(request: SignedRequest, position: dict[str, int]) -> bool:
    assert request.stamps is not None
    key = next(
        key for key in position if f'"subject":"{key.removeprefix("/heat ")}"'.encode() in request.body
    )
    return request.stamps.pos > position[key]


# -- `fairlead listen` ---------------------------------------------------------------------------------------


def test_listen_takes_a_queue_in_order_and_answers(relay: RelayEnd, tmp_path: Path) -> None:
    kit = ReceiverKit(SECRET, bus=True)
    queue = ["--library", "--secret", SECRET, "--amqp", relay.url, "--queue", QUEUE]
    listener = Program(["listen", "--port", "0", *queue, "--count", "9", "--json"], tmp_path)
    relay.publish(*[kit.deliver(event(n, f"k{n % 3}")) for n in range(9)])
    assert relay.results(9) == ["applied"] * 9
    assert listener.wait() == 0
    assert any("order kept" in line for line in listener.err)
    assert sorted(json.loads(line)["data"]["n"] for line in listener.out) == list(range(9))


SIGNED = ["--library", "--secret", SECRET]
PUBLIC = ["--library", "--secret", f"whpk_{'A' * 43}=", "--amqp", "amqp://h/", "--queue", "q"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--amqp", "amqp://h/"], "belong together"),
        (["--queue", "q"], "belong together"),
        (["--amqp", "amqp://h/", "--queue", "q"], "--library and --secret"),
        ([*SIGNED, "--amqp", "http://u:pw@h", "--queue", "q"], "amqps://"),
        ([*SIGNED, "--amqp", "amqp://u:pw@h", "--queue", "q" * 256], "has 256 bytes; AMQP takes 255"),
        ([*SIGNED, "--answer-secret", SECRET], "give --amqp and --queue too"),
        (PUBLIC, "--answer-secret"),
        ([*PUBLIC, "--answer-secret", f"whsk_{'A' * 43}="], "does not begin with whsec_"),
        ([*PUBLIC, "--answer-secret", "whsec_Zm9v"], "this one 3"),
        (["--inbox", "inbox.db"], "give --library too"),
    ],
)
def test_listen_says_what_it_needs_for_a_queue(options: list[str], said: str, tmp_path: Path) -> None:
    done = run("listen", "--port", "0", *options, folder=tmp_path)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert said in done.err
    assert "pw" not in done.err.replace("user:pw", "")
