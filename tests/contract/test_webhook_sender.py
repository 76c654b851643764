# SPDX-License-Identifier: Apache-2.0
"""HTTP 1.1 Web Hooks for Event Delivery (CloudEvents), the sender's side: every MUST by its section."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from fairlead.core.egress import EgressPolicy
from fairlead.core.subscription import Target
from fairlead.drivers.http_client.client import HttpAnswer, HttpClient
from fairlead.drivers.resolver import Resolver
from fairlead.errors import ForbiddenSink, HandshakeRefused
from fairlead.testing.deliveries import SetClock, delivery, event, parcel, subscription
from fairlead.testing.http_peer import NO_CONTENT, Connection, Peer, Script, Scripted, answering, peer, silent
from fairlead.transports.handshake import read_consent
from fairlead.transports.http import HttpSender

ORIGIN = "relay.example"


def sender(
    clock: SetClock | None = None, origin: str | None = ORIGIN, *, loopback: bool = True
) -> HttpSender:
    guard = EgressPolicy(loopback_allowed=loopback)
    return HttpSender(HttpClient(Resolver(guard)), guard, SetClock(), origin=origin)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def status(code: int, *headers: str) -> Scripted:
    return answering("\r\n".join([f"HTTP/1.1 {code} X", "content-length: 0", *headers, "", ""]).encode())


def consenting(*headers: str, code: int = 200) -> Scripted:
    """Answers OPTIONS with these headers, everything else with 204."""
    consent = "\r\n".join([f"HTTP/1.1 {code} X", "content-length: 0", *headers, "", ""]).encode()

    def script(running: Peer) -> Script:
        async def serve(connection: Connection) -> None:
            while True:
                head, body = await connection.request()
                running.note((head, body))
                await connection.answer(consent if head.startswith(b"OPTIONS ") else NO_CONTENT)

        return serve

    return script


# -- 2: delivering -------------------------------------------------------------------------------------------


def test_2_1_https_must_be_used_but_for_what_the_operator_allows() -> None:
    async def main() -> None:
        one = sender(loopback=False)
        for sink in ("http://8.8.8.8/hook", "http://127.0.0.1/hook"):
            with pytest.raises(ForbiddenSink):
                await one.check(Target(sink), subscription(Target(sink)))
            answer = await one.send(delivery(Target(sink), parcel()))
            assert answer.outcomes[0].kind == "forbidden"
        await one.close()

    run(main())


def test_2_1_post_is_the_method_unless_another_is_asked_for() -> None:
    assert Target("https://a.example/").method == "POST"


@pytest.mark.parametrize("mode", ["structured", "binary"])
@pytest.mark.parametrize("data", [{"n": 1}, None, "text", b""])
def test_2_1_a_delivery_must_have_a_content_type_and_a_body(mode: Any, data: Any) -> None:
    content_type = "text/plain" if isinstance(data, str) else None
    one = event(data=data, datacontenttype=content_type)

    async def main() -> None:
        ours = sender()
        async with peer(answering(NO_CONTENT)) as server:
            await ours.send(delivery(Target(server.url(), mode=mode), parcel(of=one)))
            head, body = server.requests[0]
            assert b"\r\ncontent-type: " in head
            assert body or data == b""  # bytes of length 0 are data too: the body is there, and empty
        await ours.close()

    run(main())


def test_2_1_the_origin_must_be_on_every_delivery_after_a_handshake() -> None:
    async def main() -> None:
        one = sender()
        async with peer(consenting(f"WebHook-Allowed-Origin: {ORIGIN}")) as server:
            target = Target(server.url(), handshake="required")
            to = subscription(target)
            await one.check(target, to)
            for position in (41, 42):
                await one.send(delivery(target, parcel(position), to=to))
            methods = [head.split(b" ")[0] for head, _ in server.requests]
            assert methods == [b"OPTIONS", b"POST", b"POST"]
            assert all(b"webhook-request-origin: relay.example\r\n" in head for head, _ in server.requests)
        await one.close()

    run(main())


@pytest.mark.parametrize("code", [200, 201, 202, 204])
def test_2_2_success_is_a_2xx(code: int) -> None:
    assert _outcome(status(code) if code != 204 else answering(NO_CONTENT)) == ("delivered", 1)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_2_2_redirects_must_not_be_followed(code: int) -> None:
    assert _outcome(status(code, "location: /elsewhere")) == ("unavailable", 1)


def test_2_2_410_stops_deliveries() -> None:
    assert _outcome(status(410)) == ("gone", 1)


def test_2_2_429_must_be_waited_for() -> None:
    async def main() -> None:
        one = sender()
        async with peer(status(429, "retry-after: 3600")) as server:
            answer = await one.send(delivery(Target(server.url()), parcel()))
            assert answer.outcomes[0].kind == "throttled"
            assert answer.outcomes[0].retry_after_seconds == 3600.0
        await one.close()

    run(main())


def test_2_2_an_unsupported_format_is_rejected() -> None:
    assert _outcome(status(415)) == ("rejected", 1)


def _outcome(script: Scripted) -> tuple[str, int]:
    """What came of one delivery, and how many requests it took."""
    seen: list[tuple[str, int]] = []

    async def main() -> None:
        one = sender()
        async with peer(script) as server:
            answer = await one.send(delivery(Target(server.url()), parcel()))
            seen.append((answer.outcomes[0].kind, len(server.requests)))
        await one.close()

    run(main())
    return seen[0]


# -- 3: authorization ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credential", "header"),
    [
        ({"credentialtype": "ACCESSTOKEN", "accesstoken": "t0k"}, b"authorization: Bearer t0k\r\n"),
        (
            {"credentialtype": "PLAIN", "identifier": "fairlead", "secret": "p\u00fc"},
            b"authorization: Basic ZmFpcmxlYWQ6cMO8\r\n",
        ),
    ],
)
def test_3_the_credential_is_sent_at_once(credential: dict[str, str], header: bytes) -> None:
    async def main() -> None:
        one = sender()
        async with peer(answering(NO_CONTENT)) as server:
            headers = {"Authorization": "other", "X-Env": "prod"}
            await one.send(delivery(Target(server.url(), credential=credential, headers=headers), parcel()))
            head = server.requests[0][0]
            assert header in head
            assert head.lower().count(b"authorization:") == 1
        await one.close()

    run(main())


def test_3_a_token_in_the_query_of_the_sink_is_kept() -> None:
    async def main() -> None:
        one = sender()
        async with peer(answering(NO_CONTENT)) as server:
            await one.send(delivery(Target(server.url(path="/hook?access_token=t0k")), parcel()))
            assert server.requests[0][0].startswith(b"POST /hook?access_token=t0k HTTP/1.1\r\n")
        await one.close()

    run(main())


def test_3_a_challenge_must_not_be_answered() -> None:
    assert _outcome(status(401, 'www-authenticate: Basic realm="x"', "www-authenticate: Negotiate")) == (
        "unavailable",
        1,
    )


# -- 4: the handshake ----------------------------------------------------------------------------------------


def test_4_1_options_must_go_to_the_exact_url_with_our_origin() -> None:
    async def main() -> None:
        one = sender()
        async with peer(consenting("WebHook-Allowed-Origin: *")) as server:
            target = Target(server.url(path="/hook/a?x=1"), handshake="required")
            assert await one.check(target, subscription(target)) is None
            head, body = server.requests[0]
            assert head.startswith(b"OPTIONS /hook/a?x=1 HTTP/1.1\r\n")
            assert b"webhook-request-origin: relay.example\r\n" in head
            assert b"webhook-request-rate" not in head
            assert b"webhook-request-callback" not in head
            assert body == b""
        await one.close()

    run(main())


def test_4_1_a_rate_is_asked_for_per_minute_and_the_one_allowed_is_told() -> None:
    async def main() -> None:
        one = sender()
        script = consenting("WebHook-Allowed-Origin: *", "WebHook-Allowed-Rate: 30")
        async with peer(script) as server:
            target = Target(server.url(), handshake="required")
            allowed = await one.check(target, subscription(target, rate_per_second=2.5))
            assert allowed == 0.5
            assert b"webhook-request-rate: 150\r\n" in server.requests[0][0]
        await one.close()

    run(main())


@pytest.mark.parametrize("code", [200, 204, 404, 405, 500])
def test_4_2_the_status_is_no_consent_and_no_refusal(code: int) -> None:
    headers = [(b"WebHook-Allowed-Origin", b"relay.example")]
    assert read_consent(HttpAnswer(code, headers, b""), origin=ORIGIN, rate_asked=False) is None
    with pytest.raises(HandshakeRefused, match="no WebHook-Allowed-Origin"):
        read_consent(HttpAnswer(code, [], b""), origin=ORIGIN, rate_asked=False)


@pytest.mark.parametrize(
    ("headers", "rate_asked", "says"),
    [
        ({"WebHook-Allowed-Origin": "other.example"}, False, "other.example"),
        ({"WebHook-Allowed-Origin": ""}, False, "relay.example"),
        ({"WebHook-Allowed-Origin": "*"}, True, "without WebHook-Allowed-Rate"),
        ({"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "0"}, True, "whole number"),
        ({"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "fast"}, False, "whole number"),
        ({"WebHook-Allowed-Rate": "*"}, True, "no WebHook-Allowed-Origin"),
    ],
)
def test_4_2_what_is_no_consent_is_refused_with_the_reason(
    headers: dict[str, str], rate_asked: bool, says: str
) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    with pytest.raises(HandshakeRefused, match=says):
        read_consent(HttpAnswer(200, raw, b""), origin=ORIGIN, rate_asked=rate_asked)


@pytest.mark.parametrize(("rate", "per_second"), [("*", None), ("120", 2)])
def test_4_2_the_allowed_rate_is_a_number_per_minute_or_any(rate: str, per_second: int | None) -> None:
    raw = [(b"webhook-allowed-origin", b"RELAY.example"), (b"webhook-allowed-rate", rate.encode())]
    assert read_consent(HttpAnswer(200, raw, b""), origin=ORIGIN, rate_asked=True) == per_second


def test_a_sink_without_consent_is_refused_before_anything_is_delivered() -> None:
    async def main() -> None:
        one = sender()
        async with peer(status(200)) as server:
            target = Target(server.url(), handshake="required")
            with pytest.raises(HandshakeRefused) as raised:
                await one.check(target, subscription(target))
            assert raised.value.members.get("answered", True)
            assert [head.split(b" ")[0] for head, _ in server.requests] == [b"OPTIONS"]
        await one.close()

    run(main())


def test_a_handshake_that_nobody_answers_is_told_from_a_refusal() -> None:
    async def main() -> None:
        one = sender()
        async with peer(silent) as server:
            target = Target(server.url(), handshake="required")
        with pytest.raises(
            HandshakeRefused, match="did not answer the handshake: connection refused"
        ) as raised:
            await one.check(target, subscription(target))
        assert raised.value.members["answered"] is False
        await one.close()

    run(main())


def test_a_relay_without_a_name_cannot_shake_hands_and_says_what_to_set() -> None:
    async def main() -> None:
        one = sender(origin=None)
        async with peer(consenting("WebHook-Allowed-Origin: *")) as server:
            target = Target(server.url(), handshake="required")
            with pytest.raises(HandshakeRefused, match=r"\[webhook\] origin"):
                await one.check(target, subscription(target))
            assert not server.requests
        await one.close()

    run(main())
