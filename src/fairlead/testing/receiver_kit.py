# SPDX-License-Identifier: Apache-2.0
"""Plays the relay towards a receiver, in any language and framework, for the tests of those who write one.

    kit = ReceiverKit(secret)
    first = kit.deliver(event)
    assert call_asgi(app, first).status == 200
    assert call_asgi(app, first).status == 200                      a duplicate: answered, not handled again
    assert call_asgi(app, kit.out_of_chain(event)).status == 425    an earlier event is missing

Requests are exactly what a relay sends (interface, section 7). For a bus (section 8):

    kit = ReceiverKit(secret, bus=True)
    message = bus_message(kit.deliver(event))       what the relay publishes; publish it, or take it at once:
    answer = BusDeliveries(applier, [secret]).take(message)
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import msgspec

from fairlead.core.channel import ChannelId
from fairlead.core.codec import encode_structured
from fairlead.core.event import Event
from fairlead.core.signature import Signer
from fairlead.core.stamps import Stamps
from fairlead.sdk.bus.deliveries import BusMessage

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
FENCE = "application/vnd.fairlead.fence+json"

AsgiApp = Callable[
    [MutableMapping[str, Any], Callable[..., Awaitable[Any]], Callable[..., Awaitable[Any]]], Any
]
WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """One request of a relay; header names in lower case."""

    method: str
    headers: Mapping[str, str]
    body: bytes
    stamps: Stamps | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """What a receiver answered; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


class ReceiverKit:
    """A relay with one channel that never hears an answer: it owes every event it has delivered.

    Args:
        secret: the subscription's, `whsec_…` or `whsk_…`.
        bus: whether events carry `flseq`, as on a bus.
        clock: Unix seconds for the signatures.
    """

    def __init__(
        self,
        secret: str,
        *,
        subscription: str = "test",
        partition: int = 0,
        generation: int = 1,
        bus: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._signer = Signer([secret])
        self._clock = clock
        self.channel = ChannelId(subscription, partition)
        self.generation, self.epoch, self.floor = generation, 1, 0
        self._position = 0
        self._seq = 0 if bus else None
        self._last: dict[str, int] = {}

    # -- what a relay sends ----------------------------------------------------------------------------

    def stamp(self, event: Event) -> Stamps:
        """Give an event the next position; it follows what was delivered of its key before."""
        self._position += 1
        prev = self._last.get(event.key, 0)
        self._last[event.key] = self._position
        if self._seq is not None:
            self._seq += 1
        return Stamps(
            self.channel,
            self.generation,
            self.epoch,
            self.floor,
            pos=self._position,
            prev=prev if prev > self.floor else 0,
            seq=self._seq,
        )

    def deliver(self, event: Event, stamps: Stamps | None = None) -> SignedRequest:
        """The delivery of one event: the next one, or with the stamps given."""
        stamps = stamps or self.stamp(event)
        id = f"{self.channel.subscription}_{stamps.generation}_{self.channel.partition}_{stamps.pos}"
        request = self._signed(id, STRUCTURED, encode_structured(event, stamps.attributes()))
        return replace(request, stamps=stamps)

    def batch(self, events: Iterable[Event]) -> SignedRequest:
        """The delivery of several events at once."""
        stamped = [(event, self.stamp(event)) for event in events]
        positions = " ".join(str(stamps.pos) for _, stamps in stamped)
        digest = blake2b(positions.encode()).hexdigest()[:32]
        body = b",".join(encode_structured(event, stamps.attributes()) for event, stamps in stamped)
        id = f"{self.channel.subscription}_{self.generation}_{self.channel.partition}_b{digest}"
        return self._signed(id, BATCH, b"[" + body + b"]")

    def fence(self) -> SignedRequest:
        """A new epoch, and the delivery that says so without an event."""
        self._enter(self.epoch + 1)
        subscription, partition = self.channel
        body = {
            "flsubscription": subscription,
            "flpartition": str(partition),
            "flgeneration": str(self.generation),
            "flepoch": str(self.epoch),
            "flfloor": str(self.floor),
        }
        id = f"{subscription}_{self.generation}_{partition}_f{self.epoch}"
        return self._signed(id, FENCE, msgspec.json.encode(body))

    def replay(self) -> None:
        """Begin a new generation: the same events may be delivered anew, from position 1."""
        self.generation, self.floor, self._position = self.generation + 1, 0, 0
        self._enter(1)
        self._last.clear()

    def _enter(self, epoch: int) -> None:
        self.epoch = epoch
        self._seq = None if self._seq is None else 0

    # -- what goes wrong on the way --------------------------------------------------------------------

    def again(self, request: SignedRequest) -> SignedRequest:
        """The same delivery tried again: same id, same body, signed now."""
        headers = request.headers
        signed = self._signed(headers["webhook-id"], headers["content-type"], request.body)
        return replace(signed, stamps=request.stamps)

    def out_of_chain(self, event: Event) -> SignedRequest:
        """The delivery of an event whose predecessor was lost."""
        self.stamp(event)
        return self.deliver(event)

    def stale(self, event: Event) -> SignedRequest:
        """What a relay that has lost its lease sends: an epoch that is over."""
        return self.deliver(event, msgspec.structs.replace(self.stamp(event), epoch=self.epoch - 1))

    def tampered(self, request: SignedRequest) -> SignedRequest:
        """A delivery that somebody changed on its way."""
        return replace(request, body=request.body.replace(b'"specversion":"1.0"', b'"specversion":"1.0" '))

    def expired(self, request: SignedRequest) -> SignedRequest:
        """A delivery that somebody kept for an hour."""
        headers = request.headers
        return self._signed(
            headers["webhook-id"], headers["content-type"], request.body, at=int(self._clock()) - 3600
        )

    def _signed(self, id: str, content_type: str, body: bytes, at: int | None = None) -> SignedRequest:
        timestamp = int(self._clock()) if at is None else at
        headers = {
            "content-type": content_type,
            "user-agent": "Fairlead/1.0",
            "webhook-id": id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": self._signer.header(id, timestamp, body),
        }
        return SignedRequest("POST", headers, body)


def bus_message(request: SignedRequest, reply_to: str | None = "fairlead.acks.test") -> BusMessage:
    """A delivery as it comes from a broker: the same body and signature, `webhook-id` in `message_id`."""
    headers = {name: value for name, value in request.headers.items() if name.startswith("webhook-")}
    return BusMessage(headers, request.headers["content-type"], request.body, reply_to)


def call_asgi(app: AsgiApp, request: SignedRequest, path: str = "/") -> Response:
    """Send a request to an ASGI application, on an event loop of its own."""
    return asyncio.run(call_asgi_async(app, request, path))


async def call_asgi_async(app: AsgiApp, request: SignedRequest, path: str = "/") -> Response:
    """Send a request to an ASGI application on the running loop."""
    sent: list[MutableMapping[str, Any]] = []
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in _with_length(request).items()],
        "server": ("testserver", 80),
        "client": ("127.0.0.1", 1),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": request.body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    headers = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return Response(sent[0]["status"], headers, body)


def call_wsgi(app: WsgiApp, request: SignedRequest, path: str = "/") -> Response:
    """Send a request to a WSGI application."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in _with_length(request).items():
        variable = name.upper().replace("-", "_")
        environ[variable if variable in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{variable}"] = value
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
        started.append((status, headers))

    body = b"".join(app(environ, start_response))
    status, headers = started[0]
    return Response(int(status.split()[0]), {name.lower(): value for name, value in headers}, body)


def _with_length(request: SignedRequest) -> dict[str, str]:
    return {"host": "testserver", **request.headers, "content-length": str(len(request.body))}
