# SPDX-License-Identifier: Apache-2.0
"""Deliveries over HTTP, to real servers: what is sent (interface, section 7) and what comes of it."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable, Coroutine
from hashlib import blake2b
from typing import Any

import pytest
from standardwebhooks import Webhook

from fairlead.core.answer import AnswerDocument, Stale
from fairlead.core.egress import EgressPolicy
from fairlead.core.outcome import Outcome
from fairlead.core.subscription import BatchOptions, Predecessor, Secrets, Target
from fairlead.drivers.http_client.client import HttpClient
from fairlead.drivers.resolver import Resolver
from fairlead.errors import ForbiddenSink
from fairlead.ports import Answer, Delivery
from fairlead.testing.deliveries import FENCE, SECRET, SetClock, delivery, event, parcel, subscription
from fairlead.testing.http_peer import NO_CONTENT, Scripted, answering, peer, silent
from fairlead.transports.http import HttpSender

Build = Callable[[str], Delivery]
Got = tuple[dict[str, str], bytes]

OLDER = "whsec_" + b64encode(b"b" * 32).decode()
OLDEST = "whsec_" + b64encode(b"c" * 32).decode()


def sender(clock: SetClock | None = None, origin: str | None = None, **policy: Any) -> HttpSender:
    guard = EgressPolicy(**(policy or {"loopback_allowed": True}))
    return HttpSender(HttpClient(Resolver(guard)), guard, clock or SetClock(), origin=origin)


def send_all(
    script: Scripted, *make: Build, clock: SetClock | None = None, origin: str | None = None
) -> tuple[list[Answer], list[Got]]:
    """Send deliveries made for the server's URL in turn; their answers and what the server got."""
    answers: list[Answer] = []
    got: list[Got] = []

    async def main() -> None:
        one = sender(clock, origin)
        async with peer(script) as server:
            try:
                answers.extend([await one.send(build(server.url())) for build in make])
            finally:
                await one.close()
            got.extend((headers_of(head), body) for head, body in server.requests)

    asyncio.run(main())
    return answers, got


def send(script: Scripted, make: Build, **more: Any) -> tuple[Answer, dict[str, str], bytes]:
    (answer,), requests = send_all(script, make, **more)
    headers, body = requests[-1]
    return answer, headers, body


def headers_of(head: bytes) -> dict[str, str]:
    """By lower-case name; "" is the request line. A header that came twice is a failure."""
    start, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    assert len({name for name, _ in pairs}) == len(pairs)
    return {"": start, **dict(pairs)}


def status(code: int, *headers: str, body: bytes = b"") -> Scripted:
    lines = [f"HTTP/1.1 {code} X", f"content-length: {len(body)}", *headers, "", ""]
    return answering("\r\n".join(lines).encode() + body)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


# -- what is sent --------------------------------------------------------------------------------------------


def test_a_structured_delivery_is_the_interfaces_example() -> None:
    clock = SetClock()
    answer, headers, body = send(
        answering(NO_CONTENT), lambda url: delivery(Target(url), parcel()), clock=clock
    )
    assert answer.outcomes == (Outcome("delivered", 204),)
    assert headers[""] == "POST /hook HTTP/1.1"
    assert headers["content-type"] == "application/cloudevents+json"
    assert headers["user-agent"] == "Fairlead/1.0"
    assert headers["webhook-id"] == "console_1795359000123_5_41"
    assert headers["webhook-timestamp"] == str(int(clock.wall))
    assert "webhook-request-origin" not in headers
    assert json.loads(body) == {
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
        "data": {"n": 1},
    }


def test_skipped_positions_are_named_in_the_event() -> None:
    _, _, body = send(
        answering(NO_CONTENT), lambda url: delivery(Target(url), parcel(prev=3, skipped=(39, 40)))
    )
    assert json.loads(body)["flskipped"] == "39 40"
    assert json.loads(body)["flprev"] == "3"


def test_the_signature_is_what_standard_webhooks_verifies() -> None:
    _, headers, body = send(answering(NO_CONTENT), lambda url: delivery(Target(url), parcel()))
    Webhook(SECRET).verify(body, headers)


def test_both_secrets_sign_until_the_older_one_goes_out_of_force() -> None:
    clock = SetClock()
    rotated = Secrets(SECRET, (Predecessor(OLDER, clock.wall + 60),))

    async def main() -> None:
        one = sender(clock)
        async with peer(answering(NO_CONTENT)) as server:
            target = Target(server.url())
            to = subscription(target, rotated)
            await one.send(delivery(target, parcel(), to=to))
            clock.wall += 60
            await one.send(delivery(target, parcel(), to=to))
            first, second = ((headers_of(head), body) for head, body in server.requests)
        await one.close()
        assert len(first[0]["webhook-signature"].split()) == 2
        for secret in (SECRET, OLDER):
            Webhook(secret).verify(first[1], first[0])
        assert len(second[0]["webhook-signature"].split()) == 1

    run(main())


def test_of_several_older_secrets_each_signs_until_its_own_time() -> None:
    clock = SetClock()
    older = (Predecessor(OLDER, clock.wall + 60), Predecessor(OLDEST, clock.wall + 30))

    async def main() -> None:
        one = sender(clock)
        async with peer(answering(NO_CONTENT)) as server:
            target = Target(server.url())
            to = subscription(target, Secrets(SECRET, older))
            for _ in range(3):
                await one.send(delivery(target, parcel(), to=to))
                clock.wall += 30
            signed = [headers_of(head)["webhook-signature"].split() for head, _ in server.requests]
        await one.close()
        assert [len(signatures) for signatures in signed] == [3, 2, 1]

    run(main())


def test_a_retry_has_the_same_id_and_a_new_timestamp() -> None:
    clock = SetClock()

    async def main() -> None:
        one = sender(clock)
        async with peer(status(503)) as server:
            item = delivery(Target(server.url()), parcel())
            await one.send(item)
            clock.wall += 5
            await one.send(item)
            first, second = (headers_of(head) for head, _ in server.requests)
        await one.close()
        assert first["webhook-id"] == second["webhook-id"]
        assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 5
        assert first["webhook-signature"] != second["webhook-signature"]

    run(main())


def test_a_binary_delivery_has_its_attributes_in_headers_and_its_data_as_body() -> None:
    one = event(data=b"\x00\x01", datacontenttype="application/octet-stream", subject="k\u00fc 1")
    _, headers, body = send(
        answering(NO_CONTENT), lambda url: delivery(Target(url, mode="binary"), parcel(of=one))
    )
    assert body == b"\x00\x01"
    assert headers["content-type"] == "application/octet-stream"
    assert headers["ce-id"] == "a-1"
    assert headers["ce-subject"] == "k%C3%BC%201"
    assert headers["ce-flpos"] == "41"
    assert "ce-datacontenttype" not in headers


def test_a_bare_delivery_is_the_data_alone() -> None:
    _, headers, body = send(answering(NO_CONTENT), lambda url: delivery(Target(url, mode="bare"), parcel()))
    assert json.loads(body) == {"n": 1}
    assert headers["content-type"] == "application/json"
    assert not [name for name in headers if name.startswith("ce-")]
    Webhook(SECRET).verify(body, headers)


@pytest.mark.parametrize(
    ("data", "declared", "sent", "body"),
    [
        (b"\x00", None, "application/octet-stream", b"\x00"),
        (b"\x00", "image/png", "image/png", b"\x00"),
        ("\u00fc", "text/plain", "text/plain", "\u00fc".encode()),
        ("\u00fc", "text/plain; charset=iso-8859-1", "text/plain; charset=iso-8859-1", b"\xfc"),
        ([1], "application/vnd.x+json", "application/vnd.x+json", b"[1]"),
    ],
)
def test_bare_data_keep_their_type_and_bytes(data: Any, declared: str | None, sent: str, body: bytes) -> None:
    one = event(data=data, datacontenttype=declared)
    _, headers, got = send(
        answering(NO_CONTENT), lambda url: delivery(Target(url, mode="bare"), parcel(of=one))
    )
    assert (headers["content-type"], got) == (sent, body)


def test_a_bare_delivery_without_data_has_an_empty_body() -> None:
    _, headers, body = send(
        answering(NO_CONTENT), lambda url: delivery(Target(url, mode="bare"), parcel(of=event(data=None)))
    )
    assert body == b""
    assert headers["content-length"] == "0"


def test_a_batch_is_an_array_with_an_id_of_its_own_that_repeats() -> None:
    parcels = (parcel(41), parcel(44, prev=41))
    answers, requests = send_all(
        answering(NO_CONTENT),
        lambda url: delivery(Target(url), *parcels, batch=BatchOptions()),
        lambda url: delivery(Target(url), *parcels, batch=BatchOptions()),
        lambda url: delivery(Target(url), parcels[0], batch=BatchOptions()),
    )
    (first, body), (again, _), (other, _) = requests
    assert [outcome.kind for outcome in answers[0].outcomes] == ["delivered", "delivered"]
    assert first["content-type"] == "application/cloudevents-batch+json"
    assert [one["flpos"] for one in json.loads(body)] == ["41", "44"]
    digest = blake2b(b"41 44").hexdigest()[:32]
    assert first["webhook-id"] == again["webhook-id"] == f"console_1795359000123_5_b{digest}"
    assert other["webhook-id"] != first["webhook-id"]
    Webhook(SECRET).verify(body, first)


def test_a_fence_is_a_delivery_without_an_event() -> None:
    answer_body = AnswerDocument(
        subscription="console", partition=5, generation=FENCE.generation, epoch=7, result="fence"
    ).encode()
    answer, headers, body = send(
        status(200, body=answer_body), lambda url: delivery(Target(url), receiver="library")
    )
    assert answer.heard
    assert headers["content-type"] == "application/vnd.fairlead.fence+json"
    assert headers["webhook-id"] == "console_1795359000123_5_f7"
    assert json.loads(body) == {
        "flsubscription": "console",
        "flpartition": "5",
        "flgeneration": "1795359000123",
        "flepoch": "7",
        "flfloor": "38",
    }
    Webhook(SECRET).verify(body, headers)


def test_method_and_headers_of_the_subscription_are_sent() -> None:
    _, headers, _ = send(
        answering(NO_CONTENT),
        lambda url: delivery(Target(url + "?a=1", method="PUT", headers={"X-Env": "prod"}), parcel()),
    )
    assert headers[""] == "PUT /hook?a=1 HTTP/1.1"
    assert headers["x-env"] == "prod"


def test_a_sink_that_cannot_be_sent_to_is_an_outcome_and_no_exception() -> None:
    async def main() -> None:
        one = sender()
        answer = await one.send(delivery(Target("https://a b/"), parcel()))
        await one.close()
        assert answer.outcomes[0].kind == "unavailable"
        assert "cannot be sent" in answer.outcomes[0].detail

    run(main())


# -- what comes of it ----------------------------------------------------------------------------------------


def test_the_librarys_answer_is_heard() -> None:
    body = AnswerDocument(
        subscription="console",
        partition=5,
        generation=FENCE.generation,
        epoch=7,
        key="/heat k1",
        result="applied",
        applied=44,
    ).encode()
    answer, _, _ = send(
        status(200, body=body), lambda url: delivery(Target(url), parcel(), receiver="library")
    )
    assert answer.heard
    assert answer.outcomes == (Outcome("delivered", 200, applied=44),)


def test_a_stale_answer_names_the_receivers_pair() -> None:
    body = Stale.of(FENCE.generation, 9).encode()
    answer, _, _ = send(
        status(409, body=body), lambda url: delivery(Target(url), parcel(), receiver="library")
    )
    assert (answer.outcomes[0].kind, answer.outcomes[0].epoch) == ("stale", 9)


def test_an_answer_that_never_ends_counts_by_its_status() -> None:
    huge = b"x" * 200_000
    answer, _, _ = send(status(200, body=huge), lambda url: delivery(Target(url), parcel()))
    assert answer.outcomes[0].kind == "delivered"


def test_a_receiver_that_does_not_answer_in_time_is_unavailable() -> None:
    answer, _, _ = send(silent, lambda url: delivery(Target(url), parcel(), timeout_seconds=0.2))
    assert answer.outcomes[0].kind == "unavailable"
    assert answer.outcomes[0].status is None
    assert "did not answer within the timeout" in answer.outcomes[0].detail


def test_a_closed_port_is_unavailable_and_named() -> None:
    async def main() -> None:
        async with peer(answering(NO_CONTENT)) as server:
            url = server.url()
        one = sender()
        answer = await one.send(delivery(Target(url), parcel()))
        await one.close()
        assert answer.outcomes[0].detail == f"connection refused by 127.0.0.1:{server.port}"

    run(main())


def test_an_address_that_the_policy_refuses_is_forbidden_with_the_line_to_add() -> None:
    async def main() -> None:
        async with peer(answering(NO_CONTENT)) as server:
            one = sender(allow=["x.example"])
            answer = await one.send(delivery(Target(server.url()), parcel()))
            await one.close()
            assert answer.outcomes[0].kind == "forbidden"
            assert '[egress] allow = ["x.example", "127.0.0.1/32"]' in answer.outcomes[0].detail
            assert server.opened == 0

    run(main())


def test_cancelling_a_delivery_closes_its_connection() -> None:
    async def main() -> None:
        one = sender()
        async with peer(silent) as server:
            task = asyncio.create_task(one.send(delivery(Target(server.url()), parcel())))
            await server.until(lambda: len(server.requests) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.until(lambda: server.ended == 1)
        await one.close()

    run(main())


@pytest.mark.parametrize(
    ("sink", "says"),
    [
        ("http://127.0.0.1/", "loopback"),
        ("https://169.254.169.254/latest/meta-data", "metadata"),
        ("http://8.8.8.8/", "without TLS"),
        ("https://localhost/", "loopback"),
        ("ftp://a.example/", "scheme"),
        ("http://nowhere.invalid/", "without TLS; use https or amqps, or allow it"),
        ("amqps://8.8.8.8/", "takes http and https"),
    ],
)
def test_a_sink_is_checked_before_a_subscription_is_stored(sink: str, says: str) -> None:
    async def main() -> None:
        one = sender(allow=["x.example"])
        with pytest.raises(ForbiddenSink, match=says):
            await one.check(Target(sink), subscription(Target(sink)))
        await one.close()

    run(main())


@pytest.mark.parametrize("sink", ["https://nowhere.invalid/hook", "http://named.invalid/hook"])
def test_a_host_that_is_not_in_dns_yet_is_no_reason_to_refuse(sink: str) -> None:
    async def main() -> None:
        one = sender(allow=["named.invalid"])
        assert await one.check(Target(sink), subscription(Target(sink))) is None
        await one.close()

    run(main())
