# SPDX-License-Identifier: Apache-2.0
"""A relay, a broker, REST behind it, and a receiver with the library on both: all of them real processes."""

from __future__ import annotations

import json
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pika

from tests.acceptance.api import event
from tests.acceptance.history import Applied, Log, check_applied
from tests.acceptance.processes import QUICK, ReceiverProcess, RelayProcess
from tests.acceptance.receiver_process import read_history
from tests.acceptance.waiting import until
from tests.contract.receiving import SECRET
from tests.servers.cut_cable import Cable, strung
from tests.servers.rabbitmq import RabbitNode

NAME = "console"
QUEUE = f"fairlead.{NAME}.0"

SOON = f"""{QUICK}
[failover]
confirm_late = "1s"
suspect = "1s"
return_after = "1s"
return_max = "4s"
probe_every = "300ms"
"""
"""What tests want of a relay on a bus: to leave it soon, and to come back soon."""


@dataclass
class BusRoute:
    """The subscription `console` goes over `node`, with REST behind it.

    Attributes:
        cable: between relay and broker.
        receiver_cable: between receiver and broker.
    """

    relay: RelayProcess
    receiver: ReceiverProcess
    node: RabbitNode
    vhost: str
    cable: Cable
    receiver_cable: Cable

    # -- what is seen --------------------------------------------------------------------------------------

    @property
    def channels(self) -> list[dict[str, Any]]:
        """See `GET /subscriptions/{id}/channels`."""
        return self.relay.api.channels(NAME)

    @property
    def history(self) -> list[Applied]:
        """What the receiver has applied, in order."""
        return read_history(self.receiver.history)

    @property
    def applied(self) -> int:
        """How much that is."""
        return len(self.history)

    def states(self) -> Counter[str]:
        """How many channels are in which state."""
        return Counter(one["state"] for one in self.channels)

    def switches(self) -> dict[int, int]:
        """How often each channel has changed its target."""
        return {one["partition"]: one["switches"] for one in self.channels}

    def reasons(self) -> set[str]:
        """Why the channels are where they are."""
        return {one["reason"] for one in self.channels if one["reason"]}

    def delivered(self) -> dict[int, set[str]]:
        """The ids of what was delivered over each target, as the relay notes it, a moment later."""
        ids = {place: id for (_, id), place in Log.read(self.relay.api).places.items()}
        found: dict[int, set[str]] = defaultdict(set)
        for one in self.relay.api.items(f"/subscriptions/{NAME}/attempts", outcome="delivered"):
            found[one["target"]].add(ids[one["partition"], one["position"]])
        return found

    @property
    def depth(self) -> int:
        """Messages ready in the queue."""
        with self.operator() as channel:
            return int(channel.queue_declare(QUEUE, passive=True).method.message_count)

    def leader(self) -> str:
        """The node that leads the queue."""
        listed = self.node.ctl("list_queues", "-q", "-p", self.vhost, "name", "leader", "--formatter", "json")
        return next(str(one["leader"]) for one in json.loads(listed) if one["name"] == QUEUE)

    def story(self) -> str:
        """All that explains a failure."""
        told = [f"{one}" for one in self.channels] if self.relay.alive else []
        told += [f"status {self.relay.api.status(NAME)}"] if self.relay.alive else []
        told += [f"lanes {self.relay.api.lanes(NAME)[:20]}"] if self.relay.alive else []
        told += [f"applied {self.applied}, the last {self.history[-5:]}"]
        told += ["the relay said", self.relay.said[-4000:], "the receiver said", self.receiver.said[-4000:]]
        told += ["the broker said", self.node.said[-3000:], *self._told_by_the_broker()]
        return "\n".join(told)

    def _told_by_the_broker(self) -> Iterator[str]:
        """What it has and who is there, as far as it answers."""
        for about, columns in (
            ("queues", "name messages_ready messages_unacknowledged consumers state"),
            ("channels", "connection messages_unconfirmed messages_unacknowledged consumer_count state"),
            ("connections", "pid peer_port state channels"),
        ):
            where = ["-p", self.vhost] if about == "queues" else []
            try:
                yield self.node.ctl(f"list_{about}", *where, *columns.split())
            except (AssertionError, subprocess.TimeoutExpired) as error:
                yield f"no list of its {about}: {error}"

    # -- what is waited for --------------------------------------------------------------------------------

    def until_all(self, state: str) -> None:
        """Every channel is in that state."""
        until(lambda: set(self.states()) == {state}, lambda: f"all are on {state}:\n{self.story()}")

    def until_any(self, state: str) -> None:
        """A channel is in that state."""
        until(lambda: self.states()[state], lambda: f"one is on {state}:\n{self.story()}")

    def until_applied(self, count: int) -> None:
        """The receiver has applied so many."""
        until(lambda: self.applied >= count, lambda: f"{count} are applied:\n{self.story()}")

    def until_delivered(self, numbers: Sequence[int], keys: Sequence[str], *, target: int) -> None:
        """These events of these keys went over that target."""
        ids = {f"{key}-{number}" for number in numbers for key in keys}
        until(
            lambda: ids <= self.delivered()[target],
            lambda: f"over target {target} went {self.delivered()}:\n{self.story()}",
        )

    def settle(self) -> None:
        """Everything is applied, in order per key, none twice in a generation."""
        until(lambda: self.relay.api.drained(NAME), lambda: f"all is settled:\n{self.story()}")
        try:
            check_applied(self.history, Log.read(self.relay.api), once=True)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from None
        assert "Traceback" not in self.relay.said, self.relay.said[-4000:]
        said = self.receiver.said  # what its handler raised on purpose is no defect
        assert said.count("Traceback") == said.count("A handler failed"), said[-4000:]

    # -- what is done --------------------------------------------------------------------------------------

    def publish(self, numbers: Sequence[int], keys: Sequence[str] = ("k1",)) -> None:
        """Events of each key."""
        for number in numbers:
            self.relay.api.publish(*(event(number, key) for key in keys))

    def shut_gate(self, id: str) -> Path:
        """Let the handler stand before an event until the file returned is removed."""
        gate = self.receiver.place / f"{id}.shut"
        gate.touch()
        return gate

    def until_at_gate(self, id: str) -> None:
        """The handler stands there."""
        waits = self.receiver.place / f"{id}.waits"
        until(waits.exists, lambda: f"{id} is in the handler:\n{self.story()}")

    @contextmanager
    def operator(self) -> Iterator[Any]:
        """A channel at the broker, by another client."""
        parameters = pika.URLParameters(with_login(self.node.url(self.vhost)) + "?heartbeat=0")
        connection = pika.BlockingConnection(parameters)
        try:
            yield connection.channel()
        finally:
            if connection.is_open:
                connection.close()


def with_login(url: str) -> str:
    """What a receiver wants."""
    return url.replace("://", "://guest:guest@")


@contextmanager
def bus_route(
    place: Path,
    node: RabbitNode,
    *,
    config: str = SOON,
    settings: Mapping[str, Any] | None = None,
    fail: float = 0.0,
    others: Sequence[RabbitNode] = (),
    rest: bool = True,
    **options: Any,
) -> Iterator[BusRoute]:
    """Everything runs, every channel is on the bus.

    Args:
        settings: of the bus (`protocolsettings`).
        fail: see `ReceiverProcess`.
        others: further nodes of the same cluster; the cables are to `node`.
        rest: there is REST behind it.
        options: of the subscription's `config`.
    """
    vhost = node.add_vhost()
    with ExitStack() as stack:
        cable, receiver_cable = (stack.enter_context(strung(node.port)) for _ in range(2))
        relay = stack.enter_context(RelayProcess(place, config))
        receiver = ReceiverProcess(
            place,
            "receiver",
            secret=SECRET,
            fail=fail,
            bus=[
                with_login(node.url(vhost, port=receiver_cable.port)),
                *(with_login(one.url(vhost)) for one in others),
            ],
            queue=QUEUE,
            relay_url=f"http://127.0.0.1:{relay.port}",
        )
        stack.enter_context(receiver)
        relay.api.subscribe(
            NAME,
            node.url(vhost, port=cable.port),
            protocolsettings={**(settings or {}), "addresses": [one.url(vhost) for one in others]},
            **{
                "route": [{"sink": receiver.url, "protocol": "HTTP"}] if rest else [],
                "receiver": "library",
                "secret": SECRET,
                **options,
            },
        )
        route = BusRoute(relay, receiver, node, vhost, cable, receiver_cable)
        route.until_all("bus")
        yield route
