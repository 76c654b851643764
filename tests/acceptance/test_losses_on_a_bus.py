# SPDX-License-Identifier: Apache-2.0
"""Where others lose events on RabbitMQ (L3, L10, L14 and L15 of webhook-peers)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.acceptance.api import event
from tests.acceptance.bus_route import NAME, QUEUE, bus_route
from tests.acceptance.processes import IMPATIENT, locked
from tests.acceptance.queues import Sender, events, source, taken, taking, until_taken
from tests.acceptance.waiting import until
from tests.servers.rabbitmq import RabbitNode, settled_declares

KEYS = [f"k{number}" for number in range(10)]
REPLIES = "fairlead.acks."


def test_loss_L3_a_restarted_broker_has_everything_and_a_failing_handler_drops_nothing(
    mortal_rabbitmq: RabbitNode, tmp_path: Path
) -> None:
    with bus_route(tmp_path, mortal_rabbitmq, rest=False, fail=0.2) as route:
        settled_declares()
        route.receiver.kill()
        route.publish(range(1, 6), KEYS)
        until(lambda: route.depth >= 5 * len(KEYS), lambda: f"they are in the queue:\n{route.story()}")
        route.relay.kill()  # it would publish all of it again
        route.node.restart()
        until(lambda: route.depth >= 5 * len(KEYS), lambda: f"they are there again:\n{route.story()}")
        route.receiver.start()
        route.until_applied(1)
        route.relay.start()
        route.settle()
        assert "A handler failed" in route.receiver.said


def test_loss_L10_what_a_source_cannot_store_now_stays_with_the_broker(
    rabbitmq: RabbitNode, tmp_path: Path
) -> None:
    sender = Sender(rabbitmq, rabbitmq.add_vhost())
    sender.declare("in")
    with taking(tmp_path, source(rabbitmq.url(sender.vhost), "in"), config=IMPATIENT) as relay:
        sender.send("in", *events(3))
        assert until_taken(relay.api, 3) == ["k1-0", "k1-1", "k1-2"]
        with locked(relay):
            sender.send("in", *events(7, 3))
            assert relay.api.offer(event(99)).status == 503, "nothing can be stored"
            assert len(taken(relay.api)) == 3
            relay.kill()  # whatever it had taken and not stored
        until(lambda: sender.waiting("in") == 7, "the broker has them")
        relay.start()
        assert until_taken(relay.api, 10) == [f"k1-{number}" for number in range(10)]
        until(lambda: sender.waiting("in") == 0, "and only then they are acknowledged")


def test_loss_L14_what_no_queue_takes_is_no_success(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    plain: dict[str, Any] = {"receiver": "plain", "settles": "confirm", "failover": "off"}
    with bus_route(tmp_path, rabbitmq, rest=False, **plain) as route:
        route.receiver.kill()  # a plain consumer reads the queue at the end
        route.publish([1], KEYS)
        until(lambda: route.relay.api.drained(NAME), lambda: f"the broker has them:\n{route.story()}")
        change = route.relay.api.call("GET", f"/subscriptions/{NAME}").must(200)
        change["protocolsettings"]["declare"] = False
        route.relay.api.call("PUT", f"/subscriptions/{NAME}", change).must(200)
        route.until_all("bus")
        with route.operator() as operator:
            operator.queue_unbind(QUEUE, "fairlead", NAME)
            route.publish(range(2, 5), KEYS)
            until(
                lambda: any("312 NO_ROUTE" in one for one in route.reasons()),
                lambda: f"it is said:\n{route.story()}",
            )
            waiting = 3 * len(KEYS)
            until(lambda: route.relay.api.status(NAME)["lag_events"] == waiting, route.story)
            operator.queue_bind(QUEUE, "fairlead", NAME)
            until(lambda: route.relay.api.drained(NAME), lambda: f"the broker has them:\n{route.story()}")

            found: dict[str, list[int]] = {key: [] for key in KEYS}
            for method, properties, body in operator.consume(QUEUE, auto_ack=True, inactivity_timeout=60):
                assert method is not None, found
                assert properties.delivery_mode == 2, "it is on the broker's disk"
                document = json.loads(body)
                found[document["subject"]].append(document["data"]["n"])
                if sum(map(len, found.values())) == 4 * len(KEYS):
                    break
        assert found == {key: [1, 2, 3, 4] for key in KEYS}


def test_loss_L15_connections_are_made_again_for_as_long_as_it_takes(
    rabbitmq: RabbitNode, tmp_path: Path
) -> None:
    with bus_route(tmp_path, rabbitmq, rest=False) as route:
        route.publish([1], KEYS)
        route.settle()
        replies = reply_queues(route.node, route.vhost)
        for cable in (route.cable, route.receiver_cable):
            cable.cut()
        route.publish(range(2, 5), KEYS)
        tries = route.cable.opened, route.receiver_cable.opened
        until(lambda: route.cable.opened >= tries[0] + 4, "the relay tries again and again")
        until(lambda: route.receiver_cable.opened >= tries[1] + 4, "so does the receiver")
        route.relay.restart()
        assert set(route.states()) <= {"suspect", "waiting"}, route.story()
        for cable in (route.cable, route.receiver_cable):
            cable.restore()
        route.settle()
        assert reply_queues(route.node, route.vhost) == replies, "after a restart it finds its answers"
        assert all(len(one) > len(REPLIES) for one in replies)


def reply_queues(node: RabbitNode, vhost: str) -> list[str]:
    """Where answers wait for relays."""
    listed = json.loads(node.ctl("list_queues", "-q", "-p", vhost, "name", "--formatter", "json"))
    return [one["name"] for one in listed if one["name"].startswith(REPLIES)]
