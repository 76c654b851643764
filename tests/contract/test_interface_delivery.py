# SPDX-License-Identifier: Apache-2.0
"""Interface, section 7, through a whole relay: what a delivery is, and what it makes of every answer."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from fairlead.config.settings import Webhook
from tests.contract.api_scene import ONE_EVENT, Relay, event, play, relay
from tests.contract.wire_scene import TAKEN, Hook, answer, receiver, shows, soon, subscribe

AT = "/subscriptions/s"
BATCH = "application/cloudevents-batch+json"
PROBLEM = "urn:fairlead:problem:"


def documented(status: int, **document: Any) -> bytes:
    """An answer with a JSON body."""
    return answer(status, content=json.dumps(document).encode(), content_type="application/json")


def library(hook: Hook, status: int = 200, result: str = "applied", **more: Any) -> bytes:
    """What the receiver library would answer."""
    stamps = hook.event
    document = {
        "subscription": stamps["flsubscription"],
        "partition": int(stamps["flpartition"]),
        "generation": int(stamps["flgeneration"]),
        "epoch": int(stamps["flepoch"]),
        "key": f"{stamps['source']} {stamps['subject']}",
        "result": result,
        "applied": int(stamps["flpos"]),
        **more,
    }
    return documented(status, **document)


def test_a_structured_delivery_is_the_interfaces(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path, webhook=Webhook(origin="relay.example")) as api, receiver() as sink:
            made = await subscribe(api, sink.url, "console")
            (placed,) = await api.publish(event())
            (hook,) = await sink.until(1)
            generation, partition = str(made["status"]["generation"]), str(placed["partition"])
            assert (hook.method, hook.target) == ("POST", "/hook")
            assert hook.headers["content-type"] == ONE_EVENT
            assert hook.headers["user-agent"] == "Fairlead/1.0"
            assert hook.headers["webhook-id"] == f"console_{generation}_{partition}_1"
            assert "webhook-request-origin" not in hook.headers  # only after a handshake
            stamps = {name: text for name, text in hook.event.items() if name.startswith("fl")}
            assert stamps.pop("flepoch").isdigit()
            assert stamps == {
                "flsubscription": "console", "flpartition": partition, "flpos": "1", "flprev": "0",
                "flgeneration": generation, "flfloor": "0",
            }  # fmt: skip
            assert list(hook.event)[-1] == "data"

    play(scene())


def test_data_go_out_as_the_text_that_came_in(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            await subscribe(api, sink.url)
            data = b'{"n": 1.50, "big": 123456789012345678901234567890, "n": 2, "e":1E+2, "s":"\\u00e4\\/"}'
            head = b'{"specversion":"1.0","id":"a","source":"/s","type":"t","data":'
            got = await api.call("POST", "/events", head + data + b"}", headers={"content-type": ONE_EVENT})
            assert got.status == 202
            (hook,) = await sink.until(1)
            assert hook.body.endswith(b'"data":' + data + b"}")

    play(scene())


def test_the_chain_names_the_unsettled_event_before(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            await subscribe(api, sink.url, types=["t"])
            await api.call("POST", f"{AT}/pause")
            await api.publish(event("a", type="t"), event("filtered", type="other"), event("b", type="t"))
            await api.call("POST", f"{AT}/resume")
            first, second = (hook.event for hook in await sink.until(2))
            assert (first["flpos"], second["flpos"]) == ("1", "3")
            assert second["flprev"] in ("0", "1")  # never the filtered one
            assert int(second["flfloor"]) <= 2

    play(scene())


def test_bare_is_the_data_and_signed_headers_alone(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            settings = {"mode": "bare", "method": "PUT", "headers": {"X-Env": "prod"}}
            secret = (await subscribe(api, sink.url, protocolsettings=settings))["config"]["secret"]
            none = {name: value for name, value in event("b").items() if name != "data"}
            await api.publish(event("a"), none)
            with_data, without = await sink.until(2)
            assert (with_data.method, with_data.body) == ("PUT", b'{"n": 1}')
            assert with_data.headers["x-env"] == "prod"
            assert with_data.headers["content-type"] == "application/json"
            assert not [name for name in with_data.headers if name.startswith("ce-")]
            assert without.body == b""
            assert with_data.signed_by(secret)
            assert without.signed_by(secret)

    play(scene())


# -- answers of the library ---------------------------------------------------------------------------------


def test_a_2xx_without_the_librarys_answer_is_unavailable(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            sink.behave = lambda hook: TAKEN if len(sink.posts) == 1 else library(hook)
            await subscribe(api, sink.url, config=soon(receiver="library"))
            await api.publish(event())
            await sink.until(2)
            page = await shows(api, f"{AT}/attempts", lambda page: len(page["items"]) == 2)
            assert [one["outcome"] for one in page["items"]] == ["delivered", "unavailable"]
            assert "library" in page["items"][1]["detail"]

    play(scene())


@pytest.mark.parametrize(("status", "kind"), [(409, "stale"), (425, "chain")])
def test_409_and_425_count_only_with_our_problem_type(tmp_path: Path, status: int, kind: str) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            foreign = documented(status, type=f"urn:other:{kind}", generation=1, epoch=1)
            sink.behave = lambda hook: foreign if len(sink.posts) == 1 else library(hook)
            await subscribe(api, sink.url, config=soon(receiver="library"))
            await api.publish(event())
            await sink.until(2)
            page = await shows(api, f"{AT}/attempts", lambda page: len(page["items"]) == 2)
            assert page["items"][1]["outcome"] == "unavailable"

    play(scene())


def test_stale_with_a_newer_epoch_raises_ours_above_it_and_goes_on(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:

            def behave(hook: Hook) -> bytes:
                generation = int(hook.event["flgeneration"])
                if int(hook.event["flepoch"]) < 1000:
                    return documented(409, type=f"{PROBLEM}stale", generation=generation, epoch=1000)
                return library(hook)

            sink.behave = behave
            await subscribe(api, sink.url, config=soon(receiver="library"))
            await api.publish(event())
            first, second = await sink.until(2)
            assert int(second.event["flepoch"]) > 1000
            assert first.headers["webhook-id"] == second.headers["webhook-id"]
            assert first.event["flepoch"] == "1"
            await shows(api, AT, lambda one: one["status"]["lag_events"] == 0)
            assert len(sink.posts) == 2

    play(scene())


def test_stale_with_a_newer_generation_stops_the_subscription(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            sink.behave = lambda hook: documented(
                409, type=f"{PROBLEM}stale", generation=int(hook.event["flgeneration"]) + 1, epoch=1
            )
            await subscribe(api, sink.url, config=soon(receiver="library"))
            await api.publish(event())
            shown = await shows(api, AT, lambda one: one["status"]["state"] == "stopped")
            assert shown["status"]["reason"] == "store-behind"

    play(scene())


def test_chain_sends_the_lane_again_from_what_is_applied(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            broken: list[str] = []

            def behave(hook: Hook) -> bytes:
                if hook.event["id"] == "a" and not broken:
                    broken.append("a")
                    return library(hook, 425, "chain", type=f"{PROBLEM}chain", applied=0)
                return library(hook)

            sink.behave = behave
            await subscribe(api, sink.url, config=soon(receiver="library"))
            await api.publish(event("a"), event("b"))
            assert [hook.event["id"] for hook in await sink.until(3)] == ["a", "a", "b"]
            page = await shows(api, f"{AT}/attempts", lambda page: page["items"], outcome="chain")
            assert page["items"][0]["status"] == 425
            await shows(api, f"{AT}/lanes", lambda page: page["counts"] == {"held": 0, "parked": 0})

    play(scene())


def test_reject_is_on_exhausted_at_once_and_failed_is_one_attempt_whatever_it_asks(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:

            def behave(hook: Hook) -> bytes:
                if hook.event["id"] == "rejected":
                    return library(hook, 422, "rejected", applied=0)
                whole = library(hook, 503, "failed", applied=0)
                return whole.replace(b"\r\n", b"\r\nretry-after: 9999\r\n", 1)

            sink.behave = behave
            config = soon(receiver="library")
            config["retry"]["max_attempts"] = 2
            await subscribe(api, sink.url, config=config)
            await api.publish(event("rejected", subject="r"), event("failed", subject="f"))
            page = await shows(api, f"{AT}/lanes", lambda page: page["counts"]["parked"] == 2)
            attempts = {one["head"]["id"]: one["attempt"] for one in page["items"]}
            assert attempts["failed"] == 2
            outcomes = {one["head"]["id"]: one["last_outcome"]["outcome"] for one in page["items"]}
            assert outcomes == {"rejected": "rejected", "failed": "unavailable"}
            assert len(sink.posts) == 3

    play(scene())


# -- batches ------------------------------------------------------------------------------------------------


def batching(**more: Any) -> dict[str, Any]:
    return soon(batch={"max_events": 100, "max_bytes": "1MiB", "max_wait": "5ms"}, **more)


async def waiting_batch(api: Relay, sink_url: str, *events: dict[str, Any], **more: Any) -> None:
    """A subscription in batches that finds all its events waiting."""
    await api.call("POST", "/events", list(events), headers={"content-type": BATCH})
    await subscribe(api, sink_url, config=batching(start="beginning", **more))


def test_a_batch_holds_events_of_one_channel_chained_and_its_id_is_that_of_its_positions(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            many = [event(f"{n}", subject=f"k{n % 6}") for n in range(60)]
            await waiting_batch(api, sink.url, *many)
            await shows(api, AT, lambda one: one["status"]["lag_events"] == 0)
            generation = (await api.get(AT)).json["status"]["generation"]
            for hook in sink.posts:
                assert hook.headers["content-type"] == BATCH
                (partition,) = {one["flpartition"] for one in hook.batch}
                positions = " ".join(one["flpos"] for one in hook.batch)
                digest = blake2b(positions.encode()).hexdigest()[:32]
                assert hook.headers["webhook-id"] == f"s_{generation}_{partition}_b{digest}"
            got = [one for hook in sink.posts for one in hook.batch]
            assert sorted(int(one["id"]) for one in got) == list(range(60))
            for key in range(6):
                ids = [int(one["id"]) for one in got if one["subject"] == f"k{key}"]
                assert ids == sorted(ids)
            assert len(sink.posts) < 30

    play(scene())


@pytest.mark.parametrize("mode", ["binary", "bare"])
def test_batches_need_structured_mode(tmp_path: Path, mode: str) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            body = {"sink": "http://127.0.0.1:9/", "protocol": "HTTP", "protocolsettings": {"mode": mode}}
            got = await api.call("PUT", AT, {**body, "config": batching()})
            assert got.problem(422, "invalid-subscription")["errors"][0]["pointer"] == "/config/batch"

    play(scene())


def test_207_of_a_plain_receiver_tells_the_events_apart(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:

            def behave(hook: Hook) -> bytes:
                if len(sink.posts) > 1:
                    return TAKEN
                results = [
                    {"partition": int(one["flpartition"]), "position": int(one["flpos"]), "status": status}
                    for one, status in zip(hook.batch, (204, 503, 204), strict=False)
                ]
                return documented(207, results=results)

            sink.behave = behave
            await waiting_batch(api, sink.url, *(event(id) for id in "abcd"))
            await shows(api, AT, lambda one: one["status"]["lag_events"] == 0)
            batches = [[one["id"] for one in hook.batch] for hook in sink.posts]
            assert batches[0] == ["a", "b", "c", "d"]  # c follows a failure of its key, d is not listed
            assert batches[1:] == [["b"], ["c", "d"]]  # one by one until it passes

    play(scene())


def test_another_status_counts_for_the_first_event_of_each_run(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver(answer(503), TAKEN) as sink:
            await waiting_batch(api, sink.url, *(event(id) for id in "abc"))
            await shows(api, AT, lambda one: one["status"]["lag_events"] == 0)
            page = await shows(api, f"{AT}/attempts", lambda page: page["items"], outcome="unavailable")
            assert [(one["position"], one["status"]) for one in page["items"]] == [(1, 503)]
            batches = [[one["id"] for one in hook.batch] for hook in sink.posts]
            assert batches == [["a", "b", "c"], ["a"], ["b", "c"]]  # one by one until it passes

    play(scene())


def test_the_librarys_207_settles_event_by_event(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:

            def result(one: dict[str, Any]) -> dict[str, Any]:
                failed = one["id"] == "b" and len(sink.posts) == 1
                position = int(one["flpos"])
                said = {
                    "subscription": "s", "partition": int(one["flpartition"]), "epoch": int(one["flepoch"]),
                    "generation": int(one["flgeneration"]), "key": f"/heat {one['subject']}",
                    "result": "failed" if failed else "applied", "applied": position - failed,
                }  # fmt: skip
                status = 503 if failed else 200
                return {
                    "partition": said["partition"],
                    "position": position,
                    "status": status,
                    "answer": said,
                }

            sink.behave = lambda hook: documented(207, results=[result(one) for one in hook.batch])
            await waiting_batch(api, sink.url, event("a"), event("b"), receiver="library")
            await shows(api, AT, lambda one: one["status"]["lag_events"] == 0)
            assert [[one["id"] for one in hook.batch] for hook in sink.posts] == [["a", "b"], ["b"]]

    play(scene())
