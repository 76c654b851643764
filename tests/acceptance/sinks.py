# SPDX-License-Identifier: Apache-2.0
"""A sink inside the test: what it answers, and what it does to the relay before, is up to the test."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.acceptance.history import Applied

CHUNK = b"x" * 65_536


@dataclass(frozen=True)
class Reply:
    """What a sink answers."""

    status: int = 204
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @classmethod
    def json(cls, status: int, document: Any, *, problem: bool = False) -> Reply:
        """An answer with a document."""
        media_type = "application/problem+json" if problem else "application/json"
        return cls(status, (("content-type", media_type),), json.dumps(document).encode())


TAKEN = Reply()
FAILED = Reply(500)
LOST = None
"""No answer: the connection ends, as if the receiver had died."""


@dataclass(frozen=True)
class Delivery:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @cached_property
    def event(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def key(self) -> str:
        return str(self.event["subject"])

    @property
    def number(self) -> int:
        return int(self.event["data"]["n"])

    @property
    def position(self) -> int:
        return int(self.event["flpos"])

    @property
    def is_fence(self) -> bool:
        return "fence" in self.headers["content-type"]

    @property
    def applied(self) -> Applied:
        stamps = self.event
        return Applied(
            stamps["flsubscription"],
            int(stamps["flgeneration"]),
            int(stamps["flpartition"]),
            stamps.get("partitionkey") or f"{stamps['source']} {stamps['subject']}",
            int(stamps["flpos"]),
            stamps["id"],
        )


Behaviour = Callable[[Delivery], Reply | None]
Raw = Callable[[BaseHTTPRequestHandler, Delivery], Reply | None]


def takes(delivery: Delivery) -> Reply | None:
    """Answer 204."""
    return TAKEN


class Sink:
    """What came, in order, and how to answer it.

    Attributes:
        behave: the answer; called in a thread of the request's own, so it may wait, or kill the relay.
        raw: asked first if set; may write to the connection what it likes, and then returns None.
        deliveries: every request that came, before `behave` was asked.
        taken: those that were answered 2xx, in the order of the answers.
    """

    def __init__(self) -> None:
        self.behave: Behaviour = takes
        self.raw: Raw | None = None
        self.deliveries: list[Delivery] = []
        self.taken: list[Delivery] = []
        self.port = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def receive(self, delivery: Delivery, connection: BaseHTTPRequestHandler) -> Reply | None:
        with self._lock:
            self.deliveries.append(delivery)
        raw = self.raw
        reply = self.behave(delivery) if raw is None else raw(connection, delivery)
        if reply is not None and reply.status < 300:
            with self._lock:
                self.taken.append(delivery)
        return reply

    @property
    def history(self) -> list[Applied]:
        """What it took, as the checker wants it."""
        with self._lock:
            return [one.applied for one in self.taken if not one.is_fence]

    def numbers(self, *, came: bool = False) -> dict[str, list[int]]:
        """The events' numbers by key, in the order in which it took them (or in which they came)."""
        found: dict[str, list[int]] = defaultdict(list)
        with self._lock:
            for one in self.deliveries if came else self.taken:
                if not one.is_fence:
                    found[one.key].append(one.number)
        return dict(found)


@contextmanager
def sink_at(behave: Behaviour = takes) -> Iterator[Sink]:
    """A sink that listens."""
    sink = Sink()
    sink.behave = behave

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle(self) -> None:
            with suppress(ConnectionError):  # of a relay that was killed
                super().handle()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            delivery = Delivery(self.path, headers, body)
            reply = sink.receive(delivery, self)
            if reply is None:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers:
                self.send_header(name, value)
            if reply.status != 204:
                self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def finish(self) -> None:
            with suppress(ConnectionError):
                super().finish()

        def log_message(self, format: str, *args: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, request: Any, client_address: Any) -> None:
            return

    server = Server(("127.0.0.1", 0), Handler)
    sink.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield sink
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
