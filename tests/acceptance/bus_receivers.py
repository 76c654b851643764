# SPDX-License-Identifier: Apache-2.0
"""Receivers on a bus as real processes, and a sender that owes events until they are answered for."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pika.exceptions

from fairlead import Event
from fairlead.testing.receiver_kit import ReceiverKit, SignedRequest
from tests.acceptance.waiting import until
from tests.contract.receiving import SECRET
from tests.contract.relay_end import QUEUE, RelayEnd

PROGRAM = """
import logging, signal, sys, threading
from wsgiref.simple_server import WSGIRequestHandler, make_server
from fairlead import Receiver
from fairlead.sdk.inbox.sqlite_inbox import SqliteInbox

logging.basicConfig(level=logging.INFO, stream=sys.stdout)

def handle(event, transaction):
    transaction.execute("CREATE TABLE IF NOT EXISTS effect (number INTEGER PRIMARY KEY, key TEXT, n INTEGER)")
    transaction.execute("INSERT INTO effect (key, n) VALUES (?, ?)", (event.key, event.data["n"]))

class Quiet(WSGIRequestHandler):
    def log_message(self, *args): pass

secret, inbox, url, queue = sys.argv[1:]
receiver = Receiver(handle, secrets=[secret], inbox=SqliteInbox(inbox, lease_seconds=2.0))
signal.signal(signal.SIGTERM, lambda *_: receiver.stop())
server = make_server("127.0.0.1", 0, receiver.wsgi, handler_class=Quiet)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("port", server.server_port, flush=True)
try:
    receiver.consume(url, queue)
except KeyboardInterrupt:
    print("interrupted", flush=True)
receiver.close()
print("ended", flush=True)
"""


class BusReceiver:
    """A receiver's process: on the bus, and over HTTP at `port`, with its effects in the inbox's file."""

    def __init__(self, place: Path, relay: RelayEnd, name: str = "receiver") -> None:
        self.inbox, self._url = place / "inbox.db", relay.url
        self._output = place / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> BusReceiver:
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-uc", PROGRAM, SECRET, str(self.inbox), self._url, QUEUE],
                stdout=output,
                stderr=output,
            )
        return self

    @property
    def said(self) -> str:
        return self._output.read_text()

    @property
    def port(self) -> int:
        until(lambda: "port " in self.said, lambda: self.said)
        return int(self.said.rpartition("port ")[2].split()[0])

    def applied(self) -> int:
        """How many effects there are."""
        try:
            return sum(map(len, effects(self.inbox).values()))
        except sqlite3.OperationalError:  # the first handler makes the table
            return 0

    def kill(self) -> None:
        """`kill -9`."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def end(self, by: signal.Signals = signal.SIGTERM) -> int:
        """As a supervisor or a user ends it; its exit status."""
        assert self._process is not None
        self._process.send_signal(by)
        return self._process.wait(60)


@contextmanager
def bus_receivers(place: Path, relay: RelayEnd, count: int = 1) -> Iterator[list[BusReceiver]]:
    """So many processes on one inbox."""
    receivers = [BusReceiver(place, relay, f"receiver-{number}") for number in range(count)]
    try:
        yield [receiver.start() for receiver in receivers]
    finally:
        for receiver in receivers:
            receiver.kill()


def effects(inbox: Path) -> dict[str, list[int]]:
    """What the handlers have done, by key, in order."""
    found: dict[str, list[int]] = defaultdict(list)
    with closing(sqlite3.connect(inbox, timeout=60)) as file:
        for key, n in file.execute("SELECT key, n FROM effect ORDER BY number"):
            found[key].append(n)
    return dict(found)


class Owed:
    """A sender that sends again, in order, what no answer lists as applied; on a thread of its own."""

    def __init__(self, relay: RelayEnd, keys: int, each: int) -> None:
        self.kit = ReceiverKit(SECRET, bus=True)
        self.wanted = {f"/heat k{key}": list(range(each)) for key in range(keys)}
        self.owed: dict[tuple[str, int], SignedRequest] = {}
        for n in range(each):
            for key in range(keys):
                event = Event(f"k{key}-{n}", "/heat", "t", subject=f"k{key}", data={"n": n})
                request = self.kit.deliver(event)
                assert request.stamps is not None
                self.owed[event.key, request.stamps.pos] = request
        self.rounds = 0
        self._relay = relay
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Owed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def settled(self) -> None:
        """Wait until nothing is owed."""
        until(lambda: not self.owed, lambda: f"all is applied; owed are {list(self.owed)[:5]}")

    def _run(self) -> None:
        while self.owed and not self._over.is_set():
            try:
                self._relay.publish(*self.owed.values())
                self.rounds += 1
                self._hear()
            except (pika.exceptions.AMQPError, OSError):
                self._over.wait(0.2)  # the broker is away

    def _hear(self) -> None:
        """Take answers until none has come for a second."""
        quiet = 0
        while self.owed and quiet < 20 and not self._over.is_set():
            heard = len(self._relay.answers)
            for answer in self._relay.read()[heard:]:
                assert answer.key is not None
                assert answer.applied is not None
                for key, position in list(self.owed):
                    if key == answer.key and position <= answer.applied:
                        del self.owed[key, position]
            quiet = 0 if len(self._relay.answers) > heard else quiet + 1
            self._over.wait(0.05)
