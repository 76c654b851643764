# SPDX-License-Identifier: Apache-2.0
"""Everything wrong that one can give a relay has a defined answer, and loses nothing that was accepted."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.api import BATCH, STRUCTURED, Answer, event
from tests.acceptance.history import Log, check_applied
from tests.acceptance.processes import QUICK, RelayProcess, fairlead
from tests.acceptance.sinks import Sink
from tests.acceptance.waiting import free_port, until

MIB = 1024 * 1024


def publish(relay: RelayProcess, body: bytes, content_type: str = STRUCTURED, **headers: str) -> Answer:
    return relay.api.call("POST", "/events", body, headers={"content-type": content_type, **headers})


def subscribe(relay: RelayProcess, **members: Any) -> Answer:
    document = {"sink": "http://127.0.0.1:9/", "protocol": "HTTP", **members}
    return relay.api.call("PUT", "/subscriptions/bad", document)


def encoded(**changes: Any) -> bytes:
    return json.dumps({**event(1), **changes}).encode()


BAD: dict[str, tuple[Callable[[RelayProcess], Answer], int, str]] = {
    "not JSON": (lambda relay: publish(relay, b'{"specversion":'), 400, "malformed-json"),
    "not UTF-8": (lambda relay: publish(relay, b'{"id":"\xff"}'), 400, "malformed-json"),
    "nothing": (lambda relay: publish(relay, b""), 400, "malformed-json"),
    "another specversion": (lambda relay: publish(relay, encoded(specversion="9")), 400, "invalid-event"),
    "no id": (lambda relay: publish(relay, encoded(id="")), 400, "invalid-event"),
    "no time": (lambda relay: publish(relay, encoded(time="yesterday")), 400, "invalid-event"),
    "one of a batch": (
        lambda relay: publish(relay, json.dumps([event(1), {**event(2), "type": ""}]).encode(), BATCH),
        400,
        "invalid-event",
    ),
    "too large": (lambda relay: publish(relay, encoded(data="x" * MIB)), 413, "too-large"),
    "a request too large": (lambda relay: publish(relay, b" " * (9 * MIB)), 413, "too-large"),
    "too many": (
        lambda relay: publish(relay, json.dumps([event(1)] * 1001).encode(), BATCH),
        413,
        "too-large",
    ),
    "a wrong content type": (
        lambda relay: publish(relay, b"<x/>", "text/xml"),
        415,
        "unsupported-media-type",
    ),
    "a wrong binary header": (
        lambda relay: publish(relay, b"{}", "application/json", **{"ce-specversion": "1.0", "ce-id": "%zz"}),
        400,
        "invalid-event",
    ),
    "a changed event": (
        lambda relay: publish(relay, encoded(id="kept", data={"n": 9})),
        409,
        "event-conflict",
    ),
    "an unknown member": (lambda relay: subscribe(relay, sinks="x"), 422, "invalid-subscription"),
    "an unknown option": (lambda relay: subscribe(relay, config={"retries": 3}), 422, "invalid-subscription"),
    "a wrong option": (
        lambda relay: subscribe(relay, config={"timeout": "soon"}),
        422,
        "invalid-subscription",
    ),
    "an impossible filter": (lambda relay: subscribe(relay, filters=[{"like": "x"}]), 422, "invalid-filter"),
    "an impossible sql": (lambda relay: subscribe(relay, filters=[{"sql": "id ="}]), 422, "invalid-filter"),
    "a sink that is none": (lambda relay: subscribe(relay, sink="hook"), 422, "invalid-subscription"),
    "a private sink": (lambda relay: subscribe(relay, sink="https://10.0.0.1/"), 422, "forbidden-sink"),
    "a metadata sink": (
        lambda relay: subscribe(relay, sink="https://169.254.169.254/"),
        422,
        "forbidden-sink",
    ),
    "a sink in the clear": (lambda relay: subscribe(relay, sink="http://192.0.2.1/"), 422, "forbidden-sink"),
    "an unknown subscription": (lambda relay: relay.api.call("GET", "/subscriptions/none"), 404, "not-found"),
    "an unknown call": (lambda relay: relay.api.call("GET", "/nothing"), 404, "not-found"),
    "a wrong method": (lambda relay: relay.api.call("PATCH", "/events"), 405, "method-not-allowed"),
    "a wrong query": (lambda relay: relay.api.call("GET", "/events", limits=1), 400, "invalid-query"),
    "a wrong body": (
        lambda relay: relay.api.call("POST", "/subscriptions/console/replay", {}),
        400,
        "invalid-request",
    ),
    "a foreign page": (
        lambda relay: relay.api.call("GET", "/events", headers={"origin": "https://evil.example"}),
        403,
        "foreign-origin",
    ),
    "a foreign name": (
        lambda relay: relay.api.call("GET", "/events", headers={"host": "evil.example"}),
        403,
        "foreign-host",
    ),
    "long headers": (
        lambda relay: relay.api.call("GET", "/events", headers={"x-long": "x" * 70_000}),
        431,
        "headers-too-large",
    ),
}


def test_bad_requests_have_their_answers_and_lose_nothing(relay: RelayProcess, sink: Sink) -> None:
    relay.api.subscribe("console", sink.url)
    relay.api.publish(event(1, id="kept"))
    for number, (name, (call, status, kind)) in enumerate(BAD.items(), start=2):
        answer = call(relay)
        problem = answer.document
        said = (answer.status, problem["type"], answer.headers["content-type"])
        assert said == (status, f"urn:fairlead:problem:{kind}", "application/problem+json"), (name, problem)
        assert problem["title"], name
        assert problem["detail"], name
        assert problem["status"] == status, name
        relay.api.publish(event(number))
    until(lambda: relay.api.drained("console"), "what was accepted arrives")
    log = Log.read(relay.api)
    assert len(log.places) == len(BAD) + 1
    check_applied(sink.history, log, once=False)


def test_64_kib_pass_by_default(relay: RelayProcess, sink: Sink) -> None:
    relay.api.subscribe("console", sink.url)
    relay.api.publish(event(1, data={"n": 1, "text": "x" * 65_536}))
    until(lambda: sink.numbers() == {"k1": [1]}, "it arrives")
    assert len(sink.taken[0].event["data"]["text"]) == 65_536


def test_an_unreachable_sink_is_told_and_its_events_wait(relay: RelayProcess, sink: Sink) -> None:
    relay.api.subscribe("console", f"http://127.0.0.1:{free_port()}/hook")
    relay.api.publish(event(1))
    error = until(lambda: relay.api.status("console")["last_error"], "the error is told")
    assert (error["outcome"], error["status"]) == ("unavailable", None)
    assert "refused" in error["detail"]
    relay.api.subscribe("console", sink.url)
    until(lambda: sink.numbers() == {"k1": [1]}, "it arrives at the right sink")


def test_wrong_keys_are_refused_and_right_ones_do_what_they_may(tmp_path: Path) -> None:
    admin = "flk_" + "A" * 32
    config = f'[auth]\nbootstrap_key = "{admin}"\n{QUICK}'
    with RelayProcess(tmp_path, config) as relay:
        for authorization in (None, "Bearer flk_" + "B" * 32, "Bearer x", "Basic eDp5", "Digest x"):
            relay.api.authorization = authorization
            answer = relay.api.offer(event(1))
            assert (answer.status, answer.document["type"]) == (401, "urn:fairlead:problem:unauthenticated")
            assert answer.headers["www-authenticate"]
        relay.api.authorization = f"Bearer {admin}"
        wanted = {"name": "heat", "grants": [{"may": ["publish"], "sources": ["/heat*"]}]}
        relay.api.authorization = f"Bearer {relay.api.call('POST', '/keys', wanted).must(201)['key']}"
        assert relay.api.offer(event(1)).status == 202
        refused = relay.api.offer(event(2, source="/nova"))
        assert (refused.status, refused.document["type"]) == (403, "urn:fairlead:problem:forbidden")
        assert relay.api.call("GET", "/keys").status == 403
        assert relay.api.call("GET", "/subscriptions").must(200)["items"] == []
        relay.restart()
        assert relay.api.offer(event(1)).must(202)["accepted"][0]["duplicate"]
        assert admin not in relay.said


# -- at the start ------------------------------------------------------------------------------------------


def refused(place: Path, *arguments: str, exit_status: int) -> str:
    """What `serve` says when it does not start."""
    ended = fairlead("serve", "--listen", f"127.0.0.1:{free_port()}", *arguments, place=place)
    assert ended.returncode == exit_status, (ended.returncode, ended.stdout, ended.stderr)
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_a_port_in_use_is_exit_7_and_touches_no_store(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        assert address in refused(tmp_path, "--listen", address, exit_status=7)
    assert not (tmp_path / "fairlead.db").exists()


def test_a_store_in_use_is_exit_6_and_says_by_whom(relay: RelayProcess) -> None:
    said = refused(relay.place, "--store", f"sqlite:///{relay.store}", exit_status=6)
    assert str(relay.pid) in said
    assert relay.api.offer(event(1)).status == 202


def newer(store: Path) -> None:
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("PRAGMA user_version = 999")


def foreign(store: Path) -> None:
    store.unlink()
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("CREATE TABLE mine (x)")


def text(store: Path) -> None:
    store.write_text("[limits]\n" * 100)


def corrupt(store: Path) -> None:
    pages = store.stat().st_size // 4096
    with store.open("r+b") as file:
        for page in range(1, pages):
            file.seek(page * 4096)
            file.write(os.urandom(64))


@pytest.mark.parametrize(("spoil", "hint"), [
    (newer, "newer Fairlead"), (foreign, "another program"), (text, "not an SQLite database"),
    (corrupt, "check"),
])  # fmt: skip
def test_a_store_that_cannot_be_used_is_exit_6_and_left_as_it_is(
    relay: RelayProcess, spoil: Callable[[Path], None], hint: str
) -> None:
    relay.api.publish(*(event(number) for number in range(100)))
    assert relay.stop() == 0
    for beside in relay.place.glob("fairlead.db-*"):
        beside.unlink()
    spoil(relay.store)
    before = relay.store.read_bytes()
    said = refused(relay.place, "--store", f"sqlite:///{relay.store}", exit_status=6)
    assert hint in said
    assert str(relay.store) in said
    assert relay.store.read_bytes() == before


@pytest.mark.parametrize(("config", "said"), [
    ("[limits]\nevent_byte = 1",
     "fairlead.toml:2: [limits] event_byte: unknown key; did you mean event_byte"),
    ("[limits]\nevent_bytes = true", "fairlead.toml:2"),
    ("[limits]\nrequest_timeout = 'soon'", "fairlead.toml:2"),
    ("[limits", "fairlead.toml:1"),
    ('listen = "0.0.0.0:3247"', "bootstrap_key"),
    ('store = "postgresql://db/x"', "store"),
    ('[auth]\nbootstrap_key = "secret"', "bootstrap_key"),
])  # fmt: skip
def test_a_bad_configuration_is_exit_5_and_says_file_key_and_what_to_do(
    tmp_path: Path, config: str, said: str
) -> None:
    (tmp_path / "fairlead.toml").write_text(config)
    ended = fairlead("serve", place=tmp_path)
    assert ended.returncode == 5, (ended.returncode, ended.stderr)
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
