# SPDX-License-Identifier: Apache-2.0
"""Any request to the API, near-valid or wild, through the application over a real node on `:memory:`.

It is always answered, never with a 500, always with a problem of a defined type where it is refused; and
whatever was accepted meanwhile is delivered, in order.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.auth.keys import ApiKeys
from fairlead.bridges.imagefactory import ImagefactoryBridge
from fairlead.core.outcome import Outcome
from fairlead.core.signature import sign
from fairlead.core.subscription import Subscription, Target
from fairlead.engine.node import Node
from fairlead.engine.settings import EngineSettings, Limits
from fairlead.engine.sourcing.sources import Sources
from fairlead.errors import Problem
from fairlead.ports import Answer, Delivery
from fairlead.stores.sqlite.store import SqliteStore
from fairlead.telemetry import Telemetry
from fairlead.web.app import create_app
from fairlead.web.limits import BodyLimits
from fairlead.wiring import SystemClock
from tests.event_strategies import json_values

ANSWER_SECONDS = 20.0
EVENT_BYTES, REQUEST_BYTES = 4096, 16_384
ONE, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
PROBE = "probe"


def _kinds(of: type[Problem] = Problem) -> set[tuple[int, str]]:
    below = of.__subclasses__()
    return {(kind.status, kind.type) for kind in below}.union(*(_kinds(kind) for kind in below))


KINDS = _kinds()


class Fickle:
    """A sender of which every third request fails, but for those of the probe, which it notes."""

    def __init__(self) -> None:
        self.delivered: list[tuple[int, int]] = []
        self._count = 0

    async def send(self, delivery: Delivery) -> Answer:
        self._count += 1
        outcome = Outcome("delivered", 204)
        if delivery.subscription.id == PROBE:
            self.delivered += [(one.entry.partition, one.entry.position) for one in delivery.parcels]
        elif self._count % 3 == 0:
            outcome = Outcome("unavailable", 500) if self._count % 2 else Outcome("rejected", 400)
        return Answer((outcome,) * max(1, len(delivery.parcels)), 0, time.time())

    async def check(self, target: Target, subscription: Subscription) -> float | None:
        return None

    async def close(self) -> None: ...


class Relay:
    """The application, its loop, and what it has accepted."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.accepted: set[tuple[int, int]] = set()
        self.sender = Fickle()
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        clock = SystemClock()
        store = SqliteStore.open(":memory:", disk_reserve_bytes=0, busy_timeout_seconds=5.0)
        limits = Limits(event_bytes=EVENT_BYTES, batch_events=20, request_timeout_seconds=5.0)
        self.node = Node(
            store,
            self.sender,
            clock,
            EngineSettings(limits=limits),
            random=random.Random(1),
            telemetry=Telemetry(),
        )
        await self.node.start()
        follow = self.node.queries.events

        async def at_once(*arguments: Any, **options: Any) -> Any:
            return await follow(*arguments, **options, wait_seconds=0.0)

        self.node.queries.events = at_once
        self.keys = ApiKeys(store.keys, clock, random_bytes=random.Random(2).randbytes)
        bridge = ImagefactoryBridge(self.node.ingest, store, clock, random_bytes=random.Random(3).randbytes)
        self.app = create_app(
            self.node,
            authenticators=[self.keys],
            keys=self.keys,
            bridges={"imagefactory": bridge},
            sources=Sources(),
            clock=clock,
            limits=BodyLimits(event_bytes=EVENT_BYTES, request_bytes=REQUEST_BYTES, batch_events=20),
            delivery_defaults={"retry": {"first": "1ms", "max": "1ms"}},
            loopback=True,
        )
        await self.ask(
            "PUT", b"/subscriptions/" + PROBE.encode(), body=SUBSCRIPTION, content_type="application/json"
        )

    def furnish(self) -> None:
        """See that there is a subscription `a`, active, that fails now and then."""
        if self.loop.run_until_complete(self.node.store.subscriptions.get("a")) is None:
            self.loop.run_until_complete(
                self.ask("PUT", b"/subscriptions/a", content_type="application/json", body=SUBSCRIPTION)
            )

    def a_reject(self) -> str | None:
        """The id of something that a bridge could not take."""
        found = self.loop.run_until_complete(self.node.store.rejects.rejects(None, None, 1))
        return found[0].id if found else None

    def signed(self, body: bytes) -> tuple[tuple[bytes, bytes], ...]:
        """The headers of an answer by the receiver of `a`."""
        subscription = self.loop.run_until_complete(self.node.store.subscriptions.get("a"))
        assert subscription is not None
        now = int(time.time())
        signature = sign(subscription.secrets.current, "ack_1", now, body) if body else ""
        named = {"webhook-id": "ack_1", "webhook-timestamp": str(now), "webhook-signature": signature}
        return tuple((name.encode(), text.encode()) for name, text in named.items())

    def call(self, *arguments: Any, **options: Any) -> tuple[int, dict[str, str], bytes]:
        async def answered() -> tuple[int, dict[str, str], bytes]:
            answer = await asyncio.wait_for(self.ask(*arguments, **options), ANSWER_SECONDS)
            for key in await self.keys.list():  # or the next call would need it
                await self.keys.revoke(key.id)
            return answer

        return self.loop.run_until_complete(answered())

    async def ask(
        self,
        method: str,
        path: bytes,
        *,
        query: bytes = b"",
        headers: tuple[tuple[bytes, bytes], ...] = (),
        content_type: str | None = None,
        body: bytes = b"",
    ) -> tuple[int, dict[str, str], bytes]:
        named = [(b"host", b"127.0.0.1"), (b"content-length", str(len(body)).encode()), *headers]
        if content_type is not None:
            named.append((b"content-type", content_type.encode("latin-1")))
        sent: list[dict[str, Any]] = []
        waiting = [body[:7], body[7:]]

        async def receive() -> dict[str, Any]:
            if not waiting:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": method, "path": path.decode("utf-8", "replace"), "raw_path": path,
            "query_string": query, "headers": named, "client": ("127.0.0.1", 1),
        }  # fmt: skip
        await self.app(scope, receive, send)
        start, end = sent
        answer = {name.decode(): text.decode("latin-1") for name, text in start["headers"]}
        return self._checked(start["status"], answer, end["body"])

    def _checked(
        self, status: int, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        assert headers["x-request-id"]
        assert 200 <= status < 500 or status in (503, 507), (status, body)
        if status < 400:
            if status == 202 and b'"accepted"' in body:
                self.accepted |= {(one["partition"], one["position"]) for one in json.loads(body)["accepted"]}
            return status, headers, body
        assert headers["content-type"] == "application/problem+json"
        problem = json.loads(body)
        assert problem["status"] == status
        assert (status, problem["type"].removeprefix("urn:fairlead:problem:")) in KINDS, problem
        assert problem["title"]
        assert problem["detail"]
        assert problem["request_id"] == headers["x-request-id"]
        for error in problem.get("errors", ()):
            assert error["detail"]
            assert sum(place in error for place in ("pointer", "header", "query")) == 1, error
        return status, headers, body


SUBSCRIPTION = b'{"sink":"https://a.example/hook","protocol":"HTTP","config":{"start":"beginning"}}'


@pytest.fixture(scope="module")
def relay() -> Iterator[Relay]:
    running = Relay()
    try:
        yield running
        running.loop.run_until_complete(_all_was_delivered(running))
    finally:
        running.loop.run_until_complete(running.node.stop(5.0))
        running.loop.close()


async def _all_was_delivered(relay: Relay) -> None:
    """Whatever was accepted has reached the probe, in order within each partition's keys."""
    async with asyncio.timeout(60):
        while not relay.accepted <= set(relay.sender.delivered):
            await asyncio.sleep(0.01)
    assert relay.accepted


# -- what is sent -------------------------------------------------------------------------------------------


def mostly(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The usual, seven times in eight."""
    return st.sampled_from([usual] * 7 + [odd]).flatmap(lambda one: one)


ids = mostly(st.just("a"), st.sampled_from(["b", "none", "A", "x" * 64]) | st.text(max_size=8))
keys = mostly(st.sampled_from(["/heat k1", "/heat k2", "/heat", "p"]), st.text(max_size=8))
words = st.sampled_from(
    [
        "now", "beginning", "held", "parked", "library", "plain", "applied", "confirm", "HTTP", "AMQP", "v1a",
        "skip", "park", "stop",
    ]
)  # fmt: skip
times = st.sampled_from(
    ["2026-11-22T10:00:00Z", "2020-01-01T00:00:00+01:00", "0000-00-00T00:00:00Z", "9999-12-31T23:59:60Z"]
)
numbers = st.sampled_from([-1, 0, 1, 2, 7, 8, 2**31, 2**53, 2**63 - 1, 2**63, 10**30, 1.5, 1e308])
durations = st.sampled_from(["5s", "0ms", "1ms", "-1s", "9d", "99999999999d", "1MiB", "x"])
scalars = st.none() | st.booleans() | numbers | words | times | keys | durations
wild = json_values | scalars | st.lists(scalars, max_size=3)


def near(
    needed: dict[str, st.SearchStrategy[Any]] | None = None, **members: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of these members and what is needed; now and then one is of another kind."""
    optional = {name: mostly(one, wild) for name, one in members.items()}
    required = {name: mostly(one, wild) for name, one in (needed or {}).items()}
    return st.fixed_dictionaries(required, optional=optional)


partitions, positions = st.integers(-1, 8), st.integers(-1, 40)
place = near({"partition": partitions, "position": positions})
event_named = near({"source": st.just("/heat"), "id": st.text("abcdef0123456789", min_size=1, max_size=2)})
sinks = mostly(
    st.just("https://a.example/h"),
    st.sampled_from(
        [
            "http://127.0.0.1:1/", "http://[::1]/", "ftp://a", "https://u:p@a/", "https://a:99999/", "//",
            "https://\u00e4.example/#f", "https://[::1", "https://2130706433/",
        ]
    ),
)  # fmt: skip
header_fields = st.dictionaries(st.sampled_from(["X-A", "Host", "x a", "ce-id", "\u00e4"]), keys, max_size=2)
settings_of = near(
    method=st.sampled_from(["POST", "PUT", "GET"]),
    mode=st.sampled_from(["structured", "binary", "bare"]),
    handshake=st.sampled_from(["none", "required"]),
    headers=header_fields,
)
credentials = near(
    {"credentialtype": st.sampled_from(["PLAIN", "ACCESSTOKEN", "REFRESHTOKEN"])},
    identifier=keys, secret=keys, accesstoken=keys,
)  # fmt: skip
protocols = mostly(st.just("HTTP"), st.sampled_from(["AMQP", "http"]))
simple_filters = st.builds(
    lambda kind, name, value: {kind: {name: value}},
    st.sampled_from(["exact", "prefix", "suffix"]),
    mostly(st.sampled_from(["type", "subject"]), st.sampled_from(["Type", ""])),
    keys,
)
expressions = st.sampled_from(["TRUE", "type = 'a'", "1/0", "EXISTS x", "((", "ABS(subject)"])
filters = st.recursive(
    simple_filters | st.builds(lambda text: {"sql": text}, expressions),
    lambda inner: (
        st.builds(
            lambda kind, some: {kind: some}, st.sampled_from(["all", "any"]), st.lists(inner, max_size=2)
        )
        | st.builds(lambda one: {"not": one}, inner)
    ),
    max_leaves=4,
)
secrets = st.sampled_from(["whsec_" + "QUFB" * 11, "whsec_AAAA", "whsk_x"])
config = near(
    route=st.lists(near({"sink": sinks, "protocol": protocols}, protocolsettings=settings_of), max_size=2),
    retry=near(first=durations, max=durations, max_attempts=numbers, factor=numbers, jitter=words),
    start=words | times, concurrency=numbers, rate=numbers, timeout=durations, on_exhausted=words,
    batch=near(max_events=numbers, max_wait=durations, max_bytes=durations), secret=secrets,
    rejected_statuses=st.lists(st.integers(0, 999), max_size=3), receiver=words, settles=words,
)  # fmt: skip
subscriptions = near(
    {"sink": sinks, "protocol": protocols},
    protocolsettings=settings_of, sinkcredential=credentials, id=ids, source=keys, config=config, status=wild,
    types=st.lists(keys, max_size=2), filters=st.lists(filters, max_size=2), x=wild,
)  # fmt: skip
may = st.lists(st.sampled_from(["publish", "subscribe", "read", "operate", "admin", "fly"]), max_size=2)
grants = near({"may": may}, sources=st.lists(keys, max_size=2), types=st.lists(keys, max_size=2))
lanes_named = (
    near({"key": keys}) | near({"keys": st.lists(keys, max_size=3)}) | near({"state": words}) | near(x=wild)
)
replays = st.one_of(
    near({"position": place}, key=keys, receiver=words, settles=words),
    near({"time": times}, key=keys, receiver=words, settles=words),
    near({"event": event_named}, key=keys, receiver=words, settles=words),
    near(position=place, time=times, event=event_named, x=wild),
)
images = near({"id": keys, "status": keys}, percent_complete=numbers, status_detail=wild, callbacks=wild)
BODIES: dict[str, st.SearchStrategy[Any]] = {
    "/subscriptions": subscriptions,
    "/subscriptions/{}": subscriptions,
    "/subscriptions/{}/secret": near(secret=secrets),
    "/subscriptions/{}/replay": replays,
    "/subscriptions/{}/lanes/retry": lanes_named,
    "/subscriptions/{}/lanes/release": lanes_named,
    "/subscriptions/{}/lanes/skip": near({"key": keys, "position": positions | numbers}, reason=keys),
    "/subscriptions/{}/acks": near({"subscription": ids, "partition": numbers}, key=keys, applied=numbers),
    "/subscriptions/{}/pause": wild,
    "/subscriptions/{}/resume": wild,
    "/keys": near({"name": keys, "grants": st.lists(grants, max_size=2)}, expires_at=times),
    "/bridges/imagefactory/{}": near({"target_image": images}) | near({"base_image": images}, x=wild),
    "/rejects/{}/replay": wild,
}
PAGED = ("limit", "after")
READS: dict[str, tuple[str, ...]] = {
    "/events": ("key", "source", "id", "subject", "type", "accepted_after", "follow", *PAGED),
    "/subscriptions": ("state", *PAGED),
    "/subscriptions/{}": (),
    "/subscriptions/{}/lanes": ("state", *PAGED),
    "/subscriptions/{}/skips": PAGED,
    "/subscriptions/{}/attempts": ("key", "outcome", "partition", "position", *PAGED),
    "/subscriptions/{}/channels": (),
    "/keys": PAGED,
    "/rejects": ("source", *PAGED),
}
values = (
    keys
    | times
    | words
    | st.sampled_from(["true", "1", "1000", "-1", "9" * 20, "1e3", "\u0661", "delivered"])
)
cursors = (
    json_values.map(lambda value: urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")) | values
)
header_names = st.sampled_from(
    [
        b"if-match", b"if-none-match", b"authorization", b"x-request-id", b"webhook-id", b"webhook-timestamp",
        b"webhook-signature", b"ce-id", b"ce-specversion", b"ce-time", b"accept", b"origin", b"host",
    ]
)  # fmt: skip
header_values = st.sampled_from(
    [
        b"*",
        b'"1"',
        b'W/"1"',
        b"Bearer flk_" + b"A" * 32,
        b"Basic !",
        b"null",
        b"%c0%a0",
        b"1.0",
        b"ack_1",
        b"",
    ]
) | st.binary(max_size=12)
header_lists = mostly(st.just(()), st.lists(st.tuples(header_names, header_values), max_size=3).map(tuple))
spoilt = mostly(st.just(""), st.sampled_from(["cut", "twice", "text", "none", "large"]))


def spoil(document: Any, how: str) -> bytes:
    """A document's bytes, whole or not."""
    text = json.dumps(document).encode()
    match how:
        case "cut":
            return text[: len(text) // 2]
        case "twice":
            return text + text
        case "none":
            return b""
        case "large":
            return text + b" " * REQUEST_BYTES
    return text


# -- the tests ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(BODIES))
@settings(max_examples=40)
@given(st.data())
def test_any_body_is_answered(relay: Relay, path: str, data: st.DataObject) -> None:
    document, id, how, headers = data.draw(st.tuples(BODIES[path], ids, spoilt, header_lists))
    method = "PUT" if path in ("/subscriptions/{}", "/bridges/imagefactory/{}") else "POST"
    content_type = None if how == "none" else "text/plain" if how == "text" else "application/json"
    relay.furnish()
    body = spoil(document, how)
    if path == "/rejects/{}/replay":
        id = relay.a_reject() or id
    if path == "/subscriptions/{}/acks" and id == "a":
        headers = (*headers, *relay.signed(body))
    at = path.format(quote(id, safe="")).encode()
    relay.call(method, at, headers=headers, content_type=content_type, body=body)


@pytest.mark.parametrize("path", sorted(READS))
@settings(max_examples=40)
@given(st.data())
def test_any_look_is_answered(relay: Relay, path: str, data: st.DataObject) -> None:
    names = mostly(st.sampled_from(READS[path] or ("x",)), st.text(max_size=4))
    pairs = names.flatmap(lambda name: st.tuples(st.just(name), cursors if name == "after" else values))
    query, id, headers = data.draw(st.tuples(st.lists(pairs, max_size=2), ids, header_lists))
    relay.furnish()
    text = "&".join(f"{quote(name)}={quote(value)}" for name, value in query).encode()
    at = path.format(quote(id, safe="")).encode()
    status, _, body = relay.call("GET", at, query=text, headers=headers)
    if status == 200 and path != "/subscriptions/{}":
        assert {"items", "next"} <= set(json.loads(body))


paths = st.binary(max_size=20) | st.sampled_from(
    [
        b"/events/%00",
        b"/subscriptions/%ff",
        b"/subscriptions/..",
        b"/keys/%2e",
        b"/rejects/a/b",
        b"//",
        b"/bridges/x/y",
    ]
)
methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "*"])


@settings(max_examples=200)
@given(
    methods,
    paths | st.sampled_from(sorted(READS)).map(str.encode),
    st.binary(max_size=20),
    st.binary(max_size=40),
)
def test_any_bytes_are_answered(relay: Relay, method: str, path: bytes, query: bytes, body: bytes) -> None:
    relay.call(method, path, query=query, body=body)


valid = st.fixed_dictionaries(
    {
        "specversion": st.just("1.0"),
        "id": st.text("abcdef0123456789", min_size=1, max_size=4),
        "source": st.just("/heat"),
        "type": st.just("t"),
        "subject": st.sampled_from(["k1", "k2"]),
        "data": json_values,
    }
)
offered = valid | near(
    {"specversion": st.just("1.0"), "id": ids, "source": st.sampled_from(["/heat", "", "a b"]), "type": keys},
    subject=keys, time=times, partitionkey=keys, data=json_values, flpos=keys, rank=numbers, data_base64=keys,
    datacontenttype=st.sampled_from(["application/json", "text/plain", "x"]), Bad=wild,
)  # fmt: skip
content_types = mostly(
    st.sampled_from([ONE, BATCH]),
    st.sampled_from(
        ["application/json", f"{ONE}; charset=latin-1", "application/cloudevents+avro", "", "\xe4"]
    ),
)


@settings(max_examples=200)
@given(st.data())
def test_any_events_are_answered_and_none_that_was_accepted_is_lost(
    relay: Relay, data: st.DataObject
) -> None:
    content_type, how, headers = data.draw(st.tuples(content_types, spoilt, header_lists))
    document = data.draw(mostly(st.lists(offered, max_size=22) if content_type == BATCH else offered, wild))
    relay.call("POST", b"/events", headers=headers, content_type=content_type, body=spoil(document, how))


@settings(max_examples=100)
@given(st.lists(valid, min_size=1, max_size=20, unique_by=lambda one: str(one["id"])))
def test_valid_events_are_accepted_or_in_conflict(relay: Relay, batch: list[dict[str, Any]]) -> None:
    body = json.dumps(batch).encode()
    status, _, _ = relay.call("POST", b"/events", content_type=BATCH, body=body)
    assert status in (202, 409) or len(body) > EVENT_BYTES
