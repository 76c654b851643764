# SPDX-License-Identifier: Apache-2.0
"""The relay's side of a real RabbitMQ: what is delivered, what comes back, what is said when it cannot."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from standardwebhooks import Webhook

from fairlead.core.answer import MOST_ANSWER_BYTES
from fairlead.core.channel import ChannelId
from fairlead.core.egress import EgressPolicy
from fairlead.core.signature import verify
from fairlead.core.subscription import Target
from fairlead.drivers.amqp.session import Topology
from fairlead.drivers.resolver import Resolver
from fairlead.errors import ForbiddenSink, InvalidSubscription
from fairlead.ports import Delivery, Published
from fairlead.ports.bus import Link
from fairlead.testing.deliveries import FENCE, SECRET, SetClock, event, parcel, subscription
from fairlead.transports import amqp, amqp_link
from fairlead.transports.amqp import AmqpBus
from fairlead.transports.amqp_session import BrokerSession
from tests.acceptance.waiting import free_port
from tests.contract.amqp_client import Client, until
from tests.servers.rabbitmq import RabbitNode, RabbitNodes, settled_declares

ANSWERS = "fairlead.acks.n1"


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


@pytest.fixture
def vhost(rabbitmq: RabbitNode) -> str:
    """The name of a virtual host of one's own."""
    return rabbitmq.add_vhost()


def target(
    sink: str, *, login: tuple[str, str] | None = None, mode: Any = "structured", **settings: Any
) -> Target:
    defaults = {"exchange": "fairlead", "routing_key": "console", "queue": None, "address": None}
    rest = {"addresses": [], "shards": 1, "mode": mode, "declare": True}
    credential = None
    if login is not None:
        credential = {"credentialtype": "PLAIN", "identifier": login[0], "secret": login[1]}
    return Target(sink, "AMQP", mode=mode, settings={**defaults, **rest, **settings}, credential=credential)


class Relay:
    """A bus, and what came of it."""

    def __init__(self, *, allow: Sequence[str] = (), **options: Any) -> None:
        policy = EgressPolicy(allow, loopback_allowed=not allow)
        self.clock = SetClock()
        self.bus = AmqpBus(policy, Resolver(policy), self.clock, node_id="n1", **options)
        self.answers: list[tuple[Mapping[str, str], bytes]] = []
        self.results: list[Published] = []
        self.told = 0
        self.taking = asyncio.Event()
        self.taking.set()
        self.bus.listen(self._take)

    async def _take(self, headers: Mapping[str, str], body: bytes) -> None:
        await self.taking.wait()
        self.answers.append((headers, body))

    def link(self, to: Target) -> Link:
        return self.bus.link(subscription(to, settles="applied", receiver="library"), to, self._changed)

    def _changed(self) -> None:
        self.told += 1

    async def up(self, to: Target) -> Link:
        link = self.link(to)
        await until(lambda: link.health.up)
        return link

    async def publish(self, link: Link, *deliveries: Delivery) -> list[Published]:
        before = len(self.results)
        for one in deliveries:
            link.publish(one, self.results.append)
            assert len(self.results) == before
        await until(lambda: len(self.results) == before + len(deliveries))
        return self.results[before:]


@asynccontextmanager
async def relay(**options: Any) -> AsyncIterator[Relay]:
    one = Relay(**options)
    try:
        yield one
    finally:
        await one.bus.close()


def on_bus(to: Target, *parcels: Any, seq: int | None = 12, partition: int = 5) -> Delivery:
    """A delivery over the bus."""
    fence = replace(FENCE, channel=ChannelId("console", partition))
    whole = subscription(to, settles="applied", receiver="library")
    return Delivery(whole, to, fence, 38, parcels, seq=seq)


# -- what is delivered ---------------------------------------------------------------------------------------


def test_a_delivery_is_the_interfaces_example_persistent_signed_and_with_its_flseq(
    rabbitmq: RabbitNode, vhost: str
) -> None:
    async def main() -> None:
        async with relay() as one, Client(rabbitmq.url(vhost)) as other:
            to = target(rabbitmq.url(vhost))
            link = await one.up(to)
            assert await one.publish(link, on_bus(to, parcel())) == [Published("confirmed")]
            await other.up()
            assert await link.depth(5) == 1
            other.consume("fairlead.console.0")
            await until(lambda: other.got)
            message = other.got[0]
            assert json.loads(message.body) == {
                "specversion": "1.0",
                "id": "a-1",
                "source": "/heat",
                "type": "org.example.state",
                "subject": "k1",
                "datacontenttype": "application/json",
                "flsubscription": "console",
                "flpartition": "5",
                "flpos": "41",
                "flprev": "0",
                "flepoch": "7",
                "flgeneration": "1795359000123",
                "flfloor": "38",
                "flseq": "12",
                "data": {"n": 1},
            }
            assert message.content_type == "application/cloudevents+json"
            assert message.message_id == "console_1795359000123_5_41"
            assert message.reply_to == ANSWERS
            assert (message.exchange, message.routing_key) == ("fairlead", "console")
            assert message.headers["webhook-timestamp"] == str(int(one.clock.wall))
            assert message.headers["fairlead-answers"] == "array"
            Webhook(SECRET).verify(message.body, {"webhook-id": message.message_id, **message.headers})

    run(main())


def test_a_fence_is_a_message_without_an_event(rabbitmq: RabbitNode, vhost: str) -> None:
    async def main() -> None:
        async with relay() as one, Client(rabbitmq.url(vhost)) as other:
            to = target(rabbitmq.url(vhost))
            link = await one.up(to)
            await one.publish(link, on_bus(to, seq=3))
            await other.up()
            other.consume("fairlead.console.0")
            await until(lambda: other.got)
            message = other.got[0]
            assert message.content_type == "application/vnd.fairlead.fence+json"
            assert message.message_id == "console_1795359000123_5_f7"
            assert json.loads(message.body)["flepoch"] == "7"

    run(main())


def test_in_binary_mode_attributes_are_headers_and_data_the_body(rabbitmq: RabbitNode, vhost: str) -> None:
    async def main() -> None:
        async with relay() as one, Client(rabbitmq.url(vhost)) as other:
            to = target(rabbitmq.url(vhost), mode="binary")
            link = await one.up(to)
            bytes_of = event(
                data=b"\x00\x01", datacontenttype="application/octet-stream", subject="k\u00fc 1", count=3
            )
            whole = subscription(to, settles="confirm")
            for of in (bytes_of, event(data=None), event(data={"n": 1})):
                await one.publish(link, Delivery(whole, to, FENCE, 38, (parcel(of=of),)))
            await other.up()
            other.consume("fairlead.console.0")
            await until(lambda: len(other.got) == 3)
            message, empty, plain = other.got
            assert (message.body, message.content_type) == (b"\x00\x01", "application/octet-stream")
            assert "fairlead-answers" not in message.headers, "nobody answers"
            assert (empty.body, empty.content_type) == (b"", None)
            assert (json.loads(plain.body), plain.content_type) == ({"n": 1}, "application/json")
            headers = {
                name: value for name, value in message.headers.items() if name.startswith("cloudEvents_")
            }
            assert headers == {
                "cloudEvents_specversion": "1.0",
                "cloudEvents_id": "a-1",
                "cloudEvents_source": "/heat",
                "cloudEvents_type": "org.example.state",
                "cloudEvents_subject": "k\u00fc 1",
                "cloudEvents_count": 3,
                "cloudEvents_flsubscription": "console",
                "cloudEvents_flpartition": "5",
                "cloudEvents_flpos": "41",
                "cloudEvents_flprev": "0",
                "cloudEvents_flepoch": "7",
                "cloudEvents_flgeneration": "1795359000123",
                "cloudEvents_flfloor": "38",
            }
            stamp = {"webhook-id": message.message_id or "", **message.headers}
            assert verify([SECRET], stamp, message.body, one.clock.wall) == SECRET

    run(main())


def test_with_shards_each_partition_has_its_queue(rabbitmq: RabbitNode, vhost: str) -> None:
    async def main() -> None:
        async with relay() as one, Client(rabbitmq.url(vhost)) as other:
            to = target(rabbitmq.url(vhost), shards=3, queue="q", routing_key="k")
            link = await one.up(to)
            await one.publish(
                link, *[on_bus(to, parcel(), partition=partition) for partition in (0, 4, 5, 7)]
            )
            await other.up()
            for queue, waiting in (("q.0", 1), ("q.1", 2), ("q.2", 1)):
                await other.depth_is(waiting, queue)
            assert [await link.depth(partition) for partition in (3, 1, 5)] == [1, 2, 1]
            other.consume("q.1")
            await until(lambda: len(other.got) == 2)
            assert {message.routing_key for message in other.got} == {"k.1"}

    run(main())


def test_the_queue_is_durable_quorum_single_active_and_unlimited(rabbitmq: RabbitNode, vhost: str) -> None:
    async def main() -> None:
        async with relay() as one:
            await one.up(target(rabbitmq.url(vhost)))
            listed = await asyncio.to_thread(
                rabbitmq.ctl,
                "list_queues",
                "-p",
                vhost,
                "name",
                "type",
                "durable",
                "arguments",
                "--formatter",
                "json",
            )
        queues = {queue.pop("name"): queue for queue in json.loads(listed)}
        arguments = {tuple(argument) for argument in queues["fairlead.console.0"].pop("arguments")}
        assert queues["fairlead.console.0"] == {"type": "quorum", "durable": True}
        assert arguments == {
            ("x-queue-type", "longstr", "quorum"),
            ("x-single-active-consumer", "bool", True),
        }
        assert queues[ANSWERS]["type"] == "quorum"

    run(main())


# -- what comes back -----------------------------------------------------------------------------------------


def test_answers_are_taken_in_order_and_acknowledged_when_they_are(rabbitmq: RabbitNode, vhost: str) -> None:
    async def main() -> None:
        async with Client(rabbitmq.url(vhost)) as other:
            await other.up()
            async with relay() as one:
                await one.up(target(rabbitmq.url(vhost)))
                one.taking.clear()
                for number in range(20):
                    headers = {"webhook-timestamp": "1", "Webhook-Signature": "v1,x"}
                    assert await other.published(
                        b"%d" % number, exchange="", key=ANSWERS, message_id=f"ack_{number}", headers=headers
                    ) == ["confirmed"]
            async with relay() as one:  # the node starts again, and finds what it had not taken
                await one.up(target(rabbitmq.url(vhost)))
                await until(lambda: len(one.answers) == 20)
                assert [body for _, body in one.answers] == [b"%d" % number for number in range(20)]
                assert one.answers[3][0]["webhook-id"] == "ack_3"
                assert one.answers[3][0]["webhook-signature"] == "v1,x"
                await other.depth_is(0, ANSWERS)
            async with relay() as one:
                await one.up(target(rabbitmq.url(vhost)))
                await other.depth_is(0, ANSWERS)
                assert not one.answers

    run(main())


def test_a_message_that_is_too_large_for_an_answer_is_said_to_be(
    rabbitmq: RabbitNode, vhost: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with relay() as one, Client(rabbitmq.url(vhost)) as other:
            await one.up(target(rabbitmq.url(vhost)))
            await other.up()
            await other.published(b"x" * (MOST_ANSWER_BYTES + 1), b"{}", exchange="", key=ANSWERS)
            await until(lambda: len(one.answers) == 1)
            assert one.answers[0][1] == b"{}", "the other one was none"

    run(main())
    (record,) = [one for one in caplog.records if one.message == "a message on the reply queue is no answer"]
    assert record.__dict__["detail"] == "the body has 1048577 bytes; 1048576 are taken"


def test_a_reply_queue_that_is_deleted_is_put_in_place_again(rabbitmq: RabbitNode, vhost: str) -> None:
    async def main() -> None:
        async with relay() as one, Client(rabbitmq.url(vhost)) as other:
            link = await one.up(target(rabbitmq.url(vhost)))
            await other.up()
            await until_taken(one, other)
            await asyncio.to_thread(rabbitmq.ctl, "delete_queue", "-p", vhost, ANSWERS)
            one.answers.clear()
            await until_taken(one, other)
            assert link.health.up

    run(main())


@pytest.mark.parametrize("lacks", ["configure", "read"])
def test_a_reply_queue_that_the_login_may_not_have_is_told_and_the_link_is_up_all_the_same(
    rabbitmq: RabbitNode, vhost: str, lacks: str
) -> None:
    user, but_answers = f"{lacks}-{vhost}", r"^fairlead(\.console.*)?$"
    may = [but_answers if one == lacks else ".*" for one in ("configure", "write", "read")]
    rabbitmq.add_user(user, "r", vhost, *may)

    async def main() -> None:
        async with relay() as one, Client(rabbitmq.url(vhost)) as other:
            to = target(rabbitmq.url(vhost), login=(user, "r"))
            link = await one.up(to)
            await other.up()
            await until(lambda: "403 ACCESS_REFUSED" in link.health.deaf)
            assert link.health.deaf.startswith("no answer can come by the reply queue: ")
            assert link.health.up
            assert await one.publish(link, on_bus(to, parcel())) == [Published("confirmed")]
            await asyncio.to_thread(rabbitmq.ctl, "set_permissions", "-p", vhost, user, ".*", ".*", ".*")
            await until(lambda: not link.health.deaf)
            await until_taken(one, other)

    run(main())


async def until_taken(one: Relay, other: Client) -> None:
    """Answer again and again until an answer is taken."""
    async with asyncio.timeout(60):
        while not one.answers:
            await other.published(b"{}", exchange="", key=ANSWERS)
            await asyncio.sleep(0.05)


# -- what is shared, and what is put in place again ----------------------------------------------------------


def test_links_of_one_login_share_their_connections_and_the_last_one_closes_them(
    rabbitmq: RabbitNode, vhost: str
) -> None:
    def connections() -> list[str]:
        listed = rabbitmq.ctl("list_connections", "--silent", "vhost", "client_properties")
        return [line for line in listed.splitlines() if line.split()[0] == vhost]

    async def connections_are(count: int) -> None:
        async with asyncio.timeout(60):
            while len(await asyncio.to_thread(connections)) != count:
                await asyncio.sleep(0.05)

    async def main() -> None:
        rabbitmq.add_user(f"u-{vhost}", "p", vhost)
        async with relay() as one:
            links = [await one.up(target(rabbitmq.url(vhost), routing_key=name)) for name in "ab"]
            await connections_are(2)
            assert any("fairlead n1 (answers)" in line for line in await asyncio.to_thread(connections))
            links.append(await one.up(target(rabbitmq.url(vhost), login=(f"u-{vhost}", "p"))))
            await connections_are(4)
            for link in links:
                link.close()
                link.close()
            await connections_are(0)
            again = await one.up(target(rabbitmq.url(vhost)))
            assert again.health.up
            await connections_are(2)
        await connections_are(0)

    run(main())


@pytest.mark.parametrize("lost", ["queue", "exchange"])
def test_what_is_deleted_is_put_in_place_again(rabbitmq: RabbitNode, vhost: str, lost: str) -> None:
    async def main() -> None:
        async with relay() as one, Client(rabbitmq.url(vhost)) as other:
            to = target(rabbitmq.url(vhost))
            link = await one.up(to)
            assert await one.publish(link, on_bus(to, parcel())) == [Published("confirmed")]
            await other.up()
            if lost == "queue":
                await asyncio.to_thread(rabbitmq.ctl, "delete_queue", "-p", vhost, "fairlead.console.0")
            else:
                name = f'rabbit_misc:r(<<"{vhost}">>, exchange, <<"fairlead">>)'
                script = f'rabbit_exchange:delete({name}, false, <<"test">>).'
                await asyncio.to_thread(rabbitmq.ctl, "eval", script)
            (result,) = await one.publish(link, on_bus(to, parcel()))
            assert result.kind == ("unroutable" if lost == "queue" else "lost")
            assert ("no queue is bound to exchange 'fairlead'" in result.detail) == (lost == "queue")
            assert ("no exchange 'fairlead'" in result.detail) == (lost == "exchange")
            assert one.told >= 1
            await until(lambda: link.health.up)
            assert await one.publish(link, on_bus(to, parcel(42))) == [Published("confirmed")]

    run(main())


def test_a_binding_that_is_not_ours_to_make_is_waited_for(
    rabbitmq: RabbitNode, vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amqp_link, "AGAIN_SECONDS", 0.5)

    async def main() -> None:
        async with relay() as one, Client(rabbitmq.url(vhost)) as other:
            await other.up()
            to = target(rabbitmq.url(vhost), declare=False)
            link = one.link(to)
            await until(lambda: "no exchange 'fairlead'" in link.health.detail)
            assert link.health.detail.endswith("; make it there, or leave protocolsettings.declare out")
            await other.session.declare(Topology("elsewhere", "fairlead", "another"))
            await until(lambda: "no queue 'fairlead.console.0'" in link.health.detail)
            await other.session.declare(Topology("fairlead.console.0"))
            await until(lambda: link.health.up)
            (result,) = await one.publish(link, on_bus(to, parcel()))
            assert result.kind == "unroutable"
            assert not link.health.up
            assert "by the routing key 'console'" in link.health.detail
            await other.session.declare(Topology("fairlead.console.0", "fairlead", "console"))
            await until(lambda: link.health.up)
            assert await one.publish(link, on_bus(to, parcel())) == [Published("confirmed")]

    run(main())


# -- what is said --------------------------------------------------------------------------------------------


async def why(one: Relay, to: Target, words: str) -> str:
    """What a link says that never comes up."""
    link = one.link(to)
    await until(lambda: words in link.health.detail)
    assert not link.health.up
    (result,) = await one.publish(link, on_bus(to, parcel()))
    assert result.kind in ("lost", "unroutable")
    assert await link.depth(5) is None or link.health.detail
    return link.health.detail


def test_what_is_wrong_with_a_broker_is_said_with_what_to_do(rabbitmq: RabbitNode, vhost: str) -> None:
    reader = f"reader-{vhost}"
    rabbitmq.add_user(reader, "r", vhost, "^fairlead.acks.*", ".*", ".*")
    port = free_port()

    async def main() -> None:
        async with Client(rabbitmq.url(vhost)) as other, relay() as one:
            await other.up()
            await other.session.declare(Topology("other", single_active=False))
            at = f"127.0.0.1:{rabbitmq.port}"
            assert await why(one, target(rabbitmq.url(vhost), login=("x", "secret-word")), "login") == (
                f"{at} does not accept the login of user 'x'; check its name and password"
            )
            detail = await why(one, target(rabbitmq.url("nowhere")), "virtual host")
            assert detail.startswith(f"{at} does not let user 'guest' into the virtual host 'nowhere': 530")
            assert await why(one, target(f"amqp://127.0.0.1:{port}"), "refused") == (
                f"connection refused by 127.0.0.1:{port}"
            )
            detail = await why(one, target(rabbitmq.url(vhost), queue="other"), "inequivalent arg")
            assert detail.endswith(
                "; to use what is there, set protocolsettings.declare to false; "
                "else give it another name, or delete it there"
            )
            detail = await why(
                one, target(rabbitmq.url(vhost), queue="none", declare=False), "no queue 'none'"
            )
            assert detail.endswith("; make it there, or leave protocolsettings.declare out")
            detail = await why(one, target(rabbitmq.url(vhost), login=(reader, "r")), "403 ACCESS_REFUSED")
            assert detail.endswith("permissions configure, write and read there")

    run(main())


def test_only_allowed_addresses_are_called(
    rabbitmq: RabbitNode,
) -> None:
    async def main() -> None:
        async with relay(allow=["x.example"]) as one:
            to = target(rabbitmq.url())
            for wrong in (
                to,
                target("amqps://mq.example", addresses=[rabbitmq.url()]),
                target("amqp://8.8.8.8"),
                target("amqp://mq.invalid"),
                target("amqps://localhost"),
            ):
                with pytest.raises(ForbiddenSink, match=r"\[egress\] allow"):
                    await one.bus.check(wrong)
            await one.bus.check(target("amqps://mq.example/vh"))
            await one.bus.check(target("amqp://x.example/vh"))
            detail = await why(one, to, "may not call")
            assert '[egress] allow = ["x.example", "127.0.0.1/32"]' in detail

    run(main())


def test_without_the_library_a_target_is_refused_and_one_that_is_stored_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(amqp, "find_spec", lambda name: None)

    async def main() -> None:
        async with relay() as one:
            with pytest.raises(InvalidSubscription, match=r"pip install 'fairlead\[amqp\]'"):
                await one.bus.check(target("amqps://mq.example"))
            assert "pip install 'fairlead[amqp]'" in await why(one, target("amqps://mq.example"), "library")

    run(main())


# -- what brokers do -----------------------------------------------------------------------------------------


def test_a_broker_that_blocks_publishers_is_down_and_answers_are_taken_all_the_same(
    rabbitmq_nodes: RabbitNodes,
) -> None:
    node = rabbitmq_nodes.node()

    async def main() -> None:
        async with relay() as one, Client(node.url()) as other:
            to = target(node.url())
            link = await one.up(to)
            await other.up()
            kinds = await other.published(
                *[b"%d" % number for number in range(600)], exchange="", key=ANSWERS
            )
            assert kinds == ["confirmed"] * 600
            one.taking.clear()
            await asyncio.to_thread(node.block_publishers)
            link.publish(on_bus(to, parcel()), one.results.append)
            await until(lambda: not link.health.up)
            assert "takes no messages (low on memory): free memory or disk space there" in link.health.detail
            since = link.health.since
            one.taking.set()
            await until(lambda: len(one.answers) == 600)  # more than are delivered without an acknowledgement
            assert await link.depth(5) is None
            await asyncio.to_thread(node.unblock_publishers)
            await until(lambda: link.health.up)
            assert link.health.since > since
            await until(lambda: one.results == [Published("confirmed")])

    run(main())


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    """Level, message and broker of what was said of a broker that is away, or back."""
    found = [one for one in caplog.records if one.message.startswith("a bus is")]
    return [(one.levelname, one.message, one.__dict__["broker"]) for one in found]


def said_of_queues(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    """Level, message and subscription of what was said of a queue that is refused, or no more."""
    found = [one for one in caplog.records if "queue" in one.message]
    return [(one.levelname, one.message, one.__dict__["subscription"]) for one in found]


def test_a_queue_that_is_refused_is_said_once_and_once_when_it_is_in_place(
    rabbitmq: RabbitNode, vhost: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(amqp_link, "AGAIN_SECONDS", 0.01)
    tries = 0
    declare = BrokerSession.declare

    async def counted(session: BrokerSession, topology: Topology) -> None:
        nonlocal tries
        tries += 1
        await declare(session, topology)

    monkeypatch.setattr(BrokerSession, "declare", counted)

    async def main() -> None:
        async with Client(rabbitmq.url(vhost)) as other, relay() as one:
            await other.up()
            await other.session.declare(Topology("other", single_active=False))
            link = one.link(target(rabbitmq.url(vhost), queue="other"))
            await until(lambda: tries > 2)
            assert said_of_queues(caplog) == [("WARNING", "a broker refuses a queue", "console")]
            (refused,) = (record for record in caplog.records if "queue" in record.message)
            assert (refused.__dict__["queue"], refused.__dict__["detail"]) == ("other", link.health.detail)
            await asyncio.to_thread(rabbitmq.ctl, "delete_queue", "-p", vhost, "other")
            await until(lambda: link.health.up)
            assert said_of_queues(caplog)[1:] == [("INFO", "a refused queue is in place", "console")]

    run(main())


def test_a_broker_that_dies_is_found_again_and_each_is_said_once(
    rabbitmq_nodes: RabbitNodes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    node = rabbitmq_nodes.node()

    async def main() -> None:
        async with relay() as one:
            to = target(node.url())
            link = await one.up(to)
            await one.publish(link, *[on_bus(to, parcel(position)) for position in range(1, 50)])
            await asyncio.to_thread(settled_declares)
            await asyncio.to_thread(node.kill)
            await until(lambda: not link.health.up)
            (result,) = await one.publish(link, on_bus(to, parcel()))
            assert result.kind == "lost"
            assert result.detail
            await until(lambda: "refused" in link.health.detail)
            at = f"127.0.0.1:{node.port}"
            assert said(caplog) == [("WARNING", "a bus is away", at)], "not of its tries, nor of the start"
            await asyncio.to_thread(node.start)
            await until(lambda: link.health.up)
            assert said(caplog)[1:] == [("INFO", "a bus is back", at)]
            assert (await one.publish(link, on_bus(to, parcel())))[0].kind in ("confirmed", "refused")

    run(main())
    assert len(said(caplog)) == 2, "who closes it knows"


def test_a_broker_that_is_away_from_the_start_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    at = f"127.0.0.1:{free_port()}"

    async def main() -> None:
        async with relay() as one:
            links = [one.link(target(f"amqp://{at}")) for _ in range(2)]
            await until(lambda: all("refused" in link.health.detail for link in links))

    run(main())
    assert said(caplog) == [("WARNING", "a bus is away", at)]


def test_over_tls_the_broker_must_be_who_it_should_be(rabbitmq_nodes: RabbitNodes, tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    files = tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(files[0])
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(files[1], append=True)
    certificate.private_key_pem.write_to_path(files[2])
    stranger.cert_pem.write_to_path(tmp_path / "stranger.pem")
    node = rabbitmq_nodes.node(tls=files)

    async def main() -> None:
        async with relay(ca_file=str(files[0])) as one:
            to = target(node.url(tls=True))
            link = await one.up(to)
            assert await one.publish(link, on_bus(to, parcel())) == [Published("confirmed")]
            by_address = target(f"amqps://127.0.0.1:{node.tls_port}")
            assert "the certificate of 127.0.0.1 is not accepted" in await why(one, by_address, "certificate")
            plain = target(f"amqps://127.0.0.1:{node.port}")
            assert "does not speak TLS on this port; is the sink amqp:// ?" in await why(one, plain, "TLS")
            await why(one, target(f"amqp://127.0.0.1:{node.tls_port}"), "or its one for amqps:// ?")
        async with relay(ca_file=str(tmp_path / "stranger.pem")) as one:
            detail = await why(one, target(node.url(tls=True)), "certificate")
            assert "the certificate of localhost is not accepted" in detail
        async with relay(ca_file=str(tmp_path / "missing.pem")) as one:
            await why(one, target(node.url(tls=True)), "missing.pem holds no certificate authority")

    run(main())
