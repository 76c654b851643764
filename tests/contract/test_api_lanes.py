# SPDX-License-Identifier: Apache-2.0
"""Lanes, skips, attempts, channels and replays over HTTP (interface, sections 4 to 6)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.contract.api_scene import Relay, Sink, event, play, relay, sink

AT = "/subscriptions/s"
HELD = {"retry": {"first": "1h", "max": "1h"}}
PARKED = {"retry": {"first": "1ms", "max": "1ms", "max_attempts": 2}}


@asynccontextmanager
async def failing(
    tmp_path: Path, config: dict[str, Any], *, status: int = 503, keys: int = 2
) -> AsyncIterator[tuple[Relay, Sink]]:
    """A subscription `s` whose sink refuses; of each of `keys` resources two events wait."""
    async with relay(tmp_path) as api, sink(status) as receiver:
        body = {"sink": receiver.url, "protocol": "HTTP", "config": config}
        assert (await api.call("PUT", AT, body)).status == 201
        await api.publish(*(event(f"{n}-{key}", subject=f"k{key}") for n in range(2) for key in range(keys)))
        yield api, receiver


async def lanes(api: Relay, state: str, count: int) -> list[dict[str, Any]]:
    """The lanes, once there are so many in that state."""

    async def there() -> bool:
        counts: dict[str, int] = (await api.get(f"{AT}/lanes")).json["counts"]
        return counts[state] == count

    await api.until(there)
    items: list[dict[str, Any]] = (await api.get(f"{AT}/lanes", state=state)).json["items"]
    return items


def test_a_held_lane_shows_its_head_and_why_it_waits(tmp_path: Path) -> None:
    async def scene() -> None:
        async with failing(tmp_path, HELD, keys=1) as (api, _):
            (lane,) = await lanes(api, "held", 1)
            head = lane.pop("head")
            outcome = lane.pop("last_outcome")
            assert {name: lane[name] for name in ("key", "state", "waiting", "attempt")} == {
                "key": "/heat k0",
                "state": "held",
                "waiting": 2,
                "attempt": 1,
            }
            assert set(lane) == {"key", "partition", "state", "waiting", "attempt", "ready_at", "since"}
            assert (head["position"], head["source"], head["id"]) == (1, "/heat", "0-0")
            assert (outcome["outcome"], outcome["status"], outcome["target"]) == ("unavailable", 503, 0)
            page = (await api.get(f"{AT}/lanes")).json
            assert (page["counts"], page["next"]) == ({"held": 1, "parked": 0}, None)
            status = (await api.get(AT)).json["status"]
            assert (status["held_lanes"], status["last_error"]["status"]) == (1, 503)

    play(scene())


def test_lanes_are_paged_through(tmp_path: Path) -> None:
    async def scene() -> None:
        async with failing(tmp_path, HELD, keys=5) as (api, _):
            await lanes(api, "held", 5)
            seen: list[str] = []
            after: dict[str, str] = {}
            while True:
                page = (await api.get(f"{AT}/lanes", limit=2, **after)).json
                seen += [one["key"] for one in page["items"]]
                if page["next"] is None:
                    break
                after = {"after": page["next"]}
            assert sorted(seen) == [f"/heat k{n}" for n in range(5)]

    play(scene())


def test_released_lanes_go_on_in_order(tmp_path: Path) -> None:
    async def scene() -> None:
        async with failing(tmp_path, PARKED) as (api, receiver):
            await lanes(api, "parked", 2)
            receiver.status = 204
            got = await api.post(f"{AT}/lanes/release", {"state": "parked"})
            assert (got.status, got.json) == (200, {"affected": 2})

            async def delivered() -> bool:
                return len(receiver.got) >= 4

            await api.until(delivered)
            for key in ("0", "1"):
                ids = [one["id"] for one in receiver.got if one["id"].endswith(key)]
                assert ids == [f"0-{key}", f"1-{key}"]
            await lanes(api, "held", 0)
            assert (await api.get(f"{AT}/lanes")).json["counts"] == {"held": 0, "parked": 0}

    play(scene())


def test_a_retry_tries_now_and_leaves_the_schedule(tmp_path: Path) -> None:
    async def scene() -> None:
        async with failing(tmp_path, HELD) as (api, receiver):
            await lanes(api, "held", 2)
            receiver.status = 204
            got = await api.post(f"{AT}/lanes/retry", {"keys": ["/heat k0", "/heat k0"]})
            assert got.json == {"affected": 1}
            (lane,) = await lanes(api, "held", 1)
            assert lane["key"] == "/heat k1"
            assert (await api.post(f"{AT}/lanes/retry", {"key": "/heat k1"})).json == {"affected": 1}
            await lanes(api, "held", 0)

    play(scene())


def test_a_skip_names_the_head_and_is_on_record(tmp_path: Path) -> None:
    async def scene() -> None:
        async with failing(tmp_path, PARKED, status=400, keys=1) as (api, receiver):
            (lane,) = await lanes(api, "parked", 1)
            head = lane["head"]["position"]
            wrong = {"key": "/heat k0", "position": head + 1}
            problem = (await api.post(f"{AT}/lanes/skip", wrong)).problem(409, "wrong-state")
            assert problem["head"] == head
            receiver.status = 204
            right = {"key": "/heat k0", "position": head, "reason": "it is broken"}
            assert (await api.post(f"{AT}/lanes/skip", right)).json == {"affected": 1}
            await lanes(api, "parked", 0)

            async def delivered() -> bool:
                return [one["id"] for one in receiver.got] == ["1-0"]

            await api.until(delivered)
            assert receiver.got[0]["flskipped"] == str(head)
            (skip,) = (await api.get(f"{AT}/skips")).json["items"]
            assert skip.pop("at").endswith("Z")
            assert skip == {
                "key": "/heat k0",
                "partition": lane["partition"],
                "position": head,
                "source": "/heat",
                "id": "0-0",
                "reason": "operator",
                "by": "anonymous",
                "note": "it is broken",
            }
            assert (await api.get(AT)).json["status"]["skipped_events"] == 1

    play(scene())


@pytest.mark.parametrize(
    ("verb", "body", "pointer"),
    [
        ("retry", {}, ""),
        ("release", {"key": "a", "state": "held"}, ""),
        ("release", {"state": "slow"}, "/state"),
        ("release", {"stat": "held"}, "/stat"),
        ("release", {"keys": []}, "/keys"),
        ("release", {"keys": ["a", 1]}, "/keys"),
        ("release", {"keys": ["a"] * 1001}, "/keys"),
        ("retry", {"key": 7}, "/key"),
        ("skip", {"key": "a"}, "/position"),
        ("skip", {"key": "a", "position": 0}, "/position"),
        ("skip", {"key": "a", "position": 2**63}, "/position"),
        ("skip", {"position": 1}, "/key"),
        ("skip", [], ""),
    ],
)
def test_a_call_on_lanes_that_says_too_little_or_too_much_is_400(
    tmp_path: Path, verb: str, body: Any, pointer: str
) -> None:
    async def scene() -> None:
        async with failing(tmp_path, HELD, keys=0) as (api, _):
            problem = (await api.post(f"{AT}/lanes/{verb}", body)).problem(400, "invalid-request")
            assert pointer in [error["pointer"] for error in problem["errors"]]

    play(scene())


@pytest.mark.parametrize(
    ("call", "body", "pointer"),
    [
        ("lanes/release", {"keys": 5}, "/keys"),
        ("lanes/skip", {"key": 5, "position": 1}, "/key"),
        ("replay", {"time": 5}, "/time"),
        ("replay", {"position": 5}, "/position"),
        ("replay", {"event": "a"}, "/event"),
    ],
)
def test_one_mistake_is_one_fault(tmp_path: Path, call: str, body: Any, pointer: str) -> None:
    async def scene() -> None:
        async with failing(tmp_path, HELD, keys=0) as (api, _):
            problem = (await api.post(f"{AT}/{call}", body)).problem(400, "invalid-request")
            assert [error["pointer"] for error in problem["errors"]] == [pointer]

    play(scene())


def test_lanes_that_are_not_there_are_404(tmp_path: Path) -> None:
    async def scene() -> None:
        async with failing(tmp_path, HELD, keys=0) as (api, _):
            for verb, body in (
                ("retry", {"key": "/x"}),
                ("release", {"key": "/x"}),
                ("skip", {"key": "/x", "position": 1}),
                ("retry", {"keys": ["/x"]}),
                ("release", {"keys": ["/x"]}),
            ):
                problem = (await api.post(f"{AT}/lanes/{verb}", body)).problem(404, "not-found")
                assert "/x" in problem["detail"]
                assert [one["pointer"] for one in problem["errors"]] == [
                    "/keys" if "keys" in body else "/key"
                ]
            for path in ("lanes", "skips", "attempts", "channels"):
                (await api.get(f"/subscriptions/none/{path}")).problem(404, "not-found")
            assert (await api.post(f"{AT}/lanes/release", {"state": "parked"})).json == {"affected": 0}

    play(scene())


def test_attempts_come_newest_first_and_can_be_chosen(tmp_path: Path) -> None:
    async def scene() -> None:
        async with failing(tmp_path, PARKED, keys=1) as (api, _):
            (lane,) = await lanes(api, "parked", 1)
            items = (await api.get(f"{AT}/attempts")).json["items"]
            assert [one["attempt"] for one in items] == [2, 1]
            assert items[0]["outcome"] == "unavailable"
            assert set(items[0]) == {
                "partition", "position", "key", "attempt", "target", "started_at", "duration_ms", "outcome",
                "status", "detail",
            }  # fmt: skip
            first = (await api.get(f"{AT}/attempts", limit=1)).json
            second = (await api.get(f"{AT}/attempts", limit=1, after=first["next"])).json
            assert [one["attempt"] for one in (*first["items"], *second["items"])] == [2, 1]
            for query in (
                {"key": "/heat k0"},
                {"partition": lane["partition"]},
                {"position": 1},
                {"outcome": "unavailable"},
            ):
                assert len((await api.get(f"{AT}/attempts", **query)).json["items"]) == 2
            assert (await api.get(f"{AT}/attempts", outcome="delivered")).json["items"] == []
            (await api.get(f"{AT}/attempts", outcome="fine")).problem(400, "invalid-query")
            (await api.get(f"{AT}/attempts", partition="x")).problem(400, "invalid-query")

    play(scene())


def test_channels_are_listed_by_partition_in_pages_like_every_list(tmp_path: Path) -> None:
    async def scene() -> None:
        async with failing(tmp_path, HELD, keys=0) as (api, _):
            page = (await api.get(f"{AT}/channels")).json
            assert [one["partition"] for one in page["items"]] == list(range(8))
            assert page["next"] is None
            assert set(page["items"][0]) == {
                "partition", "generation", "epoch", "target", "transport", "state", "reason", "obstacle",
                "since", "switches", "unanswered", "at_broker",
            }  # fmt: skip
            assert {(one["transport"], one["state"]) for one in page["items"]} == {("http", "rest")}
            first = (await api.get(f"{AT}/channels", limit=5)).json
            rest = (await api.get(f"{AT}/channels", limit=5, after=first["next"])).json
            assert first["items"] + rest["items"] == page["items"]
            assert rest["next"] is None

    play(scene())


# -- replays ------------------------------------------------------------------------------------------------


def test_a_replay_sends_again_from_a_place_in_a_new_generation(tmp_path: Path) -> None:
    async def scene() -> None:
        async with failing(tmp_path, HELD, status=204, keys=1) as (api, receiver):

            async def delivered(count: int) -> None:
                async def enough() -> bool:
                    return len(receiver.got) >= count

                await api.until(enough)

            await delivered(2)
            before = (await api.get(AT)).json["status"]["generation"]
            place = int(receiver.got[0]["flpartition"])
            for at, body in enumerate(
                [
                    {"position": {"partition": place, "position": 1}},
                    {"time": "2020-01-01T00:00:00Z"},
                    {"event": {"source": "/heat", "id": "0-0"}},
                    {"event": {"source": "/heat", "id": "0-0"}, "key": "/heat k0"},
                ]
            ):
                got = await api.post(f"{AT}/replay", body)
                assert got.status == 202, got.body
                assert got.json["channels"] == [{"partition": place, "from": 1, "to": 2}]
                assert got.json["events"] == 2
                assert got.json["generation"] > before
                before = got.json["generation"]
                await delivered(2 * (at + 2))
                assert [one["id"] for one in receiver.got[-2:]] == ["0-0", "1-0"]
                assert receiver.got[-1]["flgeneration"] == str(before)

    play(scene())


def test_a_replay_that_cannot_be_says_why(tmp_path: Path) -> None:
    async def scene() -> None:
        async with failing(tmp_path, HELD, keys=0) as (api, _):
            await api.publish(event("a", subject="x"), event("a", subject="y"))

            async def refused(body: Any, status: int, kind: str) -> dict[str, Any]:
                return (await api.post(f"{AT}/replay", body)).problem(status, kind)

            problem = await refused({"event": {"source": "/heat", "id": "a"}}, 409, "wrong-state")
            assert {error["detail"] for error in problem["errors"]} == {"/heat x", "/heat y"}
            await refused({"event": {"source": "/heat", "id": "none"}}, 404, "event-not-found")
            await refused({"position": {"partition": 1, "position": 99}}, 409, "not-replayable")
            await refused({"time": "2999-01-01T00:00:00Z"}, 409, "not-replayable")
            await refused({"position": {"partition": 99, "position": 1}}, 400, "invalid-request")
            await refused({"position": {"partition": 1}}, 400, "invalid-request")
            await refused({"position": {"partition": 1, "position": 1, "x": 1}}, 400, "invalid-request")
            await refused({}, 400, "invalid-request")
            await refused({"time": "noon"}, 400, "invalid-request")
            await refused(
                {"time": "2020-01-01T00:00:00Z", "key": "a", "receiver": "library"}, 400, "invalid-request"
            )
            await refused({"time": "2020-01-01T00:00:00Z", "receiver": "magic"}, 400, "invalid-request")
            (await api.post("/subscriptions/none/replay", {"time": "2020-01-01T00:00:00Z"})).problem(
                404, "not-found"
            )

    play(scene())
