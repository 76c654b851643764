# SPDX-License-Identifier: Apache-2.0
"""Several processes on one outbox, processes that are killed, and processes that fork."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from fairlead import Event, Publisher
from tests.contract.publishing import DEADLINE_SECONDS, StubRelay, relay_at, until

PUBLISH = """
import itertools, sys
from fairlead import Event, Publisher

url, outbox, name, count = sys.argv[1:5]
publisher = Publisher(url, outbox=outbox)
for n in itertools.count() if count == "endless" else range(int(count)):
    publisher.publish(Event(f"{name}-{n}", "/s", "t", subject=name))
    print(n, flush=True)
if sys.argv[5] == "stay":
    sys.stdin.read()
publisher.close()
"""


def start(url: str, outbox: Path, name: str, count: str, then: str = "close") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PUBLISH, url, str(outbox), name, count, then],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


def last_published(process: subprocess.Popen[str], at_least: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= at_least:
            return
    raise AssertionError("the publishing process ended too early")


def waiting(outbox: Path) -> int:
    with closing(sqlite3.connect(outbox)) as file:
        return int(file.execute("SELECT count(*) FROM event").fetchone()[0])


def finish(process: subprocess.Popen[str]) -> list[int]:
    """What it said it had published after `last_published`."""
    out, _ = process.communicate(timeout=DEADLINE_SECONDS)
    return [int(line) for line in out.split()]


@pytest.mark.parametrize("relay_is_up", [True, False])
def test_kill_9_loses_nothing_that_publish_returned_for(tmp_path: Path, relay_is_up: bool) -> None:
    outbox, relay = tmp_path / "outbox.db", StubRelay()
    with relay_at(relay):
        for round in range(3):
            url = relay.url if relay_is_up else "http://127.0.0.1:9"
            process = start(url, outbox, f"p{round}", "endless")
            last_published(process, 40)
            process.send_signal(signal.SIGKILL)
            published = max([40, *finish(process)])
            with Publisher(relay.url, outbox=outbox) as publisher:
                assert publisher.flush(DEADLINE_SECONDS) == 0
            mine = [id for id in relay.ids if id.startswith(f"p{round}-")]
            assert mine == [f"p{round}-{n}" for n in range(len(mine))]
            assert len(mine) > published


def test_processes_share_an_outbox_and_each_keeps_its_order(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox.db"
    with relay_at() as relay:
        started = [start(relay.url, outbox, name, "60", "stay") for name in "abc"]
        for process in started:
            last_published(process, 59)
        until(lambda: waiting(outbox) == 0)
        for process in started:
            finish(process)
            assert process.returncode == 0
        for name in "abc":
            assert [id for id in relay.ids if id.startswith(name)] == [f"{name}-{n}" for n in range(60)]
        sent = [one["id"] for _, _, batch in relay.requests for one in batch]
        assert len(sent) == len(relay.accepted), "one process forwards at a time"


def test_another_process_takes_over_when_the_one_that_forwards_is_killed(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox.db"
    with relay_at() as relay:
        leader = start(relay.url, outbox, "leader", "1", "stay")
        until(lambda: relay.ids == ["leader-0"])
        with Publisher(relay.url, outbox=outbox) as follower:
            receipt = follower.publish(Event("f-1", "/s", "t"), wait="accepted", timeout=DEADLINE_SECONDS)
            assert receipt.position == 2  # the leader forwarded it, and its receipt came back
            leader.send_signal(signal.SIGKILL)
            finish(leader)
            receipt = follower.publish(Event("f-2", "/s", "t"), wait="accepted", timeout=DEADLINE_SECONDS)
            assert receipt.position == 3


FORK = """
import os, sys
from fairlead import Event, Publisher

publisher = Publisher(sys.argv[1], outbox=sys.argv[2])
publisher.publish(Event("parent-0", "/s", "t"))
children = []
for child in range(3):
    pid = os.fork()
    if pid == 0:
        for n in range(10):
            publisher.publish(Event(f"child{child}-{n}", "/s", "t"))
        publisher.close()
        os._exit(0)
    children.append(pid)
for n in range(1, 10):
    publisher.publish(Event(f"parent-{n}", "/s", "t"))
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
assert publisher.flush(30) == 0
publisher.close()
"""


def test_a_publisher_works_on_in_the_children_of_a_fork(tmp_path: Path) -> None:
    with relay_at() as relay:
        code = [sys.executable, "-c", FORK, relay.url, str(tmp_path / "outbox.db")]
        assert subprocess.run(code, timeout=2 * DEADLINE_SECONDS, check=False).returncode == 0
        for name in ("parent", "child0", "child1", "child2"):
            assert [id for id in relay.ids if id.startswith(name)] == [f"{name}-{n}" for n in range(10)]


AFTER_FORK = """
import os, sys
from fairlead import Event, Publisher
from fairlead.drivers.sqlite import room as sqlite_room

sqlite_room._PLENTY_SECONDS = 0
publisher = Publisher("http://127.0.0.1:9", outbox=sys.argv[1])
publisher.publish(Event("0", "/s", "t"))
if os.fork() == 0:
    for n in range(8):
        open(f"{sys.argv[1]}.{n}", "x")  # else the next WAL may get the number of the one that went
    os._exit(0)
os.wait()
publisher.publish(Event("1", "/s", "t"))
publisher.close()
"""


def test_a_fork_takes_the_wal_away_and_nobody_takes_that_for_an_accident(tmp_path: Path) -> None:
    code = [sys.executable, "-c", AFTER_FORK, str(tmp_path / "outbox.db")]
    assert subprocess.run(code, timeout=2 * DEADLINE_SECONDS, check=False).returncode == 0
    assert waiting(tmp_path / "outbox.db") == 2


FORKS = """
import ctypes, os, sys

def fork(how):
    if how == "seen":
        return os.fork()
    pid = ctypes.PyDLL(None).fork()  # as a server written in C does
    if pid == 0 and how == "seen afterwards":
        ctypes.pythonapi.PyOS_AfterFork_Child()
    return pid
"""
HOWS = ["seen", "seen afterwards", "unseen"]

IDLE_CHILD = """
import os, sys
from fairlead import Event, Publisher

publisher = Publisher(sys.argv[1], outbox=sys.argv[2])
publisher.publish(Event("parent-0", "/s", "t"), wait="accepted")
if os.fork() == 0:
    os.close(1)
    sys.stdin.read()
    os._exit(0)
os.kill(os.getpid(), 9)
"""


def test_an_idle_child_does_not_keep_the_turn_of_a_parent_that_died(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox.db"
    with relay_at() as relay:
        code = [sys.executable, "-c", IDLE_CHILD, relay.url, str(outbox)]
        parent = subprocess.Popen(code, stdin=subprocess.PIPE)
        assert parent.wait(DEADLINE_SECONDS) == -signal.SIGKILL
        with Publisher(relay.url, outbox=outbox) as publisher:
            publisher.publish(Event("next", "/s", "t"), wait="accepted", timeout=DEADLINE_SECONDS)
        assert parent.stdin is not None
        parent.stdin.close()


GRANDCHILD = """
from fairlead import Event, Publisher, Receiver
from tests.contract.receiving import SECRET, event, kit

async def handle(event, transaction): ...

def work():
    publisher.publish(Event(str(os.getpid()), "/s", "t"))
    request = relay.deliver(event())
    assert receiver.handle(request.method, request.headers, request.body).status == 200

publisher, relay, ancestor = Publisher("http://127.0.0.1:9", outbox=sys.argv[1]), kit(), os.getpid()
receiver = Receiver(handle, secrets=[SECRET], inbox=sys.argv[1] + ".inbox")
work()
if (child := os.fork()) == 0:
    os.getpid = lambda: ancestor  # the system gave its number again
    work()
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_process_that_gets_the_number_of_an_ancestor_is_not_taken_for_it(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox.db"
    code = [sys.executable, "-c", FORKS + GRANDCHILD, str(outbox)]
    assert subprocess.run(code, timeout=2 * DEADLINE_SECONDS, check=False).returncode == 0
    assert waiting(outbox) == 2


ORPHAN = """
from fairlead import Event, Publisher

publisher = Publisher(sys.argv[1], outbox=sys.argv[2])
publisher.publish(Event("parent", "/s", "t"), wait="accepted")
with publisher._process().outbox._file.held():  # nobody uses it, its forwarder has the turn
    pid = fork("unseen")
if pid:
    os.kill(os.getpid(), 9)
publisher.publish(Event("child", "/s", "t"), wait="accepted", timeout=30)
publisher.close()
"""


def test_a_child_of_an_unseen_fork_takes_over_from_a_parent_that_died(tmp_path: Path) -> None:
    with relay_at() as relay:
        code = [sys.executable, "-c", FORKS + ORPHAN, relay.url, str(tmp_path / "outbox.db")]
        subprocess.run(code, timeout=2 * DEADLINE_SECONDS, check=False)
        until(lambda: relay.ids == ["parent", "child"])


OUTLIVED = """
import subprocess
from fairlead import Event, Publisher

outbox, end, how = sys.argv[1:4]
look = '''
import contextlib, sqlite3, sys
with contextlib.closing(sqlite3.connect(sys.argv[1])) as file:
    print(*(id for (id,) in file.execute("SELECT id FROM event ORDER BY seq")))
'''
publisher = Publisher("http://127.0.0.1:9", outbox=outbox)
publisher.publish(Event("parent", "/s", "t"))
if how != "seen":
    publisher._process().forwarder.close()  # nobody uses the file
published, ended = os.pipe(), os.pipe()
if fork(how):
    os.read(published[0], 1)
    if end == "close":
        publisher.close()
    os._exit(0)
os.close(ended[1])
publisher.publish(Event("beside-it", "/s", "t"))
os.write(published[1], b"x")
os.read(ended[0], 1)
for id in "after-it", "after-others":
    publisher.publish(Event(id, "/s", "t"))
    subprocess.run([sys.executable, "-c", look, outbox], check=True)
os._exit(0)
"""


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("end", ["close", "exit"])
def test_what_a_child_publishes_outlives_its_parent_and_others_that_close_the_file(
    tmp_path: Path, end: str, how: str
) -> None:
    code = [sys.executable, "-c", FORKS + OUTLIVED, str(tmp_path / "outbox.db"), end, how]
    done = subprocess.run(code, stdout=subprocess.PIPE, text=True, timeout=2 * DEADLINE_SECONDS, check=True)
    assert done.stdout.splitlines() == [
        "parent beside-it after-it",
        "parent beside-it after-it after-others",
    ]


FORK_UNDER_WAY = """
from fairlead import Event, Publisher
from fairlead.errors import OutboxError

publisher = Publisher("http://127.0.0.1:9", outbox=sys.argv[1])
file = publisher._process().outbox._file
with file.held():  # as when a signal's handler forks while its thread commits
    file.connection().execute("BEGIN IMMEDIATE")
    if (child := fork(sys.argv[2])) == 0:
        try:
            publisher.publish(Event("child", "/s", "t"))
        except OutboxError as error:
            assert "start this process anew" in str(error)
        try:
            Publisher("http://127.0.0.1:9", outbox=sys.argv[1])
        except Exception as error:
            os._exit("start this process anew" not in str(error))
        os._exit(2)
    file.connection().execute("ROLLBACK")
assert os.waitpid(child, 0)[1] == 0
publisher.publish(Event("parent", "/s", "t"))
publisher.close()
"""


@pytest.mark.parametrize("how", HOWS)
def test_a_fork_during_a_commit_of_its_own_thread_leaves_the_outbox_to_the_parent(
    tmp_path: Path, how: str
) -> None:
    outbox = tmp_path / "outbox.db"
    code = [sys.executable, "-c", FORKS + FORK_UNDER_WAY, str(outbox), how]
    assert subprocess.run(code, timeout=2 * DEADLINE_SECONDS, check=False).returncode == 0
    assert waiting(outbox) == 1


FORK_IN_LOOK_UP = """
import os, socket, sys, threading
from fairlead import Publisher

parent, importing, done = os.getpid(), threading.Event(), threading.Event()

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "encodings.idna" and os.getpid() == parent:
            importing.set()
            done.wait()

def look_up():
    socket.getaddrinfo("127.0.0.1", 80)
    importing.set()

sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=look_up)
thread.start()
importing.wait()
if (child := os.fork()) == 0:
    try:
        socket.getaddrinfo("127.0.0.1", 80)
    except BaseException:
        os._exit(1)
    os._exit(0)
status = os.waitpid(child, 0)[1]
done.set()
thread.join()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_child_of_a_fork_during_the_first_look_up_of_a_host_finds_hosts() -> None:
    code = [sys.executable, "-c", FORK_IN_LOOK_UP]
    assert subprocess.run(code, timeout=DEADLINE_SECONDS, check=False).returncode == 0


SIGNALLED = """
import signal, sqlite3, sys, threading
from fairlead import Event, Publisher
from fairlead.errors import OutboxError

publisher, errors = Publisher("http://127.0.0.1:9", outbox=sys.argv[1]), []
process, file = publisher._process(), sqlite3.connect(sys.argv[1], check_same_thread=False)
file.execute("BEGIN IMMEDIATE")

def handle(number, frame):
    for call in (lambda: publisher.publish(Event("handler", "/s", "t")), publisher.status):
        try:
            call()
        except OutboxError as error:
            errors.append(str(error))

def interrupt(thread):
    while not process.outbox._file._lock.locked() or not process._led:
        threading.Event().wait(0.01)
    signal.pthread_kill(thread, signal.SIGUSR1)
    file.rollback()

signal.signal(signal.SIGUSR1, handle)
interrupter = threading.Thread(target=interrupt, args=(threading.get_ident(),))
interrupter.start()
publisher.publish(Event("first", "/s", "t"))
interrupter.join()
assert "a signal handler cannot publish while its thread does" in errors[0], errors
with process.outbox._file.held():
    handle(None, None)
assert all("a signal handler cannot" in error for error in errors[-2:]), errors
publisher.publish(Event("second", "/s", "t"))
publisher.close()
"""

SIGNALLED_IN_A_LOOP = """
import asyncio, collections, signal, sys
from fairlead import Event, Publisher
from fairlead.errors import OutboxError

publisher, errors = Publisher("http://127.0.0.1:9", outbox=sys.argv[1]), []

class Interrupted(collections.deque):
    def append(self, pending):
        super().append(pending)
        if pending.event.id == "first":
            signal.raise_signal(signal.SIGUSR1)

def handle(number, frame):
    try:
        publisher.publish(Event("handler", "/s", "t"))
    except OutboxError as error:
        errors.append(str(error))

signal.signal(signal.SIGUSR1, handle)
publisher._process()._queue = Interrupted()
for id in "first", "second":
    asyncio.run(publisher.publish_async(Event(id, "/s", "t")))
assert "a signal handler cannot publish while its thread does" in errors[0], errors
publisher.close()
"""

SIGNALLED_AT_AN_OPENING = """
import signal, sys, weakref
from fairlead import Event, Publisher
from fairlead.drivers.sqlite import fork

class Interrupted(weakref.WeakSet):
    def add(self, file):
        super().add(file)
        if file.path.endswith("first.db"):
            signal.raise_signal(signal.SIGUSR1)

def publish(outbox):
    with Publisher("http://127.0.0.1:9", outbox=outbox) as publisher:
        publisher.publish(Event("a", "/s", "t"))

fork._files = Interrupted()
signal.signal(signal.SIGUSR1, lambda *_: publish(sys.argv[1]))
publish(sys.argv[1] + "-first.db")
"""


def test_a_signal_handler_opens_an_outbox_while_its_thread_opens_another(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox.db"
    command = [sys.executable, "-c", SIGNALLED_AT_AN_OPENING, str(outbox)]
    assert subprocess.run(command, timeout=DEADLINE_SECONDS, check=False).returncode == 0
    assert waiting(outbox) == 1  # each time it signals
    assert waiting(tmp_path / "outbox.db-first.db") == 1


@pytest.mark.parametrize("code", [SIGNALLED, SIGNALLED_IN_A_LOOP])
def test_a_signal_handler_that_publishes_while_its_thread_does_is_refused(tmp_path: Path, code: str) -> None:
    outbox = tmp_path / "outbox.db"
    command = [sys.executable, "-c", code, str(outbox)]
    assert subprocess.run(command, timeout=DEADLINE_SECONDS, check=False).returncode == 0
    assert waiting(outbox) == 2
