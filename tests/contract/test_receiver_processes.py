# SPDX-License-Identifier: Apache-2.0
"""Receiver processes that are killed, and several that share one inbox."""

from __future__ import annotations

import http.client
import random
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

from fairlead.core.answer import parse_answer
from fairlead.errors import InvalidRequest
from fairlead.testing.receiver_kit import SignedRequest
from tests.contract.receiving import SECRET, event, kit

DEADLINE_SECONDS = 30.0
SERVER = """
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server
from fairlead import Receiver

def handler(event, transaction):
    transaction.execute("CREATE TABLE IF NOT EXISTS effect (number INTEGER PRIMARY KEY, key TEXT, n INTEGER)")
    transaction.execute("INSERT INTO effect (key, n) VALUES (?, ?)", (event.key, event.data["n"]))

class Quiet(WSGIRequestHandler):
    def log_message(self, *args): pass

receiver = Receiver(handler, secrets=[sys.argv[1]], inbox=sys.argv[2])
server = make_server("127.0.0.1", 0, receiver.wsgi, handler_class=Quiet)
print(server.server_port, flush=True)
server.serve_forever()
"""


class Server:
    """A receiver in a process of its own."""

    def __init__(self, inbox: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, SECRET, str(inbox)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def call(self, request: SignedRequest) -> int | None:
        """The status, or None if the process died before it answered."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        try:
            connection.request(request.method, "/", request.body, dict(request.headers))
            response = connection.getresponse()
            if response.status == 200:
                parse_answer(response.read())
            return response.status
        except (OSError, http.client.HTTPException, InvalidRequest):
            return None  # it died before its answer, or in the middle of it
        finally:
            connection.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()


def effects(inbox: Path) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(inbox)) as file:
        return file.execute("SELECT key, n FROM effect ORDER BY number").fetchall()


def test_kill_9_neither_loses_nor_repeats_an_effect_in_the_inboxs_database(tmp_path: Path) -> None:
    inbox, relay, dice = tmp_path / "inbox.db", kit(), random.Random(7)
    requests = [relay.deliver(event(n)) for n in range(60)]
    server = Server(inbox)
    kills = 0
    for request in requests:
        assassin = None
        if dice.random() < 0.15:
            kills += 1
            assassin = threading.Timer(dice.random() * 0.01, server.process.kill)
            assassin.start()
        while server.call(request) != 200:
            server.kill()
            server = Server(inbox)
        if assassin is not None:
            assassin.join()
    server.kill()
    assert kills > 3
    assert effects(inbox) == [("/heat k1", n) for n in range(60)]


def test_processes_that_share_an_inbox_apply_each_event_once_and_in_order(tmp_path: Path) -> None:
    inbox, relay = tmp_path / "inbox.db", kit()
    servers = [Server(inbox) for _ in range(2)]
    lanes = {key: [relay.deliver(event(n, key)) for n in range(12)] for key in ("k1", "k2", "k3")}

    def play(requests: list[SignedRequest]) -> None:
        for request in requests:  # every copy goes to both, at the same time
            copies = [threading.Thread(target=until_taken, args=(server, request)) for server in servers]
            for copy in copies:
                copy.start()
            for copy in copies:
                copy.join()

    threads = [threading.Thread(target=play, args=(requests,)) for requests in lanes.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for server in servers:
        server.kill()
    for key in lanes:
        mine = [n for resource, n in effects(inbox) if resource == f"/heat {key}"]
        assert mine == list(range(12))


def until_taken(server: Server, request: SignedRequest) -> None:
    while server.call(request) != 200:
        continue
