# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a bus: each is said where one looks, REST takes over, and mended it works."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pika
import pytest

from tests.acceptance.api import event
from tests.acceptance.bus_route import NAME, QUEUE, SOON, BusRoute, bus_route, with_login
from tests.acceptance.history import Log, check_applied
from tests.acceptance.processes import ReceiverProcess, RelayProcess, fairlead
from tests.acceptance.receiver_process import read_history
from tests.acceptance.waiting import free_port, until
from tests.contract.receiving import OTHER_SECRET, SECRET
from tests.servers.rabbitmq import RabbitNode

KEYS = [f"k{number}" for number in range(6)]
EVENTS = 2 * len(KEYS)
PASSWORD = "not-to-be-told"
QUORUM = {"x-queue-type": "quorum", "x-single-active-consumer": True}


@dataclass(frozen=True)
class Wrong:
    """One thing that is wrong with a bus.

    Attributes:
        said: why a channel is not on it.
        mend: what an operator does about it, given the name of subscription and queue.
    """

    name: str
    sink: str
    said: str
    mend: Callable[[str], object]
    settings: dict[str, Any] = field(default_factory=dict)
    credential: dict[str, str] | None = None
    vhost: str = ""

    def subscribe(self, relay: RelayProcess, end: str, sink: str | None = None, **config: Any) -> None:
        """Under the fault's name with an ending; each has a queue of its own."""
        name = f"{self.name}-{end}"
        relay.api.subscribe(
            name,
            sink or self.sink,
            protocolsettings={**self.settings, "queue": name},
            sinkcredential=self.credential,
            secret=SECRET,
            **config,
        )


class Broker:
    """A virtual host, and who operates it."""

    def __init__(self, node: RabbitNode) -> None:
        self.node, self.vhost = node, node.add_vhost()

    def operate(self, what: Callable[[Any], object], vhost: str = "") -> Any:
        """Do something by another client."""
        url = with_login(self.node.url(vhost or self.vhost)) + "?heartbeat=0"
        with closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
            return what(connection.channel())

    def waiting(self, queue: str, vhost: str = "") -> int:
        """How many messages are ready."""
        answer = self.operate(lambda channel: channel.queue_declare(queue, passive=True), vhost)
        return int(answer.method.message_count)

    def make(self, queue: str) -> None:
        """As the relay wants it."""

        def inside(channel: Any) -> None:
            channel.queue_declare(queue, durable=True, arguments=QUORUM)
            channel.queue_bind(queue, "fairlead", queue)

        self.operate(inside)

    def make_another(self, queue: str) -> None:
        """One of the same name that is not as the relay wants it."""
        self.operate(lambda channel: channel.queue_declare(queue, durable=True))

    def delete(self, queue: str) -> None:
        self.operate(lambda channel: channel.queue_delete(queue))


@pytest.fixture
def broker(rabbitmq: RabbitNode) -> Broker:
    return Broker(rabbitmq)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[ReceiverProcess]:
    """With the library, over REST alone."""
    with ReceiverProcess(tmp_path, "receiver", secret=SECRET) as receiver:
        yield receiver


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayProcess]:
    with RelayProcess(tmp_path, SOON) as relay:
        yield relay


def wrongs(relay: RelayProcess, broker: Broker) -> list[Wrong]:
    """All that is wrong."""
    node, vhost, here = broker.node, broker.vhost, broker.node.url(broker.vhost)
    user, nowhere, port = f"user-{vhost}", f"nowhere-{vhost}", free_port()
    login = {"credentialtype": "PLAIN", "identifier": user, "secret": PASSWORD}
    broker.operate(lambda channel: channel.exchange_declare("fairlead", "direct", durable=True))
    for end in ("rest", "alone"):
        broker.make_another(f"arguments-{end}")
    address = Wrong(
        "address",
        f"amqp://127.0.0.1:{port}/",
        f"connection refused by 127.0.0.1:{port}",
        lambda name: address.subscribe(relay, "alone", here, settles="confirm", failover="off"),
    )
    return [
        address,
        Wrong(
            "login",
            here,
            f"does not accept the login of user '{user}'",
            lambda name: node.add_user(user, PASSWORD, vhost),
            credential=login,
        ),
        Wrong(
            "vhost",
            node.url(nowhere),
            f"into the virtual host '{nowhere}'",
            lambda name: node.add_vhost(nowhere),
            vhost=nowhere,
        ),
        Wrong("arguments", here, "PRECONDITION_FAILED", broker.delete),
        Wrong("missing", here, "NOT_FOUND", broker.make, settings={"declare": False}),
    ]


def reasons(relay: RelayProcess, name: str) -> list[str]:
    return [str(one["reason"]) for one in relay.api.channels(name)]


def test_what_is_wrong_with_a_bus_is_said_and_costs_no_event(
    relay: RelayProcess, receiver: ReceiverProcess, broker: Broker
) -> None:
    found = wrongs(relay, broker)
    for wrong in found:
        route = [{"sink": receiver.url, "protocol": "HTTP"}]
        wrong.subscribe(relay, "rest", receiver="library", route=route)
        wrong.subscribe(relay, "alone", settles="confirm", failover="off")
    for number in (1, 2):
        relay.api.publish(*(event(number, key) for key in KEYS))
    for wrong in found:
        check_said(relay, wrong)
    check_rest(relay, receiver, found)
    check_doctor(relay, found)
    for wrong in found:
        alone = f"{wrong.name}-alone"
        assert relay.api.status(alone)["lag_events"] == EVENTS, "without REST they are kept"
        wrong.mend(alone)
    for wrong in found:
        alone = f"{wrong.name}-alone"
        until(lambda name=alone: relay.api.drained(name), lambda name=alone: told(relay, name))  # type: ignore[misc]
        assert broker.waiting(alone, wrong.vhost) == EVENTS
    assert PASSWORD not in relay.said
    assert "Traceback" not in relay.said, relay.said


def told(relay: RelayProcess, name: str) -> str:
    """All that explains a failure."""
    api = relay.api
    return f"{name}: {api.channels(name)}\n{api.status(name)}\n{api.lanes(name)}\n{relay.said[-3000:]}"


def check_said(relay: RelayProcess, wrong: Wrong) -> None:
    """The channels say what it is, and so does the status."""
    for name in (f"{wrong.name}-rest", f"{wrong.name}-alone"):
        until(
            lambda name=name: all(wrong.said in one for one in reasons(relay, name)),  # type: ignore[misc]
            lambda name=name: f"{wrong.said!r} is said by {told(relay, name)}",  # type: ignore[misc]
        )
        assert any(wrong.said in one["reason"] for one in relay.api.status(name)["routes"])


def check_rest(relay: RelayProcess, receiver: ReceiverProcess, found: list[Wrong]) -> None:
    """Whoever has REST behind it has everything."""
    log = Log.read(relay.api)
    for wrong in found:
        name = f"{wrong.name}-rest"
        until(lambda name=name: relay.api.drained(name), lambda name=name: told(relay, name))  # type: ignore[misc]
        history = [one for one in read_history(receiver.history) if one.subscription == name]
        check_applied(history, log, once=True)


def check_doctor(relay: RelayProcess, found: list[Wrong]) -> None:
    """It names each, as something to look at where REST delivers and as wrong where nothing does."""
    url = f"http://127.0.0.1:{relay.port}"
    done = fairlead("doctor", "--json", place=relay.place, FAIRLEAD_URL=url)
    assert done.returncode == 1, done.stdout
    findings = json.loads(done.stdout)["findings"]
    for wrong in found:
        for end, state in (("rest", "warning"), ("alone", "wrong")):
            check = f"subscription {wrong.name}-{end}"
            assert any(
                (one["check"], one["state"]) == (check, state) and wrong.said in one["detail"]
                for one in findings
            ), f"{check} is {state}: {findings}"
    login = [one for one in findings if "does not accept the login" in one["detail"]]
    assert all(one["remedy"].startswith("mend the login: ") for one in login), login
    assert PASSWORD not in done.stdout


def test_doctor_tells_a_receiver_that_is_not_there_from_one_that_cannot_answer(
    relay: RelayProcess, broker: Broker, tmp_path: Path
) -> None:
    url = broker.node.url(broker.vhost)
    relay.api.subscribe("mute", url, receiver="library", secret=SECRET, timeout="1s")
    relay.api.publish(event(1))

    def remedies() -> str:
        done = fairlead("doctor", "--json", place=relay.place, FAIRLEAD_URL=f"http://127.0.0.1:{relay.port}")
        found = [one for one in json.loads(done.stdout)["findings"] if one["check"] == "subscription mute"]
        return "\n".join(one["remedy"] for one in found)

    until(lambda: "see whether a receiver runs and consumes: " in remedies(), remedies)
    until(lambda: "a channel waits for its bus" in relay.said, "nothing else tells of it without REST")
    stranger = ReceiverProcess(
        tmp_path, "stranger", secret=OTHER_SECRET, bus=[with_login(url)], queue="fairlead.mute.0"
    )
    with stranger:
        until(lambda: "see the receiver's log" in remedies(), remedies)


@pytest.fixture
def frail_route(mortal_rabbitmq: RabbitNode, tmp_path: Path) -> Iterator[BusRoute]:
    with bus_route(tmp_path, mortal_rabbitmq) as route:
        yield route


def test_a_broker_that_takes_and_never_confirms_is_left(frail_route: BusRoute) -> None:
    route = frail_route
    route.publish([1], KEYS)
    route.settle()
    route.node.pause()
    route.publish(range(2, 5), KEYS)
    route.settle()
    route.until_delivered(range(2, 5), KEYS, target=1)
    assert any("confirm" in one for one in route.reasons()), route.story()

    route.node.resume()
    route.until_all("bus")
    route.publish([5], KEYS)
    route.settle()
    assert route.relay.api.channels(NAME)[0]["at_broker"] == 0
    with route.operator() as operator:
        assert operator.queue_declare(QUEUE, passive=True).method.consumer_count == 1


_FREEZE = """
Queue = whereis('VHOST_QUEUE'), true = is_pid(Queue),
Frost = fun() -> erlang:suspend_process(Queue), receive thaw -> ok end end,
register(frost, spawn(Frost)), ok.
"""


def test_what_keeps_a_channel_from_its_bus_is_said_when_it_is_no_longer_why_it_left(
    frail_route: BusRoute,
) -> None:
    route = frail_route
    route.publish([1], KEYS)
    route.settle()
    route.cable.cut()
    route.until_all("rest")
    route.node.ctl("eval", _FREEZE.replace("VHOST", route.vhost).replace("QUEUE", QUEUE))
    route.cable.restore()

    def obstacles() -> set[str | None]:
        return {one["obstacle"] for one in route.channels}

    until(lambda: obstacles() == {"the broker does not confirm what it was given"}, route.story)
    assert obstacles() == {one["obstacle"] for one in route.relay.api.status(NAME)["routes"]}
    until(lambda: route.relay.said.count("a bus that is up is of no use") == len(route.channels), route.story)
    url = f"http://127.0.0.1:{route.relay.port}"
    for command in (("status",), ("status", NAME), ("doctor",)):
        said = fairlead(*command, place=route.relay.place, FAIRLEAD_URL=url, COLUMNS="250").stdout
        assert "; now: the broker does not confirm what it was given" in said, said
    assert f"see the broker's log for the queue fairlead.{NAME}.…: has it a majority" in said

    route.node.ctl("eval", "frost ! thaw, ok.")
    route.until_all("bus")
    assert obstacles() == {None}
    route.publish([2], KEYS)
    route.settle()
