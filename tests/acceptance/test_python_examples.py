# SPDX-License-Identifier: Apache-2.0
"""The Python examples, as real processes in a directory of their own."""

from __future__ import annotations

import pickle
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from fairlead import Event
from fairlead.testing.receiver_kit import ReceiverKit
from tests.contract.publishing import relay_at
from tests.contract.receiving import SECRET, event

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"


def test_publish_keeps_the_event_until_the_relay_is_there(tmp_path: Path) -> None:
    def run(url: str) -> str:
        command = [sys.executable, str(EXAMPLES / "publish.py"), url]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    assert run("http://127.0.0.1:9") == "1 events wait for the relay"
    with relay_at() as relay:
        assert run(relay.url) == "the relay has it"
        assert relay.ids == ["a-1"]


RECEIVE = """
import sys, pickle
sys.path.insert(0, sys.argv[1])
from receive import app
from fairlead.testing.receiver_kit import call_asgi
for request in pickle.load(sys.stdin.buffer):
    print(call_asgi(app, request, "/hook").status)
"""


def test_receive_keeps_the_newest_state_of_each_resource(tmp_path: Path) -> None:
    relay = ReceiverKit(SECRET)
    first, second = relay.deliver(event(1)), relay.deliver(event(2))
    empty = relay.deliver(Event("e", "/heat", "t", subject="k9", data={}))
    done = subprocess.run(
        [sys.executable, "-c", RECEIVE, str(EXAMPLES)],
        input=pickle.dumps([first, second, first, empty]),
        env={"FAIRLEAD_SECRET": SECRET},
        cwd=tmp_path,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == [b"200", b"200", b"200", b"422"]
    with closing(sqlite3.connect(tmp_path / "inbox.db")) as file:
        assert file.execute("SELECT resource, n FROM state").fetchall() == [("/heat k1", 2)]
