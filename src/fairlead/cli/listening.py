# SPDX-License-Identifier: Apache-2.0
"""The receiver behind `fairlead listen`: a small HTTP server, plain or with the library."""

from __future__ import annotations

import json
import random
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fairlead.cli.order import OrderCheck, Standing
from fairlead.core.event import Event
from fairlead.core.signature import check_verifying, verify
from fairlead.errors import InboxError, StoreError, Unauthenticated
from fairlead.sdk.inbox.sqlite_inbox import SqliteInbox
from fairlead.sdk.receiving.receiver import Receiver

MOST_BODY_BYTES = 64 * 1024 * 1024
MOST_REASONS = 20
MOST_LETTERS = 300
_REFUSALS = (400, 401, 413, 415)
"""What the library answers to a delivery that it cannot take for one."""
_PLACE = ("flgeneration", "flpos", "flprev")
_NUMBER = re.compile(r"[0-9]{1,19}")

Show = Callable[[dict[str, Any], Standing], None]


@dataclass
class Listener:
    """Takes deliveries and says of each event whether it is in order.

    Args:
        show: called for every event that is taken, one at a time.
        secrets: deliveries must be signed with one of them; empty takes everything.
        fail: the share of deliveries to answer with 503, to see them come again.
        library: answer as the receiver library does, with an inbox in `inbox` (None: a temporary file).
        answer_secret: signs answers on a bus where `secrets` cannot.
        tell: called with a line for each delivery that fails on request, and with one for each reason of a
            refusal, of `MOST_REASONS` at most: whoever refuses something sends what it likes.
        stop: set where it cannot go on, by `failure`.

    Raises:
        ValueError: a secret is none, or with `library` not one of a receiver; the message never holds it.
        StoreError: the inbox cannot be opened.
    """

    show: Show
    secrets: Sequence[str] = ()
    fail: float = 0.0
    library: bool = False
    inbox: str | None = None
    answer_secret: str | None = None
    tell: Callable[[str], None] = lambda _line: None
    stop: threading.Event = field(default_factory=threading.Event)
    order: OrderCheck = field(default_factory=OrderCheck)
    taken: int = 0
    failed: int = 0
    refused: int = 0
    failure: Exception | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _reasons: set[str] = field(default_factory=set)
    _consuming: threading.Thread | None = None

    def __post_init__(self) -> None:
        for secret in self.secrets:
            check_verifying(secret)
        self._folder = tempfile.TemporaryDirectory(prefix="fairlead-inbox-")
        self._receiver: Receiver | None = None
        if self.library:
            inbox = SqliteInbox(self.inbox or Path(self._folder.name) / "inbox.db")
            self._receiver = Receiver(
                self._handle, secrets=list(self.secrets), inbox=inbox, answer_secret=self.answer_secret
            )
            try:
                inbox.open()
            except StoreError:
                self.close()
                raise

    def answer(
        self, method: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Answer one request: status, headers, body."""
        if method != "OPTIONS" and random.random() < self.fail:
            self._failed(headers)
            return 503, {}, b""
        if self._receiver is not None:
            reply = self._receiver.handle(method, headers, body)
            if reply.status in _REFUSALS:
                self._refused(str(json.loads(reply.body).get("detail")))
            return reply.status, reply.headers, reply.body
        if method == "OPTIONS":
            return 200, {"webhook-allowed-origin": "*", "webhook-allowed-rate": "*"}, b""
        try:
            if self.secrets:
                verify(self.secrets, headers, body, time.time())
            events = _events(headers, body)
        except Unauthenticated as error:
            self._refused(str(error))
            return 401, {}, str(error).encode()
        except ValueError as error:
            self._refused(str(error))
            return 400, {}, str(error).encode()
        try:
            for event in events:
                self._take(event)
        except InboxError:
            return 503, {}, b""
        return 204, {}, b""

    def consume(self, amqp_url: str, queue: str, relay_url: str, stop: threading.Event) -> None:
        """Take a queue too, until `close`; what makes that impossible is `failure`, and sets `stop`."""
        receiver = self._receiver
        if receiver is None:
            raise ValueError("only the library takes deliveries from a bus")
        receiver.relay_url = relay_url

        def run() -> None:
            try:
                receiver.consume(amqp_url, queue)
            except (ValueError, ModuleNotFoundError) as error:
                self.failure = error
                stop.set()

        self._consuming = threading.Thread(target=run, name="listen-bus", daemon=True)
        self._consuming.start()

    def close(self) -> None:
        if self._receiver is not None:
            while self._consuming is not None and self._consuming.is_alive():
                self._receiver.stop()  # again, if it had not begun yet
                self._consuming.join(0.1)
            self._receiver.close()
        self._folder.cleanup()

    def _failed(self, headers: Mapping[str, str]) -> None:
        with self._lock:
            self.failed += 1
        self.tell(f"failed on request: {headers.get('webhook-id', 'what has no webhook-id')[:MOST_LETTERS]}")

    def _refused(self, reason: str) -> None:
        reason = reason[:MOST_LETTERS]
        with self._lock:
            self.refused += 1
            if reason in self._reasons or len(self._reasons) == MOST_REASONS:
                return
            self._reasons.add(reason)
            last = len(self._reasons) == MOST_REASONS
        rest = "; what is refused for other reasons is only counted" if last else ""
        self.tell(f"refused: {reason}{rest}")

    def _handle(self, event: Event, _transaction: object) -> None:
        whole = dict(event.attributes)
        if event.payload is not None:
            whole["data"] = event.data if event.form != "binary" else repr(event.data)
        self._take(whole)

    def _take(self, event: dict[str, Any]) -> None:
        with self._lock:
            standing: Standing = "new"
            if "flpos" in event:
                standing = self.order.take(
                    subscription=str(event.get("flsubscription")),
                    generation=int(event.get("flgeneration", 0)),
                    key=key_of(event),
                    position=int(event["flpos"]),
                    previous=int(event.get("flprev", 0)),
                )
            try:
                self.show(event, standing)
            except OSError as error:
                self.failure = error
                self.stop.set()
                raise InboxError("what comes cannot be shown, so it is not taken") from error
            self.taken += 1


def key_of(event: Mapping[str, Any]) -> str:
    """The ordering key of an event in the JSON format (design, section 2)."""
    if event.get("partitionkey") is not None:
        return str(event["partitionkey"])
    subject = event.get("subject")
    return str(event.get("source")) if subject is None else f"{event.get('source')} {subject}"


def _events(headers: Mapping[str, str], body: bytes) -> list[dict[str, Any]]:
    """The events of a delivery in any mode; a bare one becomes its data alone. Raises ValueError."""
    media_type = headers.get("content-type", "").partition(";")[0].strip()
    if media_type in ("application/cloudevents+json", "application/cloudevents-batch+json"):
        document = _json(body)
        events = document if isinstance(document, list) else [document]
    else:
        events = [{name.removeprefix("ce-"): value for name, value in headers.items() if name[:3] == "ce-"}]
        if body:
            events[0]["data"] = _json(body) if media_type.endswith("json") else body.decode(errors="replace")
    for event in events:
        if not isinstance(event, dict):
            raise ValueError("an event is a JSON object")
        for name in _PLACE:
            if not _NUMBER.fullmatch(str(event.get(name, 0))):
                raise ValueError(f"{name} is not a number")
    return events


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


class Server(ThreadingHTTPServer):
    """Listens on loopback; raises OSError where the port is taken."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, listener: Listener, host: str, port: int) -> None:
        self.listener = listener
        super().__init__((host, port), _Request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who sent it is gone before its answer: nothing to say of that; of a defect the trace."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}/"


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def _serve(self) -> None:
        length = self.headers.get("content-length", "0")
        if not _NUMBER.fullmatch(length) or int(length) > MOST_BODY_BYTES:
            self.close_connection = True
            self._reply(413, {}, b"")
            return
        body = self.rfile.read(int(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._reply(*self.server.listener.answer(self.command, headers, body))

    do_POST = do_PUT = do_PATCH = do_OPTIONS = _serve  # noqa: N815 -- the standard library's names

    def _reply(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what arrives is shown by the listener."""
