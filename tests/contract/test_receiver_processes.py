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
from typing import Any

import pytest

from fairlead.core.answer import parse_answer
from fairlead.drivers.sqlite.fork import ForkedFile
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


FORKS = """
import os, sqlite3, subprocess, sys, threading
from contextlib import closing
from fairlead.core.chain import Memory
from fairlead.core.channel import ChannelId
from fairlead.errors import InboxError
from fairlead.sdk.inbox.sqlite_inbox import SqliteInbox

def begin(key, inbox):
    transaction = inbox.begin(ChannelId("s", 0), key)
    transaction.execute("CREATE TABLE IF NOT EXISTS effect (number INTEGER PRIMARY KEY, key TEXT, n INTEGER)")
    transaction.execute("INSERT INTO effect (key, n) VALUES (?, 0)", (key,))
    transaction.record(Memory(1, 1))
    return transaction

def begin_much(inbox):
    # SQLite has begun to write it into the WAL: it is more than its cache holds
    transaction = begin("during", inbox)
    transaction.execute("CREATE TABLE much (data BLOB)")
    transaction.executemany("INSERT INTO much VALUES (zeroblob(?))", [(1_000_000,)] * 8)
    return transaction

def refused(call, *args):
    try:
        call(*args)
    except InboxError as error:
        return "forked during a transaction; start this process anew" in str(error)

path, mode = sys.argv[1:3]
"""

OUTLIVED = """
inbox = SqliteInbox(path)
look = '''
import contextlib, sqlite3, sys
with contextlib.closing(sqlite3.connect(sys.argv[1])) as file:
    print(*(key for (key,) in file.execute("SELECT key FROM effect ORDER BY number")), flush=True)
'''
begin("parent", inbox).commit()
applied, ended = os.pipe(), os.pipe()
if os.fork():
    os.read(applied[0], 1)
    if mode == "close":
        inbox.close()
    os._exit(0)
os.close(ended[1])
begin("beside-it", inbox).commit()
os.write(applied[1], b"x")
os.read(ended[0], 1)
for key in "after-it", "after-others":
    begin(key, inbox).commit()
    subprocess.run([sys.executable, "-c", look, path], check=True)
os._exit(0)
"""

TORN = """
inbox = SqliteInbox(path, lock_wait_seconds=0.1 if mode == "thread" else 600.0)
begin("before", inbox).commit()
if mode == "thread":
    began, ends = threading.Event(), threading.Event()
    def handle():
        transaction = begin_much(inbox)
        began.set()
        ends.wait()
        transaction.commit()
    handler = threading.Thread(target=handle)
    handler.start()
    began.wait()
else:
    transaction = begin_much(inbox)
if (child := os.fork()) == 0:
    assert refused(begin, "child", inbox)
    assert refused(begin, "child", SqliteInbox(path)), "another inbox on the same file"
    assert mode == "thread" or refused(transaction.commit)
    sys.exit(7)  # with an interpreter's end, which closes what it can
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
if mode == "thread":
    ends.set()
    handler.join()
else:
    transaction.commit()
begin("after", inbox).commit()
inbox.close()
"""


WAITING = """
inbox = SqliteInbox(path)
begin("before", inbox).commit()
process = inbox._process()
enter = process.enter

def fork_and_enter():
    if os.fork() == 0:
        os._exit(0)
    enter()

process.enter = fork_and_enter
begin("during", inbox).commit()
inbox.close()
"""


def run_forking(code: str, inbox: Path, mode: str) -> list[str]:
    """The lines that it printed, its children's too."""
    command = [sys.executable, "-c", FORKS + code, str(inbox), mode]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, timeout=2 * DEADLINE_SECONDS, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("end", ["close", "exit"])
def test_what_a_child_applies_outlives_its_parent_and_others_that_close_the_file(
    tmp_path: Path, end: str
) -> None:
    assert run_forking(OUTLIVED, tmp_path / "inbox.db", end) == [
        "parent beside-it after-it",
        "parent beside-it after-it after-others",
    ]


@pytest.mark.parametrize("handler", ["thread", "itself"])
def test_a_child_of_a_fork_during_a_transaction_refuses_and_its_parent_goes_on(
    tmp_path: Path, handler: str
) -> None:
    run_forking(TORN, inbox := tmp_path / "inbox.db", handler)
    assert [key for key, _ in effects(inbox)] == ["before", "during", "after"]
    with closing(sqlite3.connect(inbox)) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_handler_that_waits_for_the_file_while_its_process_forks_writes_then(tmp_path: Path) -> None:
    run_forking(WAITING, inbox := tmp_path / "inbox.db", "")
    assert [key for key, _ in effects(inbox)] == ["before", "during"]


class SlowToFork:
    """A lock that is free, and that a fork is about to take."""

    def __init__(self) -> None:
        self.waits, self.go_on = threading.Event(), threading.Event()

    def acquire(self, timeout: float = -1) -> bool:
        if threading.current_thread().name == "forking":
            self.waits.set()
            self.go_on.wait(DEADLINE_SECONDS)
        return True


def test_whoever_comes_while_a_fork_waits_for_the_file_comes_after_it(tmp_path: Path) -> None:
    lock: Any = SlowToFork()
    file = ForkedFile(str(tmp_path / "inbox.db"), lock, lambda _: sqlite3.connect(":memory:"))
    forking = threading.Thread(target=file.take_to_fork, name="forking")
    forking.start()
    assert lock.waits.wait(DEADLINE_SECONDS)
    assert not file.acquire(0)
    lock.go_on.set()
    forking.join(DEADLINE_SECONDS)
    assert file.acquire(0)


FORK_AT_FIRST_USE = """
import os, sys, threading
from fairlead.drivers.sqlite.fork import ForkedFile
from fairlead.sdk.inbox.sqlite_inbox import SqliteInbox

held, made, forker = ForkedFile.held, threading.Event(), threading.get_ident()

def held_when_the_fork_waits_for_locks(self):
    made.set()
    while "lock" not in sys._current_frames()[forker].f_locals:
        pass
    return held(self)

ForkedFile.held = held_when_the_fork_waits_for_locks
inbox = SqliteInbox(sys.argv[1])
opening = threading.Thread(target=inbox.open)
opening.start()
made.wait()
if (child := os.fork()) == 0:
    os._exit(0)
opening.join()
assert os.waitpid(child, 0)[1] == 0
ForkedFile.held = held
inbox.close()
"""


def test_a_fork_at_the_first_use_of_an_inbox_and_that_use_do_not_wait_for_each_other(tmp_path: Path) -> None:
    code = [sys.executable, "-c", FORK_AT_FIRST_USE, str(tmp_path / "inbox.db")]
    assert subprocess.run(code, timeout=DEADLINE_SECONDS, check=False).returncode == 0
