# SPDX-License-Identifier: Apache-2.0
"""CloudEvents through a whole relay: what came in goes out as the specifications say (conformance.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fairlead.config.settings import Egress, Webhook
from tests.contract.api_scene import ONE_EVENT, Relay, event, play, relay
from tests.contract.wire_scene import TAKEN, Hook, Receiver, answer, receiver, shows, soon, subscribe

BATCH = "application/cloudevents-batch+json"
ORIGIN = "relay.example"
MODES = ("structured", "binary", "batch")
OURS = {"flsubscription", "flpartition", "flpos", "flprev", "flgeneration", "flepoch", "flfloor"}


async def subscribed(api: Relay, sink: Receiver, mode: str) -> None:
    """A subscription in one of `MODES`."""
    if mode == "batch":
        await subscribe(api, sink.url, config={"batch": {"max_events": 10}})
    else:
        await subscribe(api, sink.url, protocolsettings={"mode": mode})


def attributes_of(hook: Hook, mode: str) -> dict[str, Any]:
    """The attributes of the one event of a delivery."""
    if mode == "binary":
        return {name[3:]: text for name, text in hook.headers.items() if name.startswith("ce-")}
    return hook.batch[0] if mode == "batch" else hook.event


async def through(api: Relay, sink: Receiver, mode: str, **attributes: Any) -> dict[str, Any]:
    """The attributes of an event when it comes out."""
    await subscribed(api, sink, mode)
    await api.publish(event(**attributes))
    return attributes_of((await sink.until(1))[0], mode)


# -- core ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_every_attribute_comes_out_as_it_went_in(tmp_path: Path, mode: str) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            given = {
                "time": "2026-11-22T10:00:00.123456789+02:00",
                "dataschema": "https://schemas.example/heat/1",
                "subject": "stacks/1",
                "flavor": "m1.large",
                "rank": 7,
                "urgent": True,
            }
            seen = await through(api, sink, mode, **given)
            for name, value in given.items():
                text = str(value).lower() if isinstance(value, bool) else str(value)
                assert seen[name] == (text if mode == "binary" else value), name
            assert {"id", "source", "type", "specversion"} <= set(seen)
            assert (
                set(seen) - {"data", "datacontenttype", "id", "source", "type", "specversion", *given} == OURS
            )

    play(scene())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size_bytes", [64 * 1024, 1024 * 1024])
def test_an_event_of_64_kib_and_more_must_pass_whole(tmp_path: Path, mode: str, size_bytes: int) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            await subscribed(api, sink, mode)
            empty = json.dumps(event(data=""), separators=(",", ":"))
            whole = json.dumps(event(data="x" * (size_bytes - len(empty))), separators=(",", ":")).encode()
            assert len(whole) == size_bytes
            got = await api.call("POST", "/events", whole, headers={"content-type": ONE_EVENT})
            assert got.status == 202
            (hook,) = await sink.until(1)
            data = json.loads(hook.body) if mode == "binary" else attributes_of(hook, mode)["data"]
            assert data == json.loads(whole)["data"]

    play(scene())


def test_source_and_id_make_an_event_distinct_and_a_repeat_is_delivered_once(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            await subscribe(api, sink.url)
            first, again = await api.publish(event("a"), event("a"))
            assert (first["duplicate"], again["duplicate"]) == (False, True)
            assert first["position"] == again["position"]
            await api.publish(event("a", source="/other"), event("b"))
            got = {(hook.event["source"], hook.event["id"]) for hook in await sink.until(3)}
            assert got == {("/heat", "a"), ("/other", "a"), ("/heat", "b")}
            await shows(api, "/subscriptions/s", lambda one: one["status"]["lag_events"] == 0)
            assert len(sink.posts) == 3

    play(scene())


@pytest.mark.parametrize(
    "content_type",
    [
        "application/CloudEvents+JSON",
        "application/cloudevents+json; charset=utf-8",
        'APPLICATION/CLOUDEVENTS+JSON;CHARSET="UTF-8"',
    ],
)
def test_media_types_are_compared_in_any_case_and_may_have_parameters(
    tmp_path: Path, content_type: str
) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            got = await api.call("POST", "/events", event(), headers={"content-type": content_type})
            assert got.status == 202, got.body

    play(scene())


def test_an_empty_batch_is_accepted(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            got = await api.call("POST", "/events", [], headers={"content-type": BATCH})
            assert (got.status, got.json) == (202, {"accepted": []})

    play(scene())


# -- HTTP binding -------------------------------------------------------------------------------------------


def test_a_binary_event_goes_out_binary_with_its_content_type_and_no_ce_datacontenttype(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            await subscribed(api, sink, "binary")
            headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
            headers |= {"ce-subject": "Euro%20%E2%82%AC%20%f0%9f%98%80", "content-type": "image/png"}
            assert (await api.call("POST", "/events", b"\x89PNG\x00\xff", headers=headers)).status == 202
            (hook,) = await sink.until(1)
            assert (hook.body, hook.headers["content-type"]) == (b"\x89PNG\x00\xff", "image/png")
            assert "ce-datacontenttype" not in hook.headers
            assert hook.headers["ce-subject"] == "Euro%20%E2%82%AC%20%F0%9F%98%80"

    play(scene())


def test_a_header_that_is_no_utf_8_is_rejected(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            headers = {"ce-specversion": "1.0", "ce-id": "%C0%A0", "ce-source": "/s", "ce-type": "t"}
            got = await api.call(
                "POST", "/events", b"{}", headers={**headers, "content-type": "application/json"}
            )
            assert got.problem(400, "invalid-event")["errors"][0]["header"] == "ce-id"

    play(scene())


def test_in_structured_mode_every_attribute_is_in_the_body(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            seen = await through(api, sink, "structured")
            (hook,) = sink.posts
            assert hook.headers["content-type"].partition(";")[0] == ONE_EVENT
            assert set(seen) >= OURS
            assert not [name for name in hook.headers if name.startswith("ce-")]

    play(scene())


@pytest.mark.parametrize("mode", ["structured", "binary", "bare"])
def test_batches_are_not_sent_unless_asked_for(tmp_path: Path, mode: str) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            await subscribe(api, sink.url, protocolsettings={"mode": mode})
            await api.call("POST", "/subscriptions/s/pause")
            many = [event(f"{n}", subject=f"k{n}") for n in range(50)]
            assert (await api.call("POST", "/events", many, headers={"content-type": BATCH})).status == 202
            await api.call("POST", "/subscriptions/s/resume")
            hooks = await sink.until(50)
            assert BATCH not in {hook.headers["content-type"].partition(";")[0] for hook in hooks}
            assert len({hook.headers["webhook-id"] for hook in hooks}) == 50

    play(scene())


# -- web hooks ----------------------------------------------------------------------------------------------


def test_a_delivery_is_a_post_with_a_content_type_and_a_body(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            await subscribe(api, sink.url)
            no_data = {name: value for name, value in event().items() if name != "data"}
            await api.publish(no_data)
            (hook,) = await sink.until(1)
            assert hook.method == "POST"
            assert hook.headers["content-type"]
            assert hook.body

    play(scene())


def test_sinks_without_tls_are_refused_unless_the_operator_names_them(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path, egress=Egress(allow=("10.0.0.0/8",))) as api:
            for sink, kind in (
                ("http://8.8.8.8/", "forbidden-sink"),
                ("http://127.0.0.1:9/", "forbidden-sink"),
            ):
                got = await api.call("PUT", "/subscriptions/s", {"sink": sink, "protocol": "HTTP"})
                problem = got.problem(422, kind)
                assert "allow" in problem["detail"] + problem["errors"][0].get("hint", "")
            await subscribe(api, "http://10.0.0.1/hook")

    play(scene())


def consenting(**headers: str) -> Any:
    """A receiver that answers OPTIONS with these headers and takes everything else."""
    return lambda hook: answer(405, content=b"", **headers) if hook.method == "OPTIONS" else TAKEN


def test_the_handshake_comes_first_and_its_status_is_no_consent(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path, webhook=Webhook(origin=ORIGIN)) as api, receiver() as sink:
            sink.behave = consenting(webhook_allowed_origin=ORIGIN)
            await subscribe(api, sink.url + "/a?x=1", protocolsettings={"handshake": "required"})
            (asked,) = sink.got
            assert (asked.method, asked.target) == ("OPTIONS", "/hook/a?x=1")
            assert asked.headers["webhook-request-origin"] == ORIGIN
            assert "webhook-request-rate" not in asked.headers
            await api.publish(event())
            (hook,) = await sink.until(1)
            assert hook.headers["webhook-request-origin"] == ORIGIN

    play(scene())


@pytest.mark.parametrize(
    ("headers", "rate"),
    [
        ({}, None),
        ({"allow": "POST"}, None),
        ({"webhook_allowed_origin": "other.example"}, None),
        ({"webhook_allowed_origin": "*"}, 10),
        ({"webhook_allowed_origin": "*", "webhook_allowed_rate": "0"}, 10),
    ],
)
def test_without_consent_nothing_is_sent_and_nothing_stored(
    tmp_path: Path, headers: dict[str, str], rate: int | None
) -> None:
    async def scene() -> None:
        async with relay(tmp_path, webhook=Webhook(origin=ORIGIN)) as api, receiver() as sink:
            sink.behave = lambda hook: answer(200, content=b"", **headers)
            body = {"sink": sink.url, "protocol": "HTTP", "protocolsettings": {"handshake": "required"}}
            got = await api.call("PUT", "/subscriptions/s", {**body, "config": {"rate": rate}})
            got.problem(422, "handshake-refused")
            await api.publish(event())
            (await api.get("/subscriptions/s")).problem(404, "not-found")
            assert sink.posts == []

    play(scene())


@pytest.mark.parametrize(("allowed", "rate"), [("60", 1), ("*", 10), ("6000", 10)])
def test_a_rate_is_asked_for_per_minute_and_the_allowed_one_holds(
    tmp_path: Path, allowed: str, rate: float
) -> None:
    async def scene() -> None:
        async with relay(tmp_path, webhook=Webhook(origin=ORIGIN)) as api, receiver() as sink:
            sink.behave = consenting(webhook_allowed_origin="*", webhook_allowed_rate=allowed)
            settings = {"handshake": "required"}
            made = await subscribe(api, sink.url, protocolsettings=settings, config={"rate": 10})
            assert sink.got[0].headers["webhook-request-rate"] == "600"
            assert made["config"]["rate"] == rate

    play(scene())


def test_consent_is_asked_for_again_after_a_day_and_a_refusal_disables_and_keeps(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path, webhook=Webhook(origin=ORIGIN)) as api, receiver() as sink:
            sink.behave = consenting(webhook_allowed_origin="*")
            await subscribe(api, sink.url, protocolsettings={"handshake": "required"})
            sink.behave = lambda hook: answer(200)
            now = api.server._clock.now
            api.server._clock.now = lambda: now() + 86_401
            await api.server.node.janitor._handshakes.renew()
            shown = (await api.get("/subscriptions/s")).json["status"]
            assert (shown["state"], shown["reason"]) == ("disabled", "handshake-refused")
            await api.publish(event())
            assert (await api.get("/subscriptions/s")).json["status"]["lag_events"] == 1
            assert sink.posts == []

    play(scene())


# -- extensions ---------------------------------------------------------------------------------------------

EXTENSIONS = {
    "sequence": "00000000000000000042",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7",
    "expirytime": "2020-01-01T00:00:00Z",
    "dataref": "https://store.example/1",
    "correlationid": "c-1",
    "causationid": "c-0",
    "recordedtime": "2026-01-01T00:00:00Z",
    "authtype": "app_user",
    "authid": "u-1",
    "authclaims": '{"a":1}',
    "dssematerial": "eyJ9",
    "severitytext": "warning",
    "severitynumber": 13,
    "sampledrate": 30,
    "deprecated": True,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", EXTENSIONS)
def test_an_extension_passes_unchanged(tmp_path: Path, name: str, mode: str) -> None:
    async def scene() -> None:
        value: Any = EXTENSIONS[name]
        async with relay(tmp_path) as api, receiver() as sink:
            seen = await through(api, sink, mode, **{name: value})
            if mode == "binary":
                value = str(value).lower() if isinstance(value, bool) else str(value).replace('"', "%22")
            assert seen[name] == value

    play(scene())


def test_a_hop_keeps_the_starting_trace_and_adds_none_of_its_own(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            await subscribe(api, sink.url)
            trace = EXTENSIONS["traceparent"]
            headers = {"content-type": ONE_EVENT, "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
            with_trace, without = event("a", traceparent=trace), event("b", subject="k2")
            for one in (with_trace, without):
                assert (await api.call("POST", "/events", one, headers=headers)).status == 202
            seen = {hook.event["id"]: hook.event for hook in await sink.until(2)}
            assert seen["a"]["traceparent"] == trace
            assert "traceparent" not in seen["b"]

    play(scene())


def test_an_event_past_its_expirytime_is_delivered_and_keeps_it(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            seen = await through(api, sink, "structured", expirytime="2020-01-01T00:00:00Z")
            assert seen["expirytime"] == "2020-01-01T00:00:00Z"

    play(scene())


def test_the_partitionkey_is_the_ordering_key_and_passes(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver(answer(503), TAKEN) as sink:
            await subscribe(api, sink.url, config=soon())
            placed = await api.publish(
                event("a", subject="x", partitionkey="tenant 1"),
                event("b", subject="y", partitionkey="tenant 1"),
            )
            assert placed[0]["partition"] == placed[1]["partition"]
            assert [hook.event["id"] for hook in await sink.until(3)] == ["a", "a", "b"]
            assert {hook.event["partitionkey"] for hook in sink.posts} == {"tenant 1"}
            items = (await api.get("/events", key="tenant 1")).json["items"]
            assert [item["event"]["id"] for item in items] == ["a", "b"]

    play(scene())


def test_an_empty_partitionkey_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            got = await api.call(
                "POST", "/events", event(partitionkey=""), headers={"content-type": ONE_EVENT}
            )
            assert got.problem(400, "invalid-event")["errors"][0]["pointer"] == "/partitionkey"

    play(scene())
