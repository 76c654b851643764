# SPDX-License-Identifier: Apache-2.0
"""Imagefactory's own bytes, by its own HTTP client, through a relay that is killed, to a receiver."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httplib2
import pytest

from tests.acceptance.history import Applied
from tests.acceptance.power import Disk
from tests.acceptance.processes import KILLED, QUICK, ReceiverProcess, RelayProcess
from tests.acceptance.receiver_process import read_history
from tests.acceptance.waiting import until

ADMIN = "flk_" + "A" * 32
CONFIG = f"""
[auth]
bootstrap_key = "{ADMIN}"
[egress]
allow = ["127.0.0.0/8"]
{QUICK}"""
IMAGE = "11111111-1111-4111-8111-111111111111"
PATH = "/bridges/imagefactory/tim/target_images//42"


@dataclass
class Factory:
    """What calls back: an image's CallbackWorker."""

    relay: RelayProcess
    key: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.relay.port}{PATH}"

    def body(self, status: str, activity: str, *, percent: int = 0) -> bytes:
        """Member for member what was captured, with the callback's own URL in it, password and all."""
        callback = self.url.replace("http://", f"http://factory:{self.key}@")
        image = {
            "_type": "BaseImage",
            "id": IMAGE,
            "status": status,
            "parameters": {"callbacks": [callback]},
            "properties": {},
            "icicle": None,
            "percent_complete": percent,
            "status_detail": {"activity": activity, "error": None},
            "template": "<template><name>f</name></template>",
        }
        return json.dumps({"base_image": image}).encode()

    @property
    def building(self) -> bytes:
        return self.body("BUILDING", "Initializing image prior to Cloud/OS customization")

    @property
    def complete(self) -> bytes:
        return self.body("COMPLETE", "Base Image build complete", percent=50)

    def put(self, body: bytes) -> int:
        """As CallbackWorker does: `httplib2.Http().request`, with Basic on the first request."""
        secret = base64.b64encode(f"factory:{self.key}".encode()).decode()
        headers = {"content-type": "application/json", "Authorization": f"Basic {secret}"}
        client = httplib2.Http(timeout=60)
        try:
            answer, _ = client.request(self.url, "PUT", body=body, headers=headers)
        finally:
            client.close()
        return int(answer.status)


@pytest.fixture
def relay(tmp_path: Path, disk: Disk) -> Iterator[RelayProcess]:
    store = tmp_path / "store" / "fairlead.db"
    with RelayProcess(tmp_path, CONFIG, store=store, environment=disk.environment) as relay:
        relay.api.authorization = f"Bearer {ADMIN}"
        yield relay


@pytest.fixture
def factory(relay: RelayProcess) -> Factory:
    wanted = {"name": "factory", "grants": [{"may": ["publish"], "sources": ["/imagefactory"]}]}
    return Factory(relay, relay.api.call("POST", "/keys", wanted).must(201)["key"])


@pytest.fixture
def receiver(relay: RelayProcess, tmp_path: Path) -> Iterator[ReceiverProcess]:
    made = relay.api.subscribe("console", "http://127.0.0.1:9/", source="/imagefactory", receiver="library")
    with ReceiverProcess(tmp_path, "receiver", secret=made["config"]["secret"]) as receiver:
        relay.api.subscribe("console", receiver.url, source="/imagefactory", receiver="library")
        yield receiver


def statuses(relay: RelayProcess) -> list[str]:
    """Of the image, in the order of the log."""
    items = relay.api.items("/events", key=f"/imagefactory {IMAGE}")
    return [item["event"]["type"].rpartition(".")[2] for item in items]


def arrived(relay: RelayProcess, receiver: ReceiverProcess) -> list[Applied]:
    """What the receiver has applied, once it has everything."""
    until(lambda: relay.api.drained("console"), "everything has arrived")
    applied = read_history(receiver.history)
    assert [one.position for one in applied] == sorted(one.position for one in applied)
    assert len({one.id for one in applied}) == len(applied)
    return applied


def test_the_captured_bytes_on_one_connection_arrive_in_order(
    relay: RelayProcess, factory: Factory, receiver: ReceiverProcess
) -> None:
    secret = base64.b64encode(f"factory:{factory.key}".encode()).decode()

    def request(body: bytes) -> bytes:
        head = (
            f"PUT {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{relay.port}\r\nContent-Length: {len(body)}\r\n"
            "content-type: application/json\r\nuser-agent: Python-httplib2/0.32.1 (gzip)\r\n"
            f"accept-encoding: gzip, deflate\r\nauthorization: Basic {secret}\r\n\r\n"
        )
        return head.encode() + body

    with socket.create_connection(("127.0.0.1", relay.port), timeout=60) as connection:
        for body in (factory.building, factory.complete):
            connection.sendall(request(body))
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 204"), answer
    assert len(arrived(relay, receiver)) == 2
    assert statuses(relay) == ["building", "complete"]
    (item, _) = relay.api.items("/events", source="/imagefactory")
    event: dict[str, Any] = item["event"]
    assert (event["subject"], event["imagefactorypath"]) == (IMAGE, "tim/target_images//42")
    assert event["type"] == "org.imagefactory.base_image.building"
    assert event["data"]["base_image"]["status_detail"]["error"] is None
    (callback,) = event["data"]["base_image"]["parameters"]["callbacks"]
    assert callback == factory.url.replace("http://", "http://***@")
    assert factory.key not in relay.said
    assert factory.key.encode() not in relay.store.read_bytes()


def test_repeats_are_recognised_across_a_kill_and_a_return_is_none(
    relay: RelayProcess, factory: Factory, receiver: ReceiverProcess
) -> None:
    assert factory.put(factory.building) == 204
    relay.restart()
    assert factory.put(factory.building) == 204  # nobody knows whether it had got through
    assert statuses(relay) == ["building"]
    assert factory.put(factory.complete) == 204
    relay.restart()
    assert factory.put(factory.complete) == 204
    assert factory.put(factory.building) == 204  # the image is built anew
    assert statuses(relay) == ["building", "complete", "building"]
    assert len(arrived(relay, receiver)) == 3


@pytest.mark.parametrize("commit", [1, 2])
def test_a_kill_before_the_204_neither_loses_nor_doubles_the_callback(
    relay: RelayProcess, factory: Factory, receiver: ReceiverProcess, disk: Disk, commit: int
) -> None:
    assert factory.put(factory.building) == 204
    assert len(arrived(relay, receiver)) == 1
    publisher_sees = []
    disk.kill_at("sync", "after", commit)
    try:
        publisher_sees.append(factory.put(factory.complete))
    except (OSError, httplib2.HttpLib2Error):
        assert relay.ended() == KILLED
    else:
        relay.kill()  # the commit that was to be the last one was another's
    disk.disarm()
    relay.start()
    if publisher_sees == [204]:
        assert statuses(relay) == ["building", "complete"]
    assert factory.put(factory.complete) == 204
    assert statuses(relay) == ["building", "complete"]
    assert len(arrived(relay, receiver)) == 2


def test_strangers_and_nonsense_are_told_so_and_kept_for_a_look(
    relay: RelayProcess, factory: Factory
) -> None:
    known, factory.key = factory.key, "flk_" + "B" * 32
    assert factory.put(factory.building) == 401
    factory.key = known
    assert factory.put(b'{"base_image": ') == 400
    assert factory.put(b'{"base_image": {"_type": "BaseImage"}}') == 400
    assert factory.put(b'"' + b"x" * 2 * 1024 * 1024 + b'"') == 413
    rejects = list(relay.api.items("/rejects", source="/imagefactory"))
    assert len(rejects) == 3
    relay.restart()
    assert len(list(relay.api.items("/rejects", source="/imagefactory"))) == 3
    assert statuses(relay) == []
