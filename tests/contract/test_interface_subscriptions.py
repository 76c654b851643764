# SPDX-License-Identifier: Apache-2.0
"""Interface, section 4: subscriptions, replays and secrets; the sentences that no other test has."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fairlead.config.settings import Limits
from fairlead.core.channel import ChannelFlush, Fence
from fairlead.errors import StoreBusy
from tests.contract.api_scene import Relay, event, play, relay
from tests.contract.wire_scene import TAKEN, answer, receiver, shows, soon, subscribe

AT = "/subscriptions/s"
NOWHERE = "http://127.0.0.1:9/hook"
CONFIG = {
    "route", "retry", "on_exhausted", "rejected_statuses", "start", "concurrency", "rate", "batch", "timeout",
    "ack_persist", "secret_overlap", "receiver", "signature", "settles", "failover",
}  # fmt: skip


def wanted(sink: str = NOWHERE, **members: Any) -> dict[str, Any]:
    return {"sink": sink, "protocol": "HTTP", **members}


async def put(api: Relay, body: Any, **headers: str) -> Any:
    return await api.call("PUT", AT, body, headers=headers)


# -- the object ---------------------------------------------------------------------------------------------


def test_the_interfaces_example_is_taken(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            body = {
                "id": "s",
                "source": "/heat",
                "types": ["org.example.state"],
                "filters": [{"any": [{"prefix": {"subject": "stack-"}}, {"sql": "EXISTS partitionkey"}]}],
                "sink": "https://console.example/hook",
                "protocol": "HTTP",
                "protocolsettings": {
                    "method": "POST", "headers": {"X-Env": "prod"}, "mode": "structured", "handshake": "none",
                },
                "sinkcredential": {
                    "credentialtype": "PLAIN", "identifier": "fairlead", "secret": "write-only",
                },
                "config": {
                    "route": [
                        {
                            "sink": "amqps://mq.example/vh", "protocol": "AMQP",
                            "protocolsettings": {"exchange": "fairlead", "routing_key": "console"},
                        },
                    ],
                    "retry": {
                        "first": "1s", "factor": 2, "max": "5m", "give_up_after": "3d", "max_attempts": None,
                        "jitter": "full", "max_retry_after": "1d",
                    },
                    "on_exhausted": "park", "rejected_statuses": [400, 413, 415, 422], "start": "now",
                    "concurrency": 64, "rate": None, "batch": None, "timeout": "15s",
                    "ack_persist": "before_next", "secret_overlap": "1d", "receiver": "plain",
                    "signature": "v1", "settles": None, "failover": "wait",
                },
            }  # fmt: skip
            assert (await put(api, body)).status == 201
            shown = (await api.get(AT)).json
            assert set(shown["config"]) == CONFIG
            implied = {"receiver": "library", "settles": "applied"}  # by the bus in its route
            for name, value in body["config"].items():  # type: ignore[attr-defined]
                if name != "route":
                    assert shown["config"][name] == implied.get(name, value), name
            assert shown["protocolsettings"]["headers"] == {"X-Env": "***"}
            assert shown["sinkcredential"] == {"credentialtype": "PLAIN", "identifier": "fairlead"}
            assert shown["config"]["route"][0]["sink"] == "amqps://mq.example/vh"
            for name in ("id", "source", "types", "filters", "sink", "protocol"):
                assert shown[name] == body[name]

    play(scene())


def test_the_smallest_subscription_has_the_examples_config_for_defaults(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            config = (await subscribe(api, NOWHERE))["config"]
            secret = config.pop("secret")
            assert secret.startswith("whsec_")
            assert set(config) == CONFIG
            assert config["rejected_statuses"] == [400, 413, 415, 422]
            assert (config["ack_persist"], config["secret_overlap"], config["failover"]) == (
                "before_next",
                "1d",
                "wait",
            )
            assert (config["start"], config["signature"], config["receiver"]) == ("now", "v1", "plain")
            assert config["retry"] == {
                "first": "1s", "factor": 2, "max": "5m", "give_up_after": "3d", "max_attempts": None,
                "jitter": "full", "max_retry_after": "1d",
            }  # fmt: skip

    play(scene())


def test_a_secret_that_was_given_is_never_shown(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            secret = "whsec_" + "QUFB" * 11
            got = await put(api, wanted(config={"secret": secret}))
            assert got.status == 201
            for one in (got, await api.get(AT), await api.get("/subscriptions")):
                assert secret not in one.body.decode()

    play(scene())


@pytest.mark.parametrize(
    ("members", "guarantee"),
    [
        ({"config": {"receiver": "library"}}, "chained"),
        ({}, "first-run-ordered"),
        ({"protocolsettings": {"mode": "binary"}}, "at-least-once"),
        ({"protocolsettings": {"mode": "bare"}}, "at-least-once"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_guarantee_is_named(tmp_path: Path, members: dict[str, Any], guarantee: str, scheme: str) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            shown = await subscribe(api, f"{scheme}://127.0.0.1:9/hook", **members)
            words = shown["status"]["guarantee"].split()
            assert words == [guarantee] + (["unauthenticated-answers"] if scheme == "http" else [])

    play(scene())


def test_a_bus_is_taken_while_its_broker_is_away_and_what_was_read_can_be_put_back(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            got = await put(api, {"sink": "amqps://mq.example/vh", "protocol": "AMQP"})
            assert got.status == 201
            shown = (await api.get(AT)).json
            assert (shown["config"]["settles"], shown["config"]["receiver"]) == ("applied", "library")
            assert shown["status"]["guarantee"] == "chained"
            again = await put(api, shown)
            assert (again.status, again.json["status"]["revision"]) == (200, 1)

    play(scene())


@pytest.mark.parametrize(
    "name",
    ["Host", "Connection", "Content-Type", "content-length", "Transfer-Encoding", "TE", "Upgrade", "Expect",
     "User-Agent", "webhook-id", "Webhook-Anything", "ce-id", "CE-Type"],
)  # fmt: skip
def test_headers_that_the_relay_sets_are_refused(tmp_path: Path, name: str) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            got = await put(api, wanted(protocolsettings={"headers": {name: "x"}}))
            (error,) = got.problem(422, "invalid-subscription")["errors"]
            assert error["pointer"] == f"/protocolsettings/headers/{name}"

    play(scene())


@pytest.mark.parametrize(
    "filters",
    [
        [{}],
        [{"exact": {}}],
        [{"exact": {"type": ""}}],
        [{"exact": {"type": 1}}],
        [{"prefix": {"type": "a"}, "suffix": {"type": "b"}}],
        [{"all": []}],
        [{"any": {}}],
        [{"not": []}],
        [{"sql": "type ="}],
        [{"sql": 7}],
        [{"regex": {"type": "a"}}],
        ["a"],
        {"exact": {"type": "a"}},
        {},
        "",
        0,
        False,
        [{"not": {"not": {"nonsense": 1}}}],
    ],
)
def test_an_impossible_filter_is_refused(tmp_path: Path, filters: Any) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            problem = (await put(api, wanted(filters=filters))).problem(422, "invalid-filter")
            assert all(error["pointer"].startswith("/filters") for error in problem["errors"])

    play(scene())


# -- making and replacing -----------------------------------------------------------------------------------


def test_on_put_the_id_must_be_the_paths_and_status_is_ignored(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            got = await put(api, wanted(id="other"))
            assert got.problem(422, "invalid-subscription")["errors"][0]["pointer"] == "/id"
            assert (await put(api, wanted(id="s", status={"state": "paused", "x": 1}))).status == 201
            assert (await api.get(AT)).json["status"]["state"] == "active"
            await api.post(f"{AT}/pause")
            read = (await api.get(AT)).json
            await api.post(f"{AT}/resume")
            assert (await put(api, {**read, "types": ["t"]})).json["status"]["state"] == "active"

    play(scene())


def test_start_is_ignored_when_it_is_replaced(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            await api.publish(event("old"))
            await subscribe(api, sink.url)
            got = await put(api, wanted(sink.url, types=["org.example.state"], config={"start": "beginning"}))
            assert (got.status, got.json["config"]["start"]) == (200, "now")
            await api.publish(event("new"))
            assert [hook.event["id"] for hook in await sink.until(1)] == ["new"]

    play(scene())


def test_a_subscription_starts_now_or_at_the_beginning_or_at_a_time(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as now, receiver() as whole, receiver() as later:
            now_ = api.server._clock.now
            api.server._clock.now = lambda: now_() - 3600
            await api.publish(event("a"))
            api.server._clock.now = lambda: now_() - 1800
            await api.publish(event("b"))
            api.server._clock.now = now_
            between = datetime.fromtimestamp(now_() - 2700, UTC).isoformat()
            await subscribe(api, now.url, "now")
            await subscribe(api, whole.url, "whole", config={"start": "beginning"})
            await subscribe(api, later.url, "later", config={"start": between})
            await api.publish(event("c"))
            assert [hook.event["id"] for hook in await whole.until(3)] == ["a", "b", "c"]
            assert [hook.event["id"] for hook in await later.until(2)] == ["b", "c"]
            assert [hook.event["id"] for hook in await now.until(1)] == ["c"]

    play(scene())


def test_a_filter_that_cannot_come_into_force_in_time_is_202_and_the_old_one_holds_until_then(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        limits = Limits(request_timeout_seconds=0.2)
        async with relay(tmp_path, limits=limits) as api, receiver() as sink:
            made = await subscribe(api, sink.url, types=["old"])
            channels = api.server.node.store.channels
            flush, busy = channels.flush, True

            async def refusing(flushes: list[ChannelFlush]) -> list[Fence | Exception]:
                if busy:
                    raise StoreBusy("the test keeps it busy")
                return await flush(flushes)

            channels.flush = refusing  # type: ignore[method-assign,assignment]
            got = await put(api, wanted(sink.url, types=["new"]))
            assert got.status == 202
            assert got.headers["etag"] == '"2"'
            assert got.json["status"]["filter_pending"] is True
            assert (await api.get(AT)).json["status"]["filter_pending"] is True
            await api.publish(event("1", type="old"), event("2", type="new"))
            busy = False
            await shows(api, AT, lambda one: "filter_pending" not in one["status"])
            await api.publish(event("3", type="new"), event("4", type="old"))
            hooks = await sink.until(2)
            assert [hook.event["id"] for hook in hooks] == ["1", "3"]
            assert made["status"]["generation"] == (await api.get(AT)).json["status"]["generation"]

    play(scene())


def test_a_changed_filter_counts_from_the_answer_on(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            await subscribe(api, sink.url, types=["a"])
            for round in range(10):
                kind = "ab"[round % 2]
                assert (await put(api, wanted(sink.url, types=[kind]))).status == 200
                await api.publish(event(f"{round}", type=kind), event(f"not-{round}", type="ba"[round % 2]))
            assert [hook.event["id"] for hook in await sink.until(10)] == [f"{n}" for n in range(10)]

    play(scene())


def test_it_can_be_deleted_while_something_is_in_flight(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver(b"") as sink:
            await subscribe(api, sink.url)
            await api.publish(event())
            await sink.until(1)
            assert (await api.call("DELETE", AT)).status == 204
            (await api.get(AT)).problem(404, "not-found")

    play(scene())


@pytest.mark.parametrize("state", ["paused", "stopped", "disabled"])
def test_every_state_but_active_keeps_events_and_resume_leads_to_active(tmp_path: Path, state: str) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            await subscribe(api, sink.url, config=soon(on_exhausted="stop"))
            if state == "paused":
                await api.post(f"{AT}/pause")
                await api.publish(event("a"))
            else:
                sink.answers(answer({"stopped": 400, "disabled": 410}[state]))
                await api.publish(event("a"))
            await shows(api, AT, lambda one: one["status"]["state"] == state)
            await api.publish(event("b"))
            (item,) = (await api.get("/subscriptions", state=state)).json["items"]
            assert item["status"]["lag_events"] > 0
            seen = len(sink.posts)
            sink.answers(TAKEN)
            for _ in range(2):
                got = await api.post(f"{AT}/resume")
                status = got.json["status"]
                assert (got.status, status["state"], status["reason"]) == (200, "active", None)
            assert [hook.event["id"] for hook in (await sink.until(seen + 2))[seen:]] == ["a", "b"]

    play(scene())


def test_the_list_shows_the_same_objects(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            await subscribe(api, NOWHERE)
            assert (await api.get("/subscriptions")).json == {
                "items": [(await api.get(AT)).json],
                "next": None,
            }

    play(scene())


def test_rate_bounds_requests_per_second(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            await subscribe(api, sink.url, config={"rate": 20})
            await api.publish(*(event(f"{n}", subject=f"k{n}") for n in range(11)))
            hooks = await sink.until(11)
            assert hooks[10].at - hooks[0].at >= 0.45  # ten gaps of 50 ms, less what the wire makes of them

    play(scene())


def test_a_secret_of_ones_own_replaces_the_one_before_and_both_sign(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            old = (await subscribe(api, sink.url))["config"]["secret"]
            mine = "whsec_" + "QUFB" * 11
            got = await api.post(f"{AT}/secret", {"secret": mine})
            assert (got.status, set(got.json)) == (200, {"secret", "previous_until"})
            await api.publish(event())
            (hook,) = await sink.until(1)
            assert hook.signed_by(old)
            assert hook.signed_by(mine)

    play(scene())


# -- replays ------------------------------------------------------------------------------------------------


def test_a_replay_that_is_pruned_names_the_oldest(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            await subscribe(api, sink.url)
            placed = await api.publish(*(event(f"{n}") for n in range(5)))
            await shows(api, AT, lambda one: one["status"]["lag_events"] == 0)
            now = api.server._clock.now
            api.server._clock.now = lambda: now() + 8 * 86_400
            partition = placed[0]["partition"]
            await api.publish(event("new"))
            await sink.until(6)

            async def pruned() -> bool:
                await api.server.node.janitor.sweep()
                return len((await api.get("/events")).json["items"]) == 1

            await api.until(pruned)
            body = {"position": {"partition": partition, "position": 1}}
            problem = (await api.post(f"{AT}/replay", body)).problem(409, "not-replayable")
            assert problem["oldest"] == {"partition": partition, "position": 6}

    play(scene())


def test_a_replay_of_one_key_sends_that_lane_again_and_no_other(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            await subscribe(api, sink.url)
            placed = await api.publish(*(event(f"{key}-{n}", subject=key) for n in range(3) for key in "ab"))
            await shows(api, AT, lambda one: one["status"]["lag_events"] == 0)
            first = next(one for one in placed if one["id"] == "a-1")
            body = {"position": {name: first[name] for name in ("partition", "position")}, "key": "/heat a"}
            got = await api.post(f"{AT}/replay", body)
            assert (got.status, got.json["channels"][0]["partition"]) == (202, first["partition"])
            assert [hook.event["id"] for hook in (await sink.until(8))[6:]] == ["a-1", "a-2"]
            await shows(api, AT, lambda one: one["status"]["lag_events"] == 0)
            assert len(sink.posts) == 8

    play(scene())


def test_a_replay_raises_the_generation_to_the_time_in_milliseconds_at_least(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            made = (await subscribe(api, sink.url))["status"]["generation"]
            (placed,) = await api.publish(event())
            await sink.until(1)
            await shows(api, AT, lambda one: one["status"]["lag_events"] == 0)
            body = {"event": {"source": "/heat", "id": "a-1"}}
            first = (await api.post(f"{AT}/replay", body)).json
            assert first["channels"] == [{"partition": placed["partition"], "from": 1, "to": 1}]
            assert set(first) == {"generation", "channels", "events"}
            assert first["generation"] >= max(made + 1, int(api.server._clock.now() * 1000) - 60_000)
            await sink.until(2)
            again = await api.post(f"{AT}/replay", body)
            assert again.json["generation"] > first["generation"]
            assert (await api.get(AT)).json["status"]["generation"] == again.json["generation"]

    play(scene())
