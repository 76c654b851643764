# SPDX-License-Identifier: Apache-2.0
"""The AMQP driver while brokers die, block and hang, and cables are cut: real nodes, nothing made up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pika
import pytest

from fairlead.drivers.amqp import consuming as amqp_consuming
from fairlead.drivers.amqp.asking import Asking
from fairlead.drivers.amqp.channel import ANSWER_SECONDS
from fairlead.drivers.amqp.session import Incoming, Message, Result, Topology
from fairlead.errors import BrokerFailed
from tests.contract.amqp_client import TOPOLOGY, Client, until
from tests.servers.cut_cable import cable_to
from tests.servers.rabbitmq import RabbitNode, RabbitNodes, settled_declares


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


@pytest.fixture
def vhost(rabbitmq: RabbitNode) -> str:
    """The name of a virtual host of one's own."""
    return rabbitmq.add_vhost()


def test_a_killed_broker_loses_nothing_that_it_confirmed_and_is_found_again(
    rabbitmq_nodes: RabbitNodes,
) -> None:
    node = rabbitmq_nodes.node()

    async def main() -> None:
        async with Client(node.url()) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            await asyncio.to_thread(settled_declares)
            held: list[Incoming] = []
            consumer = one.session.consume("q", 10, held.append)
            assert await one.published(*[b"%d" % number for number in range(50)]) == ["confirmed"] * 50
            await until(lambda: len(held) == 10)
            one.results.clear()
            one.publish(*[b"in flight"] * 200)
            await asyncio.to_thread(node.kill)
            await until(lambda: len(one.results) == 200)
            assert {result.kind for result in one.results} <= {"confirmed", "lost"}
            confirmed = sum(result.kind == "confirmed" for result in one.results)
            assert await one.down() != ""
            assert not consumer.up
            consumer.ack(held[0])  # of a delivery that is no more
            await asyncio.to_thread(node.start)
            await one.up()
            await until(lambda: consumer.up and len(held) == 20)
            consumer.ack(held[0])
            for incoming in held[10:20]:
                consumer.ack(incoming)
            await until(lambda: len(held) >= 30)
            assert [incoming.body for incoming in held[10:30]] == [b"%d" % number for number in range(20)]
            consumer.close()
            one.consume(prefetch=500)
            await until(lambda: len(one.got) >= 40 + confirmed)
            await one.depth_is(0)
            assert await one.published(b"again") == ["confirmed"]

    run(main())


def test_a_blocked_broker_is_down_says_so_and_comes_back(rabbitmq_nodes: RabbitNodes) -> None:
    node = rabbitmq_nodes.node()

    async def main() -> None:
        async with Client(node.url()) as one, Client(node.url()) as consuming:
            await one.up()
            await consuming.up()
            await one.session.declare(TOPOLOGY)
            assert await one.published(b"before") == ["confirmed"]
            await asyncio.to_thread(node.block_publishers)
            one.publish(b"into the wall")  # a broker tells those who publish
            assert await one.down("takes no messages (low on memory)")
            assert not one.results[1:]
            one.publish(b"not even sent")
            await until(lambda: len(one.results) == 2)
            assert one.results[1].kind == "lost"
            consuming.consume()  # a connection that only consumes is served as ever
            await until(lambda: consuming.got)
            await asyncio.to_thread(node.unblock_publishers)
            await one.up()
            await until(lambda: len(one.results) == 3)
            assert one.results[2] == Result("confirmed")
            await until(lambda: len(consuming.got) == 2)
            assert [incoming.body for incoming in consuming.got] == [b"before", b"into the wall"]
            assert [up for up, _ in one.told] == [True, False, True]

    run(main())


def test_a_broker_that_hangs_is_given_up_and_taken_again(rabbitmq_nodes: RabbitNodes) -> None:
    """It accepts, and never confirms: results come when the connection is given up."""
    node = rabbitmq_nodes.node()

    async def main() -> None:
        async with Client(node.url(), heartbeat_seconds=2, connect_timeout_seconds=0.5) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            node.pause()
            one.publish(b"x", b"y")
            await one.down("nothing came from")
            await until(lambda: len(one.results) == 2)
            assert [result.kind for result in one.results] == ["lost", "lost"]
            await one.down("did not answer in time")
            node.resume()
            await one.up()
            assert await one.published(b"z") == ["confirmed"]

    run(main())


def test_a_cable_that_swallows_everything_is_noticed_by_the_missing_heartbeats(
    rabbitmq: RabbitNode, vhost: str
) -> None:
    async def main() -> None:
        async with cable_to(rabbitmq.port) as cable:
            address = rabbitmq.url(vhost, port=cable.port)
            async with Client(address, heartbeat_seconds=1, connect_timeout_seconds=0.5) as one:
                await one.up()
                await one.session.declare(TOPOLOGY)
                consumer = one.consume()
                await until(lambda: consumer.up)
                cable.mute()
                question = asyncio.create_task(one.session.depth("q"))
                assert "nothing came from" in await one.down()
                with pytest.raises(BrokerFailed, match="nothing came from"):
                    await question
                cable.restore()
                await one.up()
                assert await one.published(b"x") == ["confirmed"]
                await until(lambda: len(one.got) == 1)

    run(main())


def test_a_cable_that_is_cut_again_and_again_loses_nothing_confirmed(
    rabbitmq: RabbitNode, vhost: str
) -> None:
    async def main() -> None:
        async with cable_to(rabbitmq.port) as cable, Client(rabbitmq.url(vhost, port=cable.port)) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            one.consume()
            sent: list[bytes] = []
            for turn in range(8):
                await one.up()
                one.results.clear()
                bodies = [b"%d-%d" % (turn, number) for number in range(100)]
                sent += bodies
                if turn % 2:
                    await one.published(*bodies)
                else:
                    one.publish(*bodies)
                cable.cut()
                await one.down()
                await until(lambda: len(one.results) == 100)
                cable.restore()
            await one.up()
            one.results.clear()
            assert await one.published(b"last") == ["confirmed"]
            await until(lambda: one.got[-1].body == b"last")
            bodies = list(dict.fromkeys(incoming.body for incoming in one.got))
            assert set(bodies) <= {*sent, b"last"}
            assert [body for body in sent if body in bodies] == bodies[:-1]
            for turn in range(1, 8, 2):  # waited for, so confirmed
                assert b"%d-99" % turn in bodies

    run(main())


def test_a_queue_that_is_deleted_ends_its_consumer_only_and_its_return_is_seen(
    rabbitmq: RabbitNode, vhost: str
) -> None:
    async def main() -> None:
        async with Client(rabbitmq.url(vhost)) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            await one.session.declare(Topology("other"))
            consumer, other = one.consume(), one.consume("other")
            await until(lambda: consumer.up and other.up)
            await asyncio.to_thread(rabbitmq.ctl, "delete_queue", "-p", vhost, "q")
            await until(lambda: not consumer.up)
            assert await one.published(b"x") == ["unroutable"]
            await until(lambda: "404 NOT_FOUND - no queue 'q'" in consumer.detail)
            assert await one.published(b"y", exchange="", key="other") == ["confirmed"]
            await until(lambda: len(one.got) == 1)
            await one.session.declare(TOPOLOGY)
            await until(lambda: consumer.up)
            assert await one.published(b"z") == ["confirmed"]
            await until(lambda: len(one.got) == 2)
            assert [up for up, _ in one.told] == [True]

    run(main())


@pytest.mark.parametrize("single_active", [True, False])
def test_a_queue_that_is_deleted_and_back_at_once_is_consumed_anew_by_all(
    rabbitmq: RabbitNode, vhost: str, single_active: bool
) -> None:
    """RabbitMQ 3.10 would not tell them, and swallow as many messages as their prefetch."""
    topology = replace(TOPOLOGY, single_active=single_active)

    async def main() -> None:
        async with Client(rabbitmq.url(vhost)) as one, Client(rabbitmq.url(vhost)) as other:
            await one.up()
            await other.up()
            await one.session.declare(topology)
            consumers = [one.consume(), other.consume()]
            await until(lambda: all(consumer.up for consumer in consumers))
            assert await one.published(b"before") == ["confirmed"]
            await until(lambda: one.got or other.got)
            await asyncio.to_thread(delete_and_make, rabbitmq.port, vhost, single_active)
            await one.session.declare(topology)  # the binding too
            for begin in (0, 100):
                bodies = {b"%d" % number for number in range(begin, begin + 100)}
                await asyncio.gather(*(publish_until_confirmed(one, body) for body in bodies))
                await until(lambda: bodies <= {incoming.body for incoming in (*one.got, *other.got)})  # noqa: B023
                consumers[0 if len(one.got) > 1 else 1].close()  # who stood by comes to its turn

    run(main())


async def publish_until_confirmed(one: Client, body: bytes) -> None:
    """As a relay does: again, where the broker did not take it. It may end the connection of who consumes in
    the moment of the deletion (541 INTERNAL_ERROR)."""
    kind = ""
    while kind != "confirmed":
        await one.up()
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        one.session.publish("x", "k", Message(body), done.set_result)
        kind = (await done).kind


def delete_and_make(port: int, vhost: str, single_active: bool) -> None:
    """What somebody does by hand, in a program."""
    connection = pika.BlockingConnection(pika.ConnectionParameters(port=port, virtual_host=vhost))
    arguments = {"x-queue-type": "quorum"} | ({"x-single-active-consumer": True} if single_active else {})
    channel = connection.channel()
    channel.queue_delete("q")
    channel.queue_declare("q", durable=True, arguments=arguments)
    connection.close()


def test_an_operator_who_closes_the_connection_is_named(rabbitmq: RabbitNode, vhost: str) -> None:
    async def main() -> None:
        async with Client(rabbitmq.url(vhost)) as one:
            await one.up()
            await asyncio.to_thread(rabbitmq.ctl, "close_all_connections", "-p", vhost, "maintenance tonight")
            await until(lambda: len(one.told) >= 3)
            assert one.told[1][1].endswith(
                "closed the connection: 320 CONNECTION_FORCED - maintenance tonight"
            )
            assert one.told[2] == (True, "")

    run(main())


def test_a_cluster_that_loses_the_leader_goes_on_by_its_other_addresses(rabbitmq_nodes: RabbitNodes) -> None:
    nodes = rabbitmq_nodes.cluster(3)

    async def main() -> None:
        async with Client(*[node.url() for node in nodes]) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            await asyncio.to_thread(settled_declares)
            one.consume(prefetch=500)
            assert await one.published(*[b"%d" % number for number in range(100)]) == ["confirmed"] * 100
            await asyncio.to_thread(nodes[0].kill)  # connected to, and leader of what was declared there
            await until(lambda: [up for up, _ in one.told] == [True, False, True])
            left = {b"%d" % number for number in range(100, 200)}
            while left:  # the new leader is still being chosen: `refused` is "again", not "never"
                batch = sorted(left)
                kinds = await one.published(*batch)
                await one.up()
                assert set(kinds) <= {"confirmed", "refused", "lost"}
                left -= {body for body, kind in zip(batch, kinds, strict=True) if kind == "confirmed"}
            await until(lambda: len({incoming.body for incoming in one.got}) == 200)

    run(main())


def test_a_broker_may_take_its_time_to_answer_a_question() -> None:
    assert ANSWER_SECONDS >= 10  # a cluster that chooses a leader does


_FORGET = """
Queue = {'VHOST_q', node()}, {ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"VHOST">>, queue, <<"q">>)),
[ra:process_command(Queue, rabbit_fifo:make_checkout({Tag, Pid}, cancel, #{}))
 || {Pid, Tag, _, _, _, _, _, _} <- rabbit_amqqueue:consumers(Q)], ok.
"""


def test_a_consumer_that_the_broker_has_forgotten_without_a_word_consumes_anew(
    rabbitmq: RabbitNode, vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amqp_consuming, "LOOK_SECONDS", 0.5)

    async def main() -> None:
        async with Client(rabbitmq.url(vhost)) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            changes: list[tuple[bool, str]] = []
            consumer = one.session.consume(
                "q", 5, one.got.append, lambda: changes.append((consumer.up, consumer.detail))
            )
            await until(lambda: consumer.up)
            await asyncio.to_thread(rabbitmq.ctl, "eval", _FORGET.replace("VHOST", vhost))
            assert await one.published(b"a", b"b") == ["confirmed", "confirmed"]
            await until(lambda: len(one.got) == 2)
            await until(lambda: [up for up, _ in changes] == [True, False, True])
            assert "has forgotten who consumes from the queue 'q'" in changes[1][1]
            for incoming in one.got:
                consumer.ack(incoming)
            await one.depth_is(0)

    run(main())


def test_a_consumer_that_is_slow_to_acknowledge_is_left_in_peace(
    rabbitmq: RabbitNode, vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amqp_consuming, "LOOK_SECONDS", 0.05)
    looked: list[bool] = []
    look = Asking.is_unserved

    async def watched(asking: Asking, queue: str) -> bool:
        looked.append(await look(asking, queue))
        return looked[-1]

    monkeypatch.setattr(Asking, "is_unserved", watched)

    async def main() -> None:
        async with Client(rabbitmq.url(vhost)) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            consumer = one.session.consume("q", 1, one.got.append)
            await one.published(b"a", b"b")
            await until(lambda: len(looked) >= 5)
            assert not any(looked)
            assert consumer.up
            assert [incoming.body for incoming in one.got] == [b"a"]

    run(main())
