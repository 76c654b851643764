# SPDX-License-Identifier: Apache-2.0
"""Programs in other languages, with no library of ours: the examples, and the code of the how-to.

Each receiver is a real process that gets what a relay sends; each publisher talks to a real HTTP server. Our
signatures and events are checked by packages that know nothing of Fairlead.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fairlead import Event
from fairlead.core.signature import new_secret
from fairlead.testing.receiver_kit import ReceiverKit, SignedRequest
from tests.contract.publishing import DEADLINE_SECONDS, Answer, StubRelay, problem, relay_at, until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SECRET = new_secret(b"s" * 32)
HOW_TO = ROOT / "docs" / "how-to" / "any-language.md"


def event(n: int, subject: str | None = "k1", **more: Any) -> Event:
    return Event(f"a-{n}", "/heat", "org.example.state", subject=subject, data={"n": n}, **more)


# -- receivers -----------------------------------------------------------------------------------------------


def python_of_the_how_to(place: Path) -> list[str]:
    block = re.search(r"```python\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    assert block is not None
    (place / "receiver.py").write_text(block[1])
    return [sys.executable, str(place / "receiver.py")]


RECEIVERS: dict[str, Callable[[Path], list[str]]] = {
    "ruby": lambda place: ["ruby", "-w", str(EXAMPLES / "ruby" / "receiver.rb")],
    "node": lambda place: ["node", str(EXAMPLES / "node" / "receiver.mjs")],
    "how-to": python_of_the_how_to,
}


class ReceiverProcess:
    """A receiver that runs, and what it has printed so far."""

    def __init__(self, command: list[str], place: Path, secrets: str) -> None:
        environment = {"FAIRLEAD_SECRET": secrets, "SEEN_FILE": str(place / "seen"), "PATH": "/usr/bin:/bin"}
        self.process = subprocess.Popen(
            [*command, "0"], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stderr is not None
        self.port = int(self.process.stderr.readline().rpartition(":")[2])
        self.taken: list[dict[str, Any]] = []
        self._readers = [threading.Thread(target=self._read), threading.Thread(target=self._drain)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.taken.append(json.loads(line))

    def _drain(self) -> None:
        assert self.process.stderr is not None
        self.process.stderr.read()

    def call(self, request: SignedRequest) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        try:
            connection.request(request.method, "/hook", request.body, dict(request.headers))
            return connection.getresponse().status
        finally:
            connection.close()

    def numbers(self, count: int) -> list[int]:
        """What it has taken, once it has printed so many lines."""
        until(lambda: len(self.taken) >= count, f"{count} lines of output; there are {self.taken}")
        return [line["data"]["n"] for line in self.taken]

    def end(self, with_signal: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(with_signal)
        self.process.wait(DEADLINE_SECONDS)
        for reader in self._readers:
            reader.join(DEADLINE_SECONDS)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def running(name: str, place: Path, secrets: str = SECRET) -> Iterator[ReceiverProcess]:
    receiver = ReceiverProcess(RECEIVERS[name](place), place, secrets)
    try:
        yield receiver
    finally:
        receiver.end()


@pytest.fixture(params=sorted(RECEIVERS))
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_receiver_takes_what_is_newer_and_ignores_what_is_older(tmp_path: Path, language: str) -> None:
    relay = ReceiverKit(SECRET)
    first, second, third = (relay.deliver(event(n)) for n in (1, 2, 3))
    with running(language, tmp_path) as receiver:
        requests = (first, second, first, third, second, relay.again(first))
        assert {receiver.call(request) for request in requests} == {204}
        relay.replay()
        assert receiver.call(relay.deliver(event(4))) == 204
        assert receiver.call(third) == 204, "an older generation, whatever its position"
        assert receiver.call(relay.deliver(event(5, subject="k2"))) == 204
        assert receiver.numbers(5) == [1, 2, 3, 4, 5]


def test_a_receiver_tells_resources_apart_as_the_relay_does(tmp_path: Path, language: str) -> None:
    relay = ReceiverKit(SECRET)
    events = [event(1), event(2, subject=None), event(3, partitionkey="/heat k1"), event(4, subject="k2")]
    requests = [relay.deliver(one) for one in events]
    with running(language, tmp_path) as receiver:
        for number in (2, 1, 3, 0):  # the third is of the same resource as the first, and newer
            assert receiver.call(requests[number]) == 204
        assert receiver.numbers(3) == [3, 2, 4]
        assert [line["key"] for line in receiver.taken] == ["/heat k1", "/heat", "/heat k2"]


def test_a_receiver_refuses_what_is_not_signed_as_it_should_be(tmp_path: Path, language: str) -> None:
    relay = ReceiverKit(SECRET)
    good = relay.deliver(event(1))
    stranger = ReceiverKit(new_secret(b"t" * 32)).deliver(event(1))
    unsigned = replace(good, headers={"content-type": good.headers["content-type"]})
    with running(language, tmp_path) as receiver:
        for bad in (relay.tampered(good), relay.expired(good), stranger, unsigned):
            assert receiver.call(bad) == 401
        other_type = SignedRequest("POST", {**good.headers, "content-type": "text/plain"}, good.body)
        assert receiver.call(relay.again(other_type)) == 415
        assert receiver.call(good) == 204
        assert receiver.numbers(1) == [1]


def test_a_receiver_takes_either_secret_while_one_is_rotated(tmp_path: Path, language: str) -> None:
    newer = new_secret(b"n" * 32)
    with running(language, tmp_path, f"{newer} {SECRET}") as receiver:
        assert receiver.call(ReceiverKit(SECRET).deliver(event(1))) == 204
        assert receiver.call(ReceiverKit(newer, subscription="other").deliver(event(2))) == 204
        assert receiver.numbers(2) == [1, 2]


def test_a_receiver_that_is_killed_remembers_what_it_answered_for(tmp_path: Path, language: str) -> None:
    relay = ReceiverKit(SECRET)
    first, second = relay.deliver(event(1)), relay.deliver(event(2))
    with running(language, tmp_path) as receiver:
        assert [receiver.call(first), receiver.call(second)] == [204, 204]
    with running(language, tmp_path) as receiver:
        assert [receiver.call(first), receiver.call(relay.deliver(event(3)))] == [204, 204]
        assert receiver.numbers(1) == [3]


# -- publishers ----------------------------------------------------------------------------------------------

PUBLISHERS = {
    "ruby": ["ruby", "-w", str(EXAMPLES / "ruby" / "publish.rb")],
    "node": ["node", str(EXAMPLES / "node" / "publish.mjs")],
}


def publish(language: str, url: str) -> subprocess.CompletedProcess[str]:
    command = [*PUBLISHERS[language], url, "/heat", "org.example.state", "k1", '{"n":1}']
    environment = {"FAIRLEAD_API_KEY": "flk_x", "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(params=sorted(PUBLISHERS))
def publisher(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_publisher_tries_again_until_it_is_accepted(publisher: str) -> None:
    answers: list[Answer] = [problem(503, "stopping"), problem(429, "rate-limited")]
    with relay_at(StubRelay(script=lambda batch: answers.pop() if answers else None)) as relay:
        done = publish(publisher, relay.url)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["position"] == 1
        assert len({batch[0]["id"] for _, _, batch in relay.requests}) == 1, "each try is the same event"
        assert relay.accepted[0]["data"] == {"n": 1}
        assert relay.requests[0][1]["authorization"] == "Bearer flk_x"


def test_a_publisher_stops_at_a_refusal_and_says_why(publisher: str) -> None:
    with relay_at(StubRelay(script=lambda batch: problem(400, "invalid-event", detail="no type"))) as relay:
        done = publish(publisher, relay.url)
        assert done.returncode != 0
        assert "no type" in done.stderr
        assert len(relay.requests) == 1


def test_the_curl_commands_of_the_how_to_say_what_the_relay_takes() -> None:
    blocks = re.findall(r"```bash\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    with relay_at() as relay:
        command = blocks[0].replace("http://127.0.0.1:3247", relay.url)
        done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert relay.ids == ["a-1"]


# -- our deliveries, judged by others ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node_check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`check.mjs` with its packages, in a copy: the tree stays as it is."""
    place = tmp_path_factory.mktemp("node")
    for file in (EXAMPLES / "node").iterdir():
        if file.is_file():
            shutil.copy(file, place)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(command, cwd=place, check=True, timeout=240)
    return place / "check.mjs"


def judged(check: Path, request: SignedRequest) -> subprocess.CompletedProcess[str]:
    said = {"secret": SECRET, "headers": dict(request.headers), "body": request.body.decode()}
    command = ["node", str(check)]
    return subprocess.run(
        command, input=json.dumps(said), capture_output=True, text=True, check=False, timeout=60
    )


def test_standardwebhooks_and_cloudevents_of_npm_take_what_we_send(node_check: Path) -> None:
    relay = ReceiverKit(SECRET)
    single = judged(node_check, relay.deliver(event(1, flavor="vanilla", time="2026-11-23T00:00:00Z")))
    assert single.returncode == 0, single.stderr
    (got,) = json.loads(single.stdout)
    assert (got["id"], got["data"], got["flavor"], got["flpos"]) == ("a-1", {"n": 1}, "vanilla", "1")
    batch = judged(node_check, relay.batch([event(2), event(3)]))
    assert batch.returncode == 0, batch.stderr
    assert [one["id"] for one in json.loads(batch.stdout)] == ["a-2", "a-3"]


def test_standardwebhooks_of_npm_refuses_what_we_would_refuse(node_check: Path) -> None:
    relay = ReceiverKit(SECRET)
    for bad in (relay.tampered(relay.deliver(event(1))), relay.expired(relay.deliver(event(1)))):
        done = judged(node_check, bad)
        assert done.returncode != 0
        assert "WebhookVerificationError" in done.stderr
