# SPDX-License-Identifier: Apache-2.0
"""How answers get to the relay: the reply queue first, then `POST …/acks`, then again later."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fairlead.core.answer import AnswerDocument, parse_answers
from fairlead.core.signature import verify
from fairlead.drivers.amqp.message import Message, Result
from fairlead.sdk.bus.answer import BusAnswer
from fairlead.sdk.bus.answering import BusAnswers
from fairlead.sdk.bus.posting import AnswerPost
from fairlead.testing.receiver_kit import ReceiverKit
from tests.acceptance.processes import RelayProcess
from tests.acceptance.waiting import until
from tests.contract.receiving import OTHER_SECRET, SECRET, Taken, event, receiver_at
from tests.contract.relay_end import REPLIES, consuming, relay_end
from tests.servers.rabbitmq import RabbitNode

CONFIRMED = Result("confirmed")


class Acks:
    """A relay's `/acks` that checks signatures as the relay does; `statuses` are answered first."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.requests: list[list[AnswerDocument]] = []
        self.url = ""

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        if self.statuses:
            return self.statuses.pop(0)
        assert verify([SECRET], headers, body, time.time()) == SECRET
        assert headers["webhook-id"].startswith("ack_")
        answers = parse_answers(body)
        assert {f"/base/subscriptions/{answer.subscription}/acks" for answer in answers} == {path}
        self.requests.append(answers)
        return 204

    @property
    def positions(self) -> list[int | None]:
        return [answer.applied for request in self.requests for answer in request]


@contextmanager
def acks_at(acks: Acks) -> Iterator[Acks]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(acks.take(self.path, headers, body))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    acks.url = f"http://127.0.0.1:{server.server_port}/base"
    try:
        yield acks
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(
    position: int, *, secret: str = SECRET, reply_to: str | None = REPLIES, joins: bool = False
) -> BusAnswer:
    document = AnswerDocument(
        subscription="test", partition=0, generation=1, epoch=1, key="k", result="applied", applied=position
    )
    return BusAnswer(f"ack_test_1_0_{position}", "test", document.encode(), secret, reply_to, joins)


class Broker:
    """Of our own `Publishes`: says of each publish what a test wants, or nothing at all."""

    def __init__(self, *results: Result | None) -> None:
        self.up = True
        self.results = list(results)
        self.queues: list[str] = []
        self.messages: list[Message] = []

    def publish(
        self, exchange: str, routing_key: str, message: Message, done: Callable[[Result], None]
    ) -> None:
        self.queues.append(routing_key)
        self.messages.append(message)
        result = self.results.pop(0) if self.results else CONFIRMED
        if result is not None:
            asyncio.get_running_loop().call_soon(done, result)


@asynccontextmanager
async def answers_by(
    broker: Broker, post: AnswerPost | None = None, **options: Any
) -> AsyncIterator[BusAnswers]:
    answers = BusAnswers(broker, post, **options)
    try:
        yield answers
    finally:
        await answers.close()


def on_a_loop(broker: Broker, url: str | None, *sent: BusAnswer, **options: Any) -> None:
    """Send answers and wait until all have got through."""

    async def main() -> None:
        post = None if url is None else AnswerPost(url)
        async with answers_by(broker, post, **options) as answers:
            for one in sent:
                answers.send(one)
            await asyncio.wait_for(answers._none_open.wait(), 60)

    asyncio.run(main())


# -- the reply queue -----------------------------------------------------------------------------------------


def test_an_answer_goes_to_the_reply_queue_signed() -> None:
    broker = Broker()
    on_a_loop(broker, None, answer(1))
    (message,) = broker.messages
    assert broker.queues == [REPLIES]
    assert message.message_id == "ack_test_1_0_1"
    headers = {**message.headers, "webhook-id": str(message.message_id)}
    assert verify([SECRET], headers, message.body, time.time()) == SECRET


def test_answers_that_are_ready_at_once_go_in_one_message_where_the_relay_takes_that() -> None:
    broker = Broker()
    on_a_loop(broker, None, *[answer(position, joins=True) for position in (1, 2, 3)])
    (message,) = broker.messages
    assert message.message_id == "ack_test_1_0_1"
    headers = {**message.headers, "webhook-id": str(message.message_id)}
    assert verify([SECRET], headers, message.body, time.time()) == SECRET
    assert [one.applied for one in parse_answers(message.body)] == [1, 2, 3]


def test_a_relay_that_does_not_say_so_gets_a_message_for_each_answer() -> None:
    broker = Broker()
    on_a_loop(broker, None, answer(1), answer(2))
    assert [message.message_id for message in broker.messages] == ["ack_test_1_0_1", "ack_test_1_0_2"]
    assert [parse_answers(message.body)[0].applied for message in broker.messages] == [1, 2]


def test_answers_of_two_relays_or_secrets_go_apart() -> None:
    broker = Broker()
    other = f"{REPLIES}-other"
    sent = [
        answer(1, joins=True),
        answer(2, joins=True, reply_to=other),
        answer(3, joins=True, secret=OTHER_SECRET),
        answer(4, joins=True),
    ]
    on_a_loop(broker, None, *sent)
    told = [[one.applied for one in parse_answers(message.body)] for message in broker.messages]
    assert (broker.queues, told) == ([REPLIES, other, REPLIES], [[1, 4], [2], [3]])


def test_one_whose_relay_does_not_take_arrays_goes_alone_also_beside_others() -> None:
    broker = Broker()
    on_a_loop(broker, None, answer(1, joins=True), answer(2), answer(3, joins=True))
    told = [[one.applied for one in parse_answers(message.body)] for message in broker.messages]
    assert told == [[1, 3], [2]]


def test_a_message_of_many_answers_that_does_not_get_through_costs_none_of_them() -> None:
    broker = Broker(Result("lost", "gone"))
    with acks_at(Acks()) as acks:
        on_a_loop(broker, acks.url, *[answer(position, joins=True) for position in (1, 2, 3)])
    assert len(broker.messages) == 1
    assert acks.positions == [1, 2, 3]


@pytest.mark.parametrize("kind", ["lost", "unroutable", "refused"])
def test_without_a_relays_url_an_answer_is_kept_and_sent_again(
    kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Broker(Result(kind, "gone"), Result(kind, "gone"))
    on_a_loop(broker, None, answer(1))
    assert broker.queues == [REPLIES] * 3
    assert caplog.text.count("do not reach the reply queue") == 1


def test_nothing_is_published_while_the_broker_is_away() -> None:
    async def main() -> None:
        broker = Broker(Result("lost", "gone"))
        async with answers_by(broker) as answers:
            answers.send(answer(1))
            broker.up = False
            await asyncio.sleep(0.5)
            assert len(broker.queues) == 1
            broker.up = True
            await asyncio.wait_for(answers._none_open.wait(), 60)
            assert len(broker.queues) == 2

    asyncio.run(main())


# -- by POST ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result", [Result("lost", "gone"), Result("unroutable", "gone"), Result("refused"), None]
)
def test_what_the_broker_does_not_confirm_goes_by_post(result: Result | None) -> None:
    with acks_at(Acks()) as acks:
        on_a_loop(Broker(result), acks.url, answer(1), confirm_seconds=0.1)
        assert acks.positions == [1]


def test_a_confirm_that_comes_too_late_changes_nothing() -> None:
    class Slow(Broker):
        def publish(self, exchange: str, routing_key: str, message: Message, done: Any) -> None:
            asyncio.get_running_loop().call_later(0.3, done, CONFIRMED)

    async def main() -> None:
        with acks_at(Acks()) as acks:
            async with answers_by(Slow(), AnswerPost(acks.url), confirm_seconds=0.1) as answers:
                answers.send(answer(1))
                await asyncio.wait_for(answers._none_open.wait(), 60)
                await asyncio.sleep(0.5)
            assert acks.positions == [1]

    asyncio.run(main())


def test_an_answer_without_a_reply_queue_or_to_a_foreign_one_goes_by_post_only() -> None:
    broker = Broker()
    with acks_at(Acks()) as acks:
        on_a_loop(broker, acks.url, answer(1, reply_to=None), answer(2, reply_to="orders"))
        assert acks.positions == [1, 2]
    assert broker.queues == []


def test_with_no_way_at_all_it_is_said_and_dropped(caplog: pytest.LogCaptureFixture) -> None:
    on_a_loop(Broker(), None, answer(1, reply_to=None))
    assert "names no reply queue" in caplog.text


def test_many_go_in_one_request() -> None:
    lost = [Result("lost", "gone")] * 50
    with acks_at(Acks()) as acks:
        on_a_loop(Broker(*lost), acks.url, *[answer(n) for n in range(50)])
        assert sorted(filter(None, acks.positions)) == list(range(1, 50))
        assert len(acks.requests) < 10


@pytest.mark.parametrize("status", [429, 503, 500])
def test_what_the_relay_cannot_take_now_is_tried_again(status: int) -> None:
    with acks_at(Acks(status, status)) as acks:
        broker = Broker(*[Result("unroutable", "gone")] * 9)
        on_a_loop(broker, acks.url, answer(1))
        assert acks.positions == [1]


def test_a_relay_that_is_away_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    with acks_at(Acks()) as acks:
        url = acks.url
    on_a_loop(Broker(Result("lost", "gone")), url, answer(1))  # the reply queue takes it the second time
    assert "does not take answers" in caplog.text


def test_what_the_relay_refuses_is_dropped_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with acks_at(Acks(401)) as acks:
        on_a_loop(Broker(Result("lost", "gone")), acks.url, answer(1))
        assert acks.positions == []
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert "refuses answers: 401" in record.message
    assert SECRET not in caplog.text


def test_requests_hold_one_subscription_and_secret_and_keep_to_the_relays_limits() -> None:
    seen: list[tuple[int, int]] = []

    class Counting(Acks):
        def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
            seen.append((len(parse_answers(body)), len(body)))
            return 204

    with acks_at(Counting()) as acks:
        post = AnswerPost(acks.url)
        many = [answer(n) for n in range(2001)]
        large = [
            replace(answer(n), body=answer(n).body[:-1] + b',"detail":"%b"}' % (b"x" * 300_000))
            for n in range(4)
        ]
        assert (
            post.post([*many, answer(1, secret=OTHER_SECRET), replace(answer(2), subscription="other")]) == []
        )
        assert [count for count, _ in seen] == [1000, 1000, 1, 1, 1]
        seen.clear()
        assert post.post(large) == []
        assert [count for count, _ in seen] == [3, 1]
        assert all(size <= 1024 * 1024 for _, size in seen)
        post.close()


@pytest.mark.parametrize("url", ["relay.example", "ftp://relay", "http://user:pw@relay", "http://relay/?x"])
def test_a_url_that_is_no_relays_is_refused(url: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011  # the sentence is the client's
        AnswerPost(url)
    assert "pw" not in str(refused.value)


# -- against the real ones -----------------------------------------------------------------------------------


def test_a_real_relay_takes_the_answers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with RelayProcess(tmp_path) as relay:
        relay.api.subscribe("test", "http://127.0.0.1:9/", receiver="library", secret=SECRET)
        post = AnswerPost(f"http://127.0.0.1:{relay.port}")
        assert post.post([answer(1)]) == []
        assert post.post([answer(1), answer(2)]) == []
        assert caplog.records == []
        assert post.post([answer(1, secret=OTHER_SECRET)]) == []
        assert "refuses answers: 401" in caplog.text
        post.close()


def test_the_reply_queue_is_deleted_and_answers_go_by_post_and_back(
    rabbitmq: RabbitNode, tmp_path: Path
) -> None:
    with relay_end(rabbitmq) as relay, acks_at(Acks()) as acks:
        receiver, kit = receiver_at(tmp_path, Taken(), relay_url=acks.url), ReceiverKit(SECRET, bus=True)
        with consuming(receiver, relay):
            relay.publish(kit.deliver(event(1)))
            assert relay.results(1) == ["applied"]
            relay.channel.queue_delete(REPLIES)
            relay.publish(*[kit.deliver(event(n)) for n in range(2, 40)])
            until(lambda: len(acks.positions) == 38, lambda: f"all answers come: {acks.positions}")
            assert sorted(map(int, filter(None, acks.positions))) == list(range(2, 40))
            relay.declare()
            relay.publish(kit.deliver(event(40)))
            assert relay.results(2) == ["applied"] * 2
        receiver.close()
