# SPDX-License-Identifier: Apache-2.0
"""A small real HTTP server in a relay's place: accepts, refuses or fails as a test wants it."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DEADLINE_SECONDS = 30.0

Answer = tuple[int, dict[str, str], Any]
"""Status, headers and the document of an answer."""


def until(condition: Callable[[], bool], what: str = "the condition") -> None:
    """Poll with a generous deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about"
        pause.wait(0.01)


def problem(status: int, name: str, **members: Any) -> Answer:
    return status, {}, {"type": f"urn:fairlead:problem:{name}", "title": name, "status": status, **members}


@dataclass
class StubRelay:
    """Keeps what it accepted, in order; `script` may answer something else for a batch."""

    port: int = 0
    accepted: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], list[dict[str, Any]]]] = field(default_factory=list)
    script: Callable[[list[dict[str, Any]]], Answer | None] = lambda batch: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ids(self) -> list[str]:
        return [event["id"] for event in self.accepted]

    def take(self, path: str, headers: dict[str, str], batch: list[dict[str, Any]]) -> Answer:
        with self._lock:
            self.requests.append((path, headers, batch))
            scripted = self.script(batch)
            if scripted is not None:
                return scripted
            return 202, {}, {"accepted": [self._accept(event) for event in batch]}

    def _accept(self, event: dict[str, Any]) -> dict[str, Any]:
        known = [(old["source"], old["id"]) for old in self.accepted]
        duplicate = (event["source"], event["id"]) in known
        if not duplicate:
            self.accepted.append(event)
        position = len(known) + 1 if not duplicate else known.index((event["source"], event["id"])) + 1
        return {
            "id": event["id"], "source": event["source"], "partition": 5, "position": position,
            "duplicate": duplicate,
        }  # fmt: skip


@contextmanager
def relay_at(
    stub: StubRelay | None = None, port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[StubRelay]:
    relay = stub or StubRelay()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            events = json.loads(body)
            batch = events if isinstance(events, list) else [events]
            status, extra, document = relay.take(self.path, headers, batch)
            answer = json.dumps(document).encode()
            self.send_response(status)
            for name, value in {"content-length": str(len(answer)), **extra}.items():
                self.send_header(name, value)
            with suppress(ConnectionError):  # a publisher that was killed does not wait for its answer
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    relay.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield relay
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
