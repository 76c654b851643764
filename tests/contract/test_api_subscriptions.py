# SPDX-License-Identifier: Apache-2.0
"""`/subscriptions` over HTTP: made, read, changed, put back, deleted (interface, section 4)."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from fairlead.config.settings import Limits
from fairlead.core.answer import AnswerDocument
from fairlead.core.signature import sign
from tests.contract.api_scene import Relay, event, play, relay, sink

NOWHERE = "http://127.0.0.1:9/hook"


def wanted(sink_: str = NOWHERE, **members: Any) -> dict[str, Any]:
    return {"sink": sink_, "protocol": "HTTP", **members}


def test_posting_makes_the_id_and_ignores_one_in_the_body(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            got = await api.post("/subscriptions", wanted(id="Mine!", status={"state": "paused"}))
            assert got.status == 201
            made = got.json
            assert got.headers["location"] == f"/subscriptions/{made['id']}"
            assert got.headers["etag"] == '"1"'
            assert made["id"] != "Mine!"
            assert made["status"]["state"] == "active"
            assert made["config"]["secret"].startswith("whsec_")
            read = (await api.get(got.headers["location"])).json
            assert "secret" not in read["config"]
            assert {**made, "config": {**made["config"], "secret": None}, "status": None} == {
                **read,
                "config": {**read["config"], "secret": None},
                "status": None,
            }

    play(scene())


def test_the_whole_object_is_shown_with_its_defaults(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            got = await api.call("PUT", "/subscriptions/console", wanted(types=["a"], source="/heat"))
            assert got.status == 201
            shown = got.json
            assert (shown["id"], shown["source"], shown["types"]) == ("console", "/heat", ["a"])
            assert shown["protocolsettings"]["mode"] == "structured"
            config = shown["config"]
            assert config["retry"]["max"] == "5m"
            assert (config["on_exhausted"], config["concurrency"], config["timeout"]) == ("park", 64, "15s")
            status = shown["status"]
            assert status["guarantee"].split() == ["first-run-ordered", "unauthenticated-answers"]
            names = {
                "state", "reason", "since", "revision", "generation", "guarantee", "public_key", "lag_events",
                "lag_seconds", "rate_per_second", "held_lanes", "parked_lanes", "skipped_events",
                "active_targets", "last_error",
            }  # fmt: skip
            assert set(status) == names
            assert status["active_targets"] == {"0": 8}
            assert abs(status["generation"] / 1000 - time.time()) < 60

    play(scene())


def test_what_was_read_can_be_put_back_and_changes_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            headers = {"X-Env": "prod"}
            credential = {"credentialtype": "PLAIN", "identifier": "fairlead", "secret": "hush"}
            body = wanted(
                protocolsettings={"headers": headers},
                sinkcredential=credential,
                filters=[{"any": [{"prefix": {"subject": "k"}}, {"sql": "EXISTS partitionkey"}]}],
            )
            assert (await api.call("PUT", "/subscriptions/s", body)).status == 201
            read = await api.get("/subscriptions/s")
            assert read.json["protocolsettings"]["headers"] == {"X-Env": "***"}
            assert "hush" not in read.body.decode()
            put = await api.call(
                "PUT", "/subscriptions/s", read.json, headers={"if-match": read.headers["etag"]}
            )
            assert (put.status, put.headers["etag"]) == (200, '"1"')
            stored = await api.server.node.store.subscriptions.get("s")
            assert stored is not None
            assert stored.targets[0].headers == headers
            assert stored.targets[0].credential == credential

    play(scene())


def test_preconditions_decide_between_those_who_write_at_the_same_time(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:

            async def put(body: Any = None, **headers: str) -> Any:
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                return await api.call("PUT", "/subscriptions/s", body or wanted(), headers=named)

            (await put(if_match='"1"')).problem(412, "revision-mismatch")
            (await put(if_match="*")).problem(412, "revision-mismatch")
            assert (await put(if_none_match="*")).status == 201
            (await put(if_none_match="*")).problem(409, "subscription-exists")
            changed = await put(wanted(types=["t"]), if_match='"1"')
            assert (changed.status, changed.headers["etag"]) == (200, '"2"')
            assert (await put(wanted(), if_match='"1"')).problem(412, "revision-mismatch")["revision"] == 2
            assert (await put(wanted(types=["u"]), if_match='"9", "2"')).headers["etag"] == '"3"'
            assert (await put(wanted(types=["v"]), if_match="*")).headers["etag"] == '"4"'
            (await put(if_match='W/"4"')).problem(412, "revision-mismatch")
            assert (await put(if_match="four")).problem(400, "invalid-header")["errors"][0][
                "header"
            ] == "if-match"
            (await put(if_none_match='"4"')).problem(400, "invalid-header")

    play(scene())


def test_two_who_create_the_same_at_once_make_one(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            header = {"if-none-match": "*"}
            calls = [api.call("PUT", "/subscriptions/s", wanted(), headers=header) for _ in range(8)]
            assert sorted(got.status for got in await asyncio.gather(*calls)) == [201, *[409] * 7]

    play(scene())


@pytest.mark.parametrize("headers", [{}, {"if-match": "*"}])
def test_who_names_no_revision_replaces_whatever_stands_by_then(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            assert (await api.call("PUT", "/subscriptions/s", wanted())).status == 201
            bodies = [wanted(types=[f"t{number}"]) for number in range(8)]
            calls = [api.call("PUT", "/subscriptions/s", body, headers=headers) for body in bodies]
            answers = await asyncio.gather(*calls)
            assert {got.status for got in answers} == {200}
            assert sorted(got.headers["etag"] for got in answers) == [f'"{n}"' for n in range(2, 10)]

    play(scene())


def test_who_makes_or_replaces_at_once_is_never_told_that_it_exists(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            bodies = [wanted(types=[f"t{number}"]) for number in range(8)]
            calls = [api.call("PUT", "/subscriptions/s", body) for body in bodies]
            assert sorted(got.status for got in await asyncio.gather(*calls)) == [*[200] * 7, 201]

    play(scene())


def test_two_who_rotate_at_once_rotate_one_after_the_other(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            first = (await api.call("PUT", "/subscriptions/s", wanted())).json["config"]["secret"]
            calls = [api.call("POST", "/subscriptions/s/secret", {"secret": None}) for _ in range(2)]
            answers = await asyncio.gather(*calls)
            assert [got.status for got in answers] == [200, 200]
            stored = await api.server.node.store.subscriptions.get("s")
            assert stored is not None
            signing = {stored.secrets.current, *(one.secret for one in stored.secrets.predecessors)}
            assert signing == {first, *(got.json["secret"] for got in answers)}

    play(scene())


@pytest.mark.parametrize(
    ("body", "pointer", "hint"),
    [
        (wanted(sinkk="x"), "/sinkk", "sink"),
        (wanted(config={"retri": {}}), "/config/retri", "retry"),
        (wanted(config={"retry": {"first": "soon"}}), "/config/retry/first", None),
        (wanted(timeout="5s"), "/timeout", "/config/timeout"),
        (wanted(id="other"), "/id", None),
        ({"protocol": "HTTP"}, "/sink", None),
        (wanted("http://u:p@127.0.0.1/"), "/sink", "sinkcredential"),
        (wanted(protocolsettings={"headers": {"Host": "x"}}), "/protocolsettings/headers/Host", None),
        (
            wanted(config={"receiver": "library"}, protocolsettings={"mode": "binary"}),
            "/config/receiver",
            None,
        ),
        ([], "", None),
    ],
)
def test_what_is_wrong_with_a_subscription_is_named_with_its_place(
    tmp_path: Path, body: Any, pointer: str, hint: str | None
) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            problem = (await api.call("PUT", "/subscriptions/s", body)).problem(422, "invalid-subscription")
            faults = {error["pointer"]: error for error in problem["errors"]}
            assert pointer in faults
            if hint is not None:
                assert hint in faults[pointer]["hint"]

    play(scene())


@pytest.mark.parametrize("id", ["Console", "-a", "a" * 64, "a_b", "a%20b", "a%2Fb", "%C3%A4"])
def test_an_id_that_is_none_is_refused(tmp_path: Path, id: str) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            problem = (await api.call("PUT", f"/subscriptions/{id}", wanted())).problem(
                422, "invalid-subscription"
            )
            assert problem["errors"][0]["pointer"] == "/id"

    play(scene())


def test_a_filter_and_a_sink_have_problems_of_their_own(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            got = await api.call("PUT", "/subscriptions/s", wanted(filters=[{"prefx": {"type": "a"}}]))
            assert got.problem(422, "invalid-filter")["errors"][0]["pointer"].startswith("/filters/0")
            got = await api.call("PUT", "/subscriptions/s", wanted("http://169.254.169.254/latest"))
            assert got.problem(422, "forbidden-sink")["errors"][0]["pointer"] == "/sink"
            further = {"sink": "http://10.0.0.1/", "protocol": "HTTP"}
            got = await api.call("PUT", "/subscriptions/s", wanted(config={"route": [further]}))
            fault = got.problem(422, "forbidden-sink")["errors"][0]
            assert fault["pointer"] == "/config/route/0/sink"
            got = await api.call("PUT", "/subscriptions/s", wanted("http://10.0.0.1/"))
            assert "[egress] allow" in got.problem(422, "forbidden-sink")["detail"]

    play(scene())


def test_json_that_is_none_is_400_and_another_type_415(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            for body in (
                b"",
                b"{",
                b"\xef\xbb\xbf{}",
                b'{"sink":"\xff"}',
                b'{"a":' * 5000 + b"1" + b"}" * 5000,
            ):
                (await api.call("PUT", "/subscriptions/s", body)).problem(400, "malformed-json")
            got = await api.call("PUT", "/subscriptions/s", b"{}", headers={"content-type": "text/xml"})
            assert got.problem(415, "unsupported-media-type")["supported"] == ["application/json"]
            large = b'{"sink":"' + b"x" * 9_000_000 + b'"}'
            assert (await api.call("PUT", "/subscriptions/s", large)).problem(413, "too-large")["limit_bytes"]

    play(scene())


def test_subscriptions_are_listed_by_id_and_state(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path, limits=Limits()) as api:
            for id in ("c", "a", "b"):
                await api.call("PUT", f"/subscriptions/{id}", wanted())
            await api.post("/subscriptions/b/pause")
            page = (await api.get("/subscriptions", limit=2)).json
            assert [one["id"] for one in page["items"]] == ["a", "b"]
            rest = (await api.get("/subscriptions", limit=2, after=page["next"])).json
            assert ([one["id"] for one in rest["items"]], rest["next"]) == (["c"], None)
            paused = (await api.get("/subscriptions", state="paused")).json["items"]
            assert [one["id"] for one in paused] == ["b"]
            problem = (await api.get("/subscriptions", state="pausd")).problem(400, "invalid-query")
            assert "paused" in problem["errors"][0]["hint"]

    play(scene())


def test_pausing_keeps_events_and_resuming_delivers_them(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, sink() as receiver:
            await api.call("PUT", "/subscriptions/s", wanted(receiver.url))
            for _ in range(2):
                paused = await api.post("/subscriptions/s/pause")
                assert (paused.status, paused.json["status"]["state"]) == (200, "paused")
            await api.publish(event("a"), event("b"))
            for _ in range(2):
                resumed = await api.post("/subscriptions/s/resume")
                assert (resumed.status, resumed.json["status"]["state"]) == (200, "active")
            await api.until(lambda: _has(receiver.got, 2))
            assert [one["id"] for one in receiver.got] == ["a", "b"]
            assert receiver.got[1]["flprev"] in (receiver.got[0]["flpos"], "0")

    play(scene())


@pytest.mark.parametrize("call", ["pause", "resume"])
def test_what_pausing_and_resuming_do_not_know_is_refused(tmp_path: Path, call: str) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            await api.call("PUT", "/subscriptions/s", wanted())
            got = await api.post(f"/subscriptions/s/{call}", {"until": "noon"})
            assert got.problem(400, "invalid-request")["errors"][0]["pointer"] == "/until"
            bad = await api.call(
                "POST", f"/subscriptions/s/{call}", b"{", headers={"content-type": "application/json"}
            )
            bad.problem(400, "malformed-json")
            assert (await api.post(f"/subscriptions/s/{call}", {})).status == 200

    play(scene())


def test_deleting_forgets_it_and_its_generation_is_not_used_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            made = (await api.call("PUT", "/subscriptions/s", wanted())).json
            gone = await api.call("DELETE", "/subscriptions/s")
            assert (gone.status, gone.body) == (204, b"")
            assert "content-length" not in gone.headers
            for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume")):
                (await api.call(method, f"/subscriptions/s{path}")).problem(404, "not-found")
            again = (await api.call("PUT", "/subscriptions/s", wanted())).json
            assert again["status"]["generation"] > made["status"]["generation"]

    play(scene())


def test_a_secret_is_rotated_and_both_sign_meanwhile(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            first = (await api.call("PUT", "/subscriptions/s", wanted())).json["config"]["secret"]
            rotated = await api.post("/subscriptions/s/secret", {"secret": None})
            assert rotated.status == 200
            assert set(rotated.json) == {"secret", "previous_until"}
            assert rotated.json["secret"] != first
            stored = await api.server.node.store.subscriptions.get("s")
            assert stored is not None
            assert stored.secrets.in_force(time.time()) == (rotated.json["secret"], first)
            assert (await api.post("/subscriptions/s/secret")).status == 200
            (await api.post("/subscriptions/s/secret", {"secret": "letmein"})).problem(400, "invalid-request")
            problem = (await api.post("/subscriptions/s/secret", {"sercet": None})).problem(
                400, "invalid-request"
            )
            assert "secret" in problem["errors"][0]["hint"]

    play(scene())


def test_receiver_and_settles_change_only_with_a_replay(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            await api.call("PUT", "/subscriptions/s", wanted())
            library = wanted(config={"receiver": "library"})
            problem = (await api.call("PUT", "/subscriptions/s", library)).problem(
                422, "invalid-subscription"
            )
            assert problem["errors"][0]["pointer"] == "/config/receiver"
            await api.publish(event())
            await api.until(lambda: _read(api, "s", 1))
            replayed = await api.post(
                "/subscriptions/s/replay", {"time": "2020-01-01T00:00:00Z", "receiver": "library"}
            )
            assert replayed.status == 202
            status = (await api.get("/subscriptions/s")).json["status"]
            assert status["guarantee"].startswith("chained")

    play(scene())


# -- answers from the bus -----------------------------------------------------------------------------------


ANSWER = (
    b'{"subscription":"s","partition":5,"generation":1,"epoch":7,"seq":12,"key":"/heat k1",'
    b'"result":"applied","applied":41}'
)


@pytest.mark.parametrize("body", [ANSWER, b"[" + ANSWER + b"," + ANSWER + b"]", b"[]"])
def test_signed_answers_are_taken_and_settle_nothing_on_rest(tmp_path: Path, body: bytes) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            secret = (await api.call("PUT", "/subscriptions/s", wanted())).json["config"]["secret"]
            assert (await _ack(api, secret, body)).status == 204

    play(scene())


def test_answers_that_are_not_this_receivers_are_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            secret = (await api.call("PUT", "/subscriptions/s", wanted())).json["config"]["secret"]
            await api.call("PUT", "/subscriptions/t", wanted())
            (await _ack(api, secret, ANSWER, path="t")).problem(401, "unauthenticated")
            (await _ack(api, secret, ANSWER, path="none")).problem(401, "unauthenticated")
            (await _ack(api, secret, ANSWER, id="s_1_5_41")).problem(401, "unauthenticated")
            (await _ack(api, secret, ANSWER, at=time.time() - 600)).problem(401, "unauthenticated")
            (await api.post("/subscriptions/s/acks", {"subscription": "s"})).problem(401, "unauthenticated")
            of_other = ANSWER.replace(b'"s"', b'"t"')
            (await _ack(api, secret, of_other)).problem(400, "invalid-request")
            (await _ack(api, secret, b'{"subscription":"s"}')).problem(400, "invalid-request")
            (await _ack(api, secret, b"nonsense")).problem(400, "malformed-json")
            (await _ack(api, secret, b"17")).problem(400, "invalid-request")

    play(scene())


OF_TWO = b"[" + ANSWER + b"," + ANSWER.replace(b'"s"', b'"t"') + b"]"
HALF = b"[" + ANSWER + b"," + ANSWER.replace(b',"applied":41', b"") + b"]"


ARRAY = b"[" + ANSWER + b"," + ANSWER.replace(b"41", b"42") + b"]"


@pytest.mark.parametrize(
    ("body", "applied"),
    [(ANSWER, [41]), (ARRAY, [41, 42]), (b"[]", []), (OF_TWO, []), (HALF, []), (b"7", [])],
    ids=["one", "array", "empty", "of-two-subscriptions", "one-not-whole", "nonsense"],
)
def test_a_reply_queue_brings_answers_alone_and_in_arrays(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    body: bytes,
    applied: list[int],
) -> None:
    taken: list[int | None] = []

    async def scene() -> None:
        async with relay(tmp_path) as api:
            secret = (await api.call("PUT", "/subscriptions/s", wanted())).json["config"]["secret"]
            dispatcher = api.server.node.dispatcher
            monkeypatch.setattr(dispatcher, "answered", lambda answer: taken.append(answer.applied))
            yesterday = int(time.time()) - 86_400  # queues keep it for long
            headers = _signed(secret, "ack_s_1_5_41", yesterday, body)
            await api.server.node.answers.take_from_queue(headers, body)

    play(scene())
    assert taken == applied
    assert ("no answer" not in caplog.text) is bool(applied)


@pytest.mark.parametrize(
    ("body", "level", "said"),
    [
        (ANSWER.replace(b'"s"', b'"gone"'), logging.INFO, "a subscription that is not there"),
        (ANSWER[:30], logging.WARNING, "the body is not JSON: ends in the middle"),
        (b"", logging.WARNING, "the body is not JSON: is empty"),
    ],
    ids=["deleted", "cut-off", "empty"],
)
def test_what_is_wrong_with_an_answer_is_said_as_what_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, body: bytes, level: int, said: str
) -> None:
    caplog.set_level(logging.INFO, "fairlead.engine.commands.answers")

    async def scene() -> None:
        async with relay(tmp_path) as api:
            secret = (await api.call("PUT", "/subscriptions/gone", wanted())).json["config"]["secret"]
            await api.call("DELETE", "/subscriptions/gone")
            headers = _signed(secret, "ack_gone_1_5_41", int(time.time()), body)
            await api.server.node.answers.take_from_queue(headers, body)

    play(scene())
    (record,) = [one for one in caplog.records if one.name == "fairlead.engine.commands.answers"]
    assert record.levelno == level
    assert said in f"{record.message} {record.__dict__.get('detail')}"


@pytest.mark.parametrize("over_http", [True, False])
def test_an_answer_that_meets_a_defect_costs_no_other_and_its_sender_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, over_http: bool
) -> None:
    taken: list[int | None] = []

    def answered(answer: AnswerDocument) -> None:
        if answer.applied == 42 and 42 not in taken:
            taken.append(42)
            raise ZeroDivisionError
        taken.append(answer.applied)

    async def scene() -> None:
        body = b"[" + b",".join(ANSWER.replace(b"41", str(n).encode()) for n in (41, 42, 43)) + b"]"
        async with relay(tmp_path) as api:
            secret = (await api.call("PUT", "/subscriptions/s", wanted())).json["config"]["secret"]
            monkeypatch.setattr(api.server.node.dispatcher, "answered", answered)
            if over_http:
                told = (await _ack(api, secret, body)).problem(500, "internal")
                assert told["detail"].startswith("1 of 3 answers met a defect of the relay")
                (error,) = told["errors"]
                assert (error["index"], error["pointer"]) == (1, "")
                assert (await _ack(api, secret, body)).status == 204, "as the library does with a 5xx"
            else:
                headers = _signed(secret, "ack_s_1_5_41", int(time.time()), body)
                await api.server.node.answers.take_from_queue(headers, body)

    play(scene())
    assert taken == [41, 42, 43] * (2 if over_http else 1)
    assert [record.exc_info is not None for record in caplog.records if record.levelno > logging.INFO] == [
        True
    ]


def _signed(secret: str, id: str, timestamp: int, body: bytes) -> dict[str, str]:
    signature = sign(secret, id, timestamp, body)
    return {"webhook-id": id, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


async def _ack(
    api: Relay,
    secret: str,
    body: bytes,
    *,
    path: str = "s",
    id: str = "ack_s_1_5_41",
    at: float | None = None,
) -> Any:
    headers = _signed(secret, id, int(time.time() if at is None else at), body)
    return await api.call("POST", f"/subscriptions/{path}/acks", body, headers=headers)


async def _has(got: list[Any], count: int) -> bool:
    return len(got) >= count


async def _read(api: Relay, id: str, count: int) -> bool:
    """Whether a subscription has read so many events."""
    return sum(view.cursor for view in api.server.node.dispatcher.views(id)) >= count
