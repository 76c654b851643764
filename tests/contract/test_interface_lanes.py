# SPDX-License-Identifier: Apache-2.0
"""Interface, section 5: lanes, skips, attempts; the sentences that no other test has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fairlead.config.settings import Retention
from tests.contract.api_scene import Relay, event, play, relay
from tests.contract.wire_scene import TAKEN, Hook, Receiver, answer, receiver, shows, soon, subscribe

AT = "/subscriptions/s"
FOR_LONG = {"retry": {"first": "1h", "max": "1h", "jitter": "none"}}


@asynccontextmanager
async def refusing(
    folder: Path, config: dict[str, Any], *, status: int = 503, keys: int = 1
) -> AsyncIterator[tuple[Relay, Receiver]]:
    """A subscription `s` whose receiver refuses; of each of `keys` resources two events wait."""
    async with relay(folder) as api, receiver(answer(status)) as sink:
        await subscribe(api, sink.url, config=config)
        await api.publish(*(event(f"{n}-{key}", subject=f"k{key}") for n in range(2) for key in range(keys)))
        yield api, sink


async def lanes(api: Relay, state: str, count: int = 1) -> list[dict[str, Any]]:
    """The lanes in a state, once there are so many."""
    page = await shows(api, f"{AT}/lanes", lambda page: page["counts"][state] == count)
    return [one for one in page["items"] if one["state"] == state]


def test_lanes_are_listed_by_state_with_the_counts_of_both(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            sink.behave = lambda hook: answer(400 if hook.event["subject"] == "bad" else 503)
            await subscribe(api, sink.url, config=FOR_LONG)
            await api.publish(event("1", subject="bad"), event("2", subject="k1"), event("3", subject="k2"))
            await lanes(api, "parked")
            await lanes(api, "held", 2)
            for state, keys in (("held", ["/heat k1", "/heat k2"]), ("parked", ["/heat bad"])):
                page = (await api.get(f"{AT}/lanes", state=state)).json
                assert sorted(one["key"] for one in page["items"]) == keys
                assert page["counts"] == {"held": 2, "parked": 1}
            for state in ("slow", "Held", ""):
                (await api.get(f"{AT}/lanes", state=state)).problem(400, "invalid-query")

    play(scene())


@pytest.mark.parametrize("state", ["held", "parked"])
def test_a_retry_that_fails_leaves_state_and_schedule(tmp_path: Path, state: str) -> None:
    async def scene() -> None:
        config = FOR_LONG if state == "held" else soon()
        async with refusing(tmp_path, config, status=503 if state == "held" else 400) as (api, sink):
            (before,) = await lanes(api, state)
            seen = len(sink.posts)
            assert (await api.post(f"{AT}/lanes/retry", {"key": before["key"]})).json == {"affected": 1}
            await sink.until(seen + 1)
            await shows(api, f"{AT}/attempts", lambda page: len(page["items"]) == seen + 1)
            (after,) = await lanes(api, state)
            for name in ("state", "head", "waiting"):
                assert after[name] == before[name]
            for name in ("ready_at", "since"):
                moved = datetime.fromisoformat(after[name]) - datetime.fromisoformat(before[name])
                assert abs(moved.total_seconds()) < 1, name
            assert len(sink.posts) == seen + 1

    play(scene())


@pytest.mark.parametrize("state", ["held", "parked"])
def test_a_release_begins_a_new_schedule_from_attempt_0_now(tmp_path: Path, state: str) -> None:
    async def scene() -> None:
        config = (
            {"retry": {"first": "1ms", "max": "1ms", "max_attempts": 3}} if state == "parked" else FOR_LONG
        )
        async with refusing(tmp_path, config) as (api, sink):
            (before,) = await lanes(api, state)
            seen = len(sink.posts)
            assert (await api.post(f"{AT}/lanes/release", {"keys": [before["key"]]})).json == {"affected": 1}
            await sink.until(seen + (3 if state == "parked" else 1))
            again = before["attempt"]
            await shows(api, f"{AT}/lanes", lambda page: [one["attempt"] for one in page["items"]] == [again])
            page = await shows(api, f"{AT}/attempts", lambda page: len(page["items"]) == 2 * again)
            assert page["items"][0]["attempt"] == again

    play(scene())


def test_a_named_key_without_a_lane_is_404_and_nothing_is_done(tmp_path: Path) -> None:
    async def scene() -> None:
        async with refusing(tmp_path, FOR_LONG, keys=2) as (api, sink):
            await lanes(api, "held", 2)
            seen = len(sink.posts)
            sink.answers(TAKEN)
            for verb in ("retry", "release"):
                problem = (await api.post(f"{AT}/lanes/{verb}", {"keys": ["/heat k0", "/none"]})).problem(
                    404, "not-found"
                )
                assert "/none" in problem["detail"]
            assert (await api.post(f"{AT}/lanes/retry", {"state": "parked"})).json == {"affected": 0}
            assert len(sink.posts) == seen
            assert (await api.post(f"{AT}/lanes/retry", {"state": "held"})).json == {"affected": 2}
            await sink.until(seen + 4)

    play(scene())


def test_a_thousand_keys_are_taken_at_once(tmp_path: Path) -> None:
    async def scene() -> None:
        async with refusing(tmp_path, FOR_LONG) as (api, _):
            (lane,) = await lanes(api, "held")
            same = [lane["key"]] * 1000
            assert (await api.post(f"{AT}/lanes/release", {"keys": same})).json == {"affected": 1}
            (await api.post(f"{AT}/lanes/release", {"keys": [*same, "x"]})).problem(400, "invalid-request")

    play(scene())


@pytest.mark.parametrize("state", ["held", "parked"])
def test_a_skip_drops_the_head_on_record_and_releases_the_lane(tmp_path: Path, state: str) -> None:
    async def scene() -> None:
        config = FOR_LONG if state == "held" else soon()
        async with refusing(tmp_path, config, status=503 if state == "held" else 400) as (api, sink):
            (lane,) = await lanes(api, state)
            seen = len(sink.posts)
            sink.answers(TAKEN)
            body = {"key": lane["key"], "position": lane["head"]["position"], "reason": "broken"}
            assert (await api.post(f"{AT}/lanes/skip", body)).json == {"affected": 1}
            (hook,) = (await sink.until(seen + 1))[seen:]
            assert (hook.event["id"], hook.event["flskipped"]) == ("1-0", str(lane["head"]["position"]))
            await shows(api, f"{AT}/lanes", lambda page: page["counts"] == {"held": 0, "parked": 0})
            (await api.post(f"{AT}/lanes/skip", body)).problem(404, "not-found")

    play(scene())


def test_flskipped_lists_positions_with_one_space_and_a_resend_gives_the_same_list(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            failed: set[str] = set()

            def behave(hook: Hook) -> bytes:
                if hook.event["id"] in ("b", "c"):
                    return answer(400)
                if hook.event["id"] == "d" and "d" not in failed:
                    failed.add("d")
                    return answer(503)
                return TAKEN

            sink.behave = behave
            await subscribe(api, sink.url, config=soon(on_exhausted="skip"))
            placed = await api.publish(*(event(id) for id in "abcd"))
            hooks = await sink.until(5)
            first, again = (hook.event for hook in hooks if hook.event["id"] == "d")
            expected = f"{placed[1]['position']} {placed[2]['position']}"
            assert (first["flskipped"], again["flskipped"]) == (expected, expected)
            assert first["flprev"] == again["flprev"]
            assert "flskipped" not in hooks[0].event
            page = (await api.get(f"{AT}/skips")).json
            assert {(one["id"], one["reason"]) for one in page["items"]} == {
                ("b", "exhausted"),
                ("c", "exhausted"),
            }

    play(scene())


def test_what_retention_takes_is_a_skip_on_record(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path, retention=Retention(max_age_seconds=3600.0)) as api:
            await subscribe(api, "http://127.0.0.1:9/")
            await api.post(f"{AT}/pause")
            await api.publish(event())
            now = api.server._clock.now
            api.server._clock.now = lambda: now() + 7200
            await api.server.node.janitor.sweep()
            (skip,) = (await api.get(f"{AT}/skips")).json["items"]
            assert set(skip) == {"key", "partition", "position", "source", "id", "reason", "by", "at"}
            assert (skip["id"], skip["reason"]) == ("a-1", "retention")
            assert (await api.get(AT)).json["status"]["skipped_events"] == 1

    play(scene())


def test_attempts_have_every_outcome_that_is_asked_for_by_name(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            statuses = {"delivered": 204, "unavailable": 500, "rejected": 400, "gone": 410, "throttled": 429}
            answers = {name: answer(status, retry_after="600") for name, status in statuses.items()}
            sink.behave = lambda hook: answers[hook.event["id"]]
            for number, name in enumerate(statuses):
                await subscribe(api, sink.url, f"s{number}", config=FOR_LONG)
                await api.publish(event(name, subject=name))
                await sink.until(number + 1)
                page = await shows(
                    api, f"/subscriptions/s{number}/attempts", lambda page: page["items"], outcome=name
                )
                (item,) = page["items"]
                assert (item["outcome"], item["status"], item["target"]) == (name, statuses[name], 0)
                assert item["duration_ms"] >= 0
                assert (await api.call("DELETE", f"/subscriptions/s{number}")).status == 204
            for name in ("forbidden", "stale", "chain"):
                await subscribe(api, sink.url, name)
                assert (await api.get(f"/subscriptions/{name}/attempts", outcome=name)).json["items"] == []

    play(scene())


def test_a_refused_connection_says_so_in_its_attempt(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            url = sink.url
        async with relay(tmp_path) as api:
            await subscribe(api, url, config=FOR_LONG)
            await api.publish(event())
            page = await shows(api, f"{AT}/attempts", lambda page: page["items"])
            (item,) = page["items"]
            assert (item["outcome"], item["status"], item["attempt"]) == ("unavailable", None, 1)
            assert "refused" in item["detail"]
            (lane,) = await lanes(api, "held")
            assert lane["last_outcome"]["detail"] == item["detail"]

    play(scene())
