# SPDX-License-Identifier: Apache-2.0
"""The AMQP driver on a real broker: what is confirmed is there, and what a broker refuses is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pika
import pytest

from fairlead.core.egress import EgressPolicy
from fairlead.drivers.amqp.session import Broker, Incoming, Message, Result, Session, Topology
from fairlead.drivers.resolver import Resolver
from fairlead.errors import BrokerFailed
from fairlead.testing.http_peer import peer, silent
from tests.acceptance.waiting import free_port
from tests.contract.amqp_client import TOPOLOGY, Client, until
from tests.servers.rabbitmq import RabbitNode


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


@pytest.fixture
def vhost(rabbitmq: RabbitNode) -> str:
    """The address of a virtual host of one's own."""
    return rabbitmq.url(rabbitmq.add_vhost())


def by_hand(address: str) -> pika.BlockingConnection:
    """Another client, to do what ours does not."""
    port, _, vhost = address.removeprefix("amqp://127.0.0.1:").partition("/")
    return pika.BlockingConnection(pika.ConnectionParameters(port=int(port), virtual_host=vhost))


# -- publishing and consuming --------------------------------------------------------------------------------


def test_what_is_published_is_confirmed_and_consumed_in_order(vhost: str) -> None:
    async def main() -> None:
        async with Client(vhost) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            bodies = [b"%d" % number for number in range(500)]
            kinds = await one.published(
                *bodies, content_type="text/plain", message_id="m", reply_to="r", headers={"a": "b"}
            )
            assert kinds == ["confirmed"] * 500
            consumer = one.consume()
            await until(lambda: len(one.got) == 500)
            assert [incoming.body for incoming in one.got] == bodies
            first = one.got[0]
            assert (first.content_type, first.message_id, first.reply_to) == ("text/plain", "m", "r")
            assert first.headers == {"a": "b"}
            assert (first.exchange, first.routing_key, first.redelivered) == ("x", "k", False)
            assert consumer.up
        async with Client(vhost) as other:
            await other.up()
            await other.depth_is(0)

    run(main())


def test_what_is_published_is_persistent(vhost: str) -> None:
    async def main() -> None:
        async with Client(vhost) as one:
            await one.up()
            await one.session.declare(Topology("q", single_active=False))
            assert await one.published(b"x", exchange="", key="q") == ["confirmed"]

    run(main())
    connection = by_hand(vhost)
    _, properties, body = connection.channel().basic_get("q", auto_ack=True)
    connection.close()
    assert (properties.delivery_mode, body) == (2, b"x")


def test_a_message_that_no_queue_takes_is_unroutable_and_the_others_are_confirmed(vhost: str) -> None:
    async def main() -> None:
        async with Client(vhost) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            for number in range(20):
                one.publish(b"x", key="k" if number % 2 else "nobody", message_id=str(number))
            await until(lambda: len(one.results) == 20)
            assert sorted(result.kind for result in one.results) == ["confirmed"] * 10 + ["unroutable"] * 10
            assert {result.detail for result in one.results} == {
                "",
                "no queue is bound to exchange 'x' by the routing key 'nobody' (312 NO_ROUTE)",
            }
            assert await one.published(b"x", message_id="0") == ["confirmed"]

    run(main())


def test_messages_that_cannot_be_told_apart_are_never_confirmed_by_mistake(vhost: str) -> None:
    """A return names no tag; one that was returned must not pass for delivered."""

    async def main() -> None:
        async with Client(vhost) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            assert await one.published(*[b"x"] * 50, key="nobody") == ["unroutable"] * 50
            assert await one.published(*[b"x"] * 50, key="k") == ["confirmed"] * 50

    run(main())


def test_a_refused_exchange_takes_nobody_else_with_it(vhost: str) -> None:
    async def main() -> None:
        async with Client(vhost) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            consumer = one.consume()
            await until(lambda: consumer.up)
            one.publish(*[b"wrong"] * 3, exchange="missing")
            one.publish(*[b"right"] * 3)
            await until(lambda: len(one.results) == 6)
            lost = [result.detail for result in one.results if result.kind == "lost"]
            assert len(lost) == 3
            assert all("404 NOT_FOUND - no exchange 'missing'" in detail for detail in lost)
            await until(lambda: len(one.got) == 3)
            assert one.session.up
            assert [up for up, _ in one.told] == [True]
            await one.session.declare(Topology("other", "missing", "k"))
            assert await one.published(b"now", exchange="missing") == ["confirmed"]

    run(main())


@pytest.mark.parametrize(
    "wrong",
    [
        {"message_id": "x" * 256},
        {"key": "x" * 256},
        {"headers": {"a": object()}},
        {"headers": {"x" * 300: "a"}},
        {"headers": {"a": "x" * 200_000}},
    ],
)
def test_what_amqp_cannot_carry_is_impossible_and_the_next_goes_through(
    vhost: str, wrong: dict[str, Any]
) -> None:
    async def main() -> None:
        async with Client(vhost) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            one.publish(b"a")
            one.publish(b"b", **wrong)
            one.publish(b"c")
            await until(lambda: len(one.results) == 3)
            assert sorted(result.kind for result in one.results) == ["confirmed", "confirmed", "impossible"]
            assert await one.session.depth("q") >= 0

    run(main())


def test_a_message_of_50_megabytes_passes(vhost: str) -> None:
    async def main() -> None:
        body = bytes(range(256)) * (50 * 1024 * 1024 // 256)
        async with Client(vhost, heartbeat_seconds=30) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            assert await one.published(body, b"", b"after") == ["confirmed"] * 3
            one.consume(prefetch=2)
            await until(lambda: len(one.got) == 3)
            assert [incoming.body for incoming in one.got] == [body, b"", b"after"]

    run(main())


def test_of_a_body_beyond_the_bound_nothing_is_kept_and_the_next_message_comes(vhost: str) -> None:
    async def main() -> None:
        async with Client(vhost, most_body_bytes=1000) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            assert await one.published(b"x" * 1000, b"y" * 400_000, b"after") == ["confirmed"] * 3
            one.consume(prefetch=3)
            await until(lambda: len(one.got) == 3)
            assert [incoming.body for incoming in one.got] == [b"x" * 1000, b"", b"after"]
            assert [incoming.fault for incoming in one.got] == [
                "", "the body has 400000 bytes; 1000 are taken", "",
            ]  # fmt: skip

    run(main())


def test_a_result_never_comes_before_publish_returns_and_comes_once(vhost: str) -> None:
    async def main() -> None:
        async with Client(vhost) as one:
            one.publish(b"too early")
            assert not one.results
            await until(lambda: one.results)
            assert one.results == [Result("lost", "not connected yet")]
            await one.up()
            await one.session.declare(TOPOLOGY)
            one.publish(*[b"x"] * 100)
            await one.session.close()
            assert len(one.results) == 101
            one.publish(b"too late")
            await until(lambda: len(one.results) == 102)
            assert one.results[-1] == Result("lost", "closed")
            await one.session.close()

    run(main())


# -- acknowledging -------------------------------------------------------------------------------------------


def test_acknowledged_out_of_order_nothing_is_left_and_nothing_is_lost(vhost: str) -> None:
    async def main() -> None:
        async with Client(vhost) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            await one.published(*[b"%d" % number for number in range(100)])
            consumer = one.session.consume("q", 100, one.got.append)
            await until(lambda: len(one.got) == 100)
            for incoming in one.got[10:60:2] + one.got[0:10] + one.got[11:60:2]:
                consumer.ack(incoming)
                await asyncio.sleep(0)
            for incoming in one.got[60:70]:
                consumer.ack(incoming)
                consumer.ack(incoming)  # twice is once
            consumer.close()
            await one.depth_is(30)
            left = one.got[70:]
            one.got.clear()
            one.consume()
            await until(lambda: len(one.got) == 30)
            assert [incoming.body for incoming in one.got] == [incoming.body for incoming in left]
            assert all(incoming.redelivered for incoming in one.got)

    run(main())


def test_no_more_than_prefetch_is_out_at_once(vhost: str) -> None:
    async def main() -> None:
        async with Client(vhost) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            await one.published(*[b"x"] * 20)
            consumer = one.session.consume("q", 5, one.got.append)
            await until(lambda: len(one.got) == 5)
            await one.depth_is(15)
            assert len(one.got) == 5
            consumer.ack(one.got[4])
            await until(lambda: len(one.got) == 6)
            await one.depth_is(14)
            consumer.close()

    run(main())


def test_a_message_goes_back_into_the_queue_any_number_of_times(vhost: str) -> None:
    """No delivery limit can lose it: -1 is set on brokers only that take it for none."""

    async def main() -> None:
        async with Client(vhost) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            await one.published(b"x")

            def take(incoming: Incoming) -> None:
                one.got.append(incoming)
                if len(one.got) <= 30:
                    consumer.nack(incoming, requeue=True)
                else:
                    consumer.ack(incoming)

            consumer = one.session.consume("q", 1, take)
            await until(lambda: len(one.got) == 31)
            assert one.got[30].headers["x-delivery-count"] == 30
            await one.depth_is(0)

    run(main())


def test_a_message_that_is_not_taken_goes_away(vhost: str) -> None:
    async def main() -> None:
        async with Client(vhost) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            await one.published(b"a", b"b", b"c")
            consumer = one.session.consume("q", 3, one.got.append)
            await until(lambda: len(one.got) == 3)
            consumer.ack(one.got[2])
            consumer.nack(one.got[1], requeue=False)
            consumer.ack(one.got[0])
            consumer.close()
            await one.depth_is(0)
            assert len(one.got) == 3

    run(main())


def test_who_is_told_and_fails_does_not_end_the_session(vhost: str) -> None:
    async def main() -> None:
        told: list[bool] = []
        defects: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: defects.append(context))

        def changed() -> None:
            told.append(session.up)
            if told.count(True) == 1 and session.up:
                raise ZeroDivisionError

        session = Session(Broker((vhost,)), name="t", changed=changed)
        await until(lambda: told.count(True) == 2 and session.up)
        assert len(defects) == 1
        await session.close()

    run(main())


def test_a_taker_that_fails_ends_no_connection(vhost: str) -> None:
    async def main() -> None:
        failures: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: failures.append(context["message"])
        )
        async with Client(vhost) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)

            def take(incoming: Incoming) -> None:
                raise LookupError

            one.session.consume("q", 5, take)
            assert await one.published(b"x", b"y") == ["confirmed"] * 2
            await until(lambda: len(failures) == 2)
            assert one.session.up

    run(main())


@pytest.mark.parametrize(
    "value",
    [
        datetime(9999, 12, 31, tzinfo=UTC),
        {"a": [1, None, {"b": b"\xff"}]},
        b"\xff\xfe",
        2**62,
    ],
)
def test_a_message_whose_headers_are_strange_comes_like_every_other(vhost: str, value: object) -> None:
    """It must not end the connection: it would come again, and end it again, for ever."""

    async def main() -> None:
        async with Client(vhost) as one:
            await one.up()
            await one.session.declare(Topology("q"))
            await asyncio.to_thread(publish_strange, vhost, value)
            one.consume()
            await until(lambda: len(one.got) == 2)
            assert [incoming.body for incoming in one.got] == [b"strange", b"after"]
            assert one.got[0].fault or "strange" in one.got[0].headers
            assert [up for up, _ in one.told] == [True]
            await one.depth_is(0)

    run(main())


def publish_strange(address: str, value: object) -> None:
    """With header types that our own client library cannot write, so the bytes are made by hand."""
    connection = by_hand(address)
    channel = connection.channel()
    channel.basic_publish("", "q", b"strange", _Strange(value))
    channel.basic_publish("", "q", b"after")
    connection.close()


class _Strange(pika.BasicProperties):  # type: ignore[misc]  # the library has no types
    """One header `strange`, encoded here where the library would not."""

    def __init__(self, value: object) -> None:
        super().__init__(headers={"strange": "" if self._raw(value) else value})
        self._value = value

    @staticmethod
    def _raw(value: object) -> bytes | None:
        return b"T" + (2**60).to_bytes(8) if isinstance(value, datetime) else None

    def encode(self) -> list[bytes]:
        raw = self._raw(self._value)
        if raw is None:
            return list(super().encode())
        encoded = b"".join(super().encode())
        name = b"\x07strange"
        table = name + raw
        at = encoded.index(name)
        return [encoded[: at - 4] + len(table).to_bytes(4) + table]


# -- topology ------------------------------------------------------------------------------------------------


def test_a_topology_is_declared_again_without_harm_and_checked_without_arguments(vhost: str) -> None:
    async def main() -> None:
        async with Client(vhost) as one:
            await one.up()
            await one.session.declare(TOPOLOGY)
            await one.session.declare(TOPOLOGY)
            await one.session.declare(Topology("q", "x", create=False))
            await one.published(b"x")
            await one.depth_is(1)

    run(main())


@pytest.mark.parametrize(
    ("topology", "kind", "words"),
    [
        (Topology("classic"), "mismatch", "406 PRECONDITION_FAILED - inequivalent arg"),
        (Topology("q", "fanout", "k"), "mismatch", "406 PRECONDITION_FAILED - inequivalent arg 'type'"),
        (Topology("none", create=False), "missing", "404 NOT_FOUND - no queue 'none'"),
        (Topology("classic", "none", create=False), "missing", "404 NOT_FOUND - no exchange 'none'"),
        (Topology("amq.mine"), "forbidden", "403 ACCESS_REFUSED"),
    ],
)
def test_a_topology_that_cannot_be_says_so_in_the_brokers_words(
    vhost: str, topology: Topology, kind: str, words: str
) -> None:
    connection = by_hand(vhost)
    connection.channel().queue_declare("classic", durable=True)
    connection.channel().exchange_declare("fanout", "fanout", durable=True)
    connection.close()

    async def main() -> None:
        async with Client(vhost) as one:
            await one.up()
            with pytest.raises(BrokerFailed, match=words.replace("[", r"\[")) as refused:
                await one.session.declare(topology)
            assert refused.value.kind == kind
            await one.session.declare(TOPOLOGY)  # the next question is answered as if nothing had been
            assert await one.published(b"x") == ["confirmed"]
            assert [up for up, _ in one.told] == [True]

    run(main())


def test_the_depth_of_a_queue_that_is_not_there_is_an_error(vhost: str) -> None:
    async def main() -> None:
        async with Client(vhost) as one:
            with pytest.raises(BrokerFailed, match="not connected yet"):
                await one.session.depth("q")
            await one.up()
            questions = [one.session.depth("nowhere") for _ in range(5)]
            for answer in await asyncio.gather(*questions, return_exceptions=True):
                assert isinstance(answer, BrokerFailed)
                assert answer.kind == "missing"

    run(main())


# -- where, and as whom --------------------------------------------------------------------------------------


def test_a_wrong_login_says_so(rabbitmq: RabbitNode) -> None:
    async def main() -> None:
        async with Client(rabbitmq.url(), user="nobody", password="secret-word") as one:
            detail = await one.down("does not accept")
            assert detail == (
                f"127.0.0.1:{rabbitmq.port} does not accept the login of user 'nobody'; "
                "check its name and password"
            )

    run(main())


@pytest.mark.parametrize("there", [False, True])
def test_a_virtual_host_that_is_not_there_or_not_ours_says_so(rabbitmq: RabbitNode, there: bool) -> None:
    name = "theirs" if there else "nowhere"
    if there:
        rabbitmq.ctl("add_vhost", name)

    async def main() -> None:
        async with Client(rabbitmq.url(name)) as one:
            detail = await one.down(f"into the virtual host '{name}'")
            assert "530 NOT_ALLOWED" in detail
            assert "check the path of the address" in detail

    run(main())


def test_a_user_without_permissions_is_told_so(rabbitmq: RabbitNode) -> None:
    name = rabbitmq.add_vhost()
    rabbitmq.add_user("reader", "r", name, "", "", ".*")

    async def main() -> None:
        async with (
            Client(rabbitmq.url(name)) as owner,
            Client(rabbitmq.url(name), user="reader", password="r") as one,
        ):
            await owner.up()
            await owner.session.declare(TOPOLOGY)
            await one.up()
            with pytest.raises(BrokerFailed, match="403 ACCESS_REFUSED") as refused:
                await one.session.declare(Topology("other"))
            assert refused.value.kind == "forbidden"
            assert await one.published(b"x") == ["lost"]
            assert "403 ACCESS_REFUSED" in one.results[0].detail
            one.consume()
            await owner.published(b"y")
            await until(lambda: len(one.got) == 1)

    run(main())


@asynccontextmanager
async def speaking(words: bytes) -> AsyncIterator[int]:
    """The port of a server that says this and closes."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def test_nobody_there_a_web_server_and_one_that_never_speaks_are_told_apart() -> None:
    async def main() -> None:
        port = free_port()
        async with Client(f"amqp://127.0.0.1:{port}") as one:
            assert await one.down("refused") == f"connection refused by 127.0.0.1:{port}"
        for words, says in (
            (b"HTTP/1.1 400 Bad Request", "does not speak AMQP 0-9-1"),
            (b"", "before it said a word"),
        ):
            async with speaking(words) as port, Client(f"amqp://127.0.0.1:{port}") as one:
                await one.down(says)
        async with peer(silent) as mute:
            address = f"amqp://127.0.0.1:{mute.port}"
            async with Client(address, connect_timeout_seconds=0.3) as one:
                assert await one.down("in time") == f"127.0.0.1:{mute.port} did not answer in time"
        async with Client("amqp://nowhere.invalid") as one:
            await one.down("cannot be resolved")

    run(main())


def test_of_several_addresses_the_first_that_serves_is_taken(vhost: str) -> None:
    async def main() -> None:
        dead = f"amqp://127.0.0.1:{free_port()}"
        async with Client(dead, "amqp://nowhere.invalid", vhost) as one:
            await one.up()
            assert one.told == [(True, "")]

    run(main())


def test_only_addresses_that_the_policy_allows_are_connected_to(vhost: str) -> None:
    async def main() -> None:
        async with Client(vhost, resolve=Resolver(EgressPolicy(["x.example"]))) as one:
            detail = await one.down("may not call")
            assert '[egress] allow = ["x.example", "127.0.0.1/32"]' in detail
        async with Client(vhost, resolve=Resolver(EgressPolicy(["127.0.0.1"]))) as one:
            await one.up()

    run(main())


def test_a_url_with_its_login_is_a_broker() -> None:
    broker = Broker.of("amqps://us%40er:pass%2Fword@mq.example/vh")
    assert broker == Broker(("amqps://mq.example/vh",), "us@er", "pass/word")
    assert "pass" not in repr(broker)
    assert Broker.of("amqp://mq.example").user == "guest"
    for wrong in (
        "http://u:secret@mq.example",
        "amqp://u:secret@mq.example/?heartbeat=1",
        "amqp://u:secret@[",
    ):
        with pytest.raises(ValueError, match=r"amqp|URL|query") as refused:
            Broker.of(wrong)
        assert "secret" not in str(refused.value)


def test_a_session_that_is_closed_while_it_connects_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with peer(silent) as mute:
            session = Session(Broker((f"amqp://127.0.0.1:{mute.port}",)), name="t")
            await mute.until(lambda: mute.opened == 1)
            await session.close()
            await mute.until(lambda: mute.ended == 1)
            assert asyncio.all_tasks() - {asyncio.current_task()} == set()

    run(main())


def test_a_message_is_what_users_of_the_driver_see() -> None:
    assert Message(b"x").headers == {}
