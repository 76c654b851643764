# SPDX-License-Identifier: Apache-2.0
"""`Receiver`: takes a relay's deliveries, in order and once, and calls a handler (interface, 7 and 11).

    receiver = Receiver(handler, secrets=["whsec_…"])
    app = Starlette(routes=[Route("/hook", receiver.asgi)])

`handle` is the whole of it, without a framework; `asgi`, `wsgi` and `django.view` are thin bridges.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from fairlead.core.signature import check_verifying, verify
from fairlead.drivers.this_process import Process, this_process
from fairlead.errors import (
    ForeignOrigin,
    InboxError,
    MethodNotAllowed,
    Overloaded,
    Problem,
    RateLimited,
    StoreError,
    TooLarge,
)
from fairlead.sdk.inbox.port import Inbox
from fairlead.sdk.inbox.sqlite_inbox import SqliteInbox
from fairlead.sdk.receiving.applying import Applier
from fairlead.sdk.receiving.deliveries import deliver
from fairlead.sdk.receiving.handler import BackgroundLoop, Handler, caller
from fairlead.sdk.receiving.reply import Reply, of_problem
from fairlead.sdk.receiving.stopping import Stop

if TYPE_CHECKING:
    from fairlead.sdk.bus.consuming import ReceiverBus
    from fairlead.sdk.receiving.asgi import ReceiverAsgi
    from fairlead.sdk.receiving.wsgi import ReceiverWsgi

METHODS = ("POST", "PUT", "PATCH")
TOLERANCE_SECONDS = 300


class _Process(NamedTuple):
    """What bounds and carries the deliveries of one process."""

    slots: threading.Semaphore
    workers: ThreadPoolExecutor

    @classmethod
    def of(cls, concurrency: int) -> _Process:
        workers = ThreadPoolExecutor(concurrency, thread_name_prefix="fairlead-receiver")
        return cls(threading.Semaphore(concurrency), workers)

    def left(self, serving: Future[Reply]) -> None:
        """Give back the slot of a delivery whose caller left before it began: nobody else does."""
        if serving.cancelled():
            self.slots.release()


class Receiver:
    """Verifies, orders and de-duplicates deliveries and calls one handler for each event.

    Order per resource, and no event twice in one generation if the handler writes through the transaction it
    is given; an effect elsewhere may repeat for the last event of a resource after a crash.

    Args:
        handler: `handler(event, transaction)`, sync (in a thread of its own) or `async def`. To return is to
            have taken the event. `Reject` means never; anything else that it raises means again, later.
        secrets: the subscription's secrets, `whsec_…` (or `whpk_…` for `v1a`); several while one is rotated.
        inbox: a file for an SQLite inbox, or any `Inbox`; shared by all processes of this receiver.
        relay_url: where to send answers that the reply queue did not take (bus only).
        answer_secret: signs answers where deliveries are signed with `v1a` (bus only).
        concurrency: deliveries handled at once, by HTTP and by each `consume`; beyond it HTTP gets 429.
        allowed_origins: which relays may send, for the subscription handshake; `*` for any.
        allowed_rate: requests per minute granted in the handshake; None for any.
        max_body_bytes: a greater request body is answered 413.

    Raises:
        ValueError: no secret, or one that is not a Standard Webhooks secret (InvalidSecret).
    """

    def __init__(
        self,
        handler: Handler,
        *,
        secrets: Sequence[str],
        inbox: str | os.PathLike[str] | Inbox = "inbox.db",
        relay_url: str | None = None,
        answer_secret: str | None = None,
        concurrency: int = 64,
        allowed_origins: Sequence[str] = ("*",),
        allowed_rate: int | None = None,
        max_body_bytes: int = 8 * 1024 * 1024,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.secrets = _checked(secrets)
        self.relay_url, self.answer_secret = relay_url, answer_secret
        self.concurrency, self.max_body_bytes = concurrency, max_body_bytes
        self.inbox = SqliteInbox(inbox) if isinstance(inbox, str | os.PathLike) else inbox
        self._handler = handler
        self._origins, self._rate = frozenset(allowed_origins), allowed_rate
        self._clock = clock
        self._background = BackgroundLoop()
        self._processes: dict[Process, _Process] = {}
        self._stops: set[Stop] = set()

    # -- mounting --------------------------------------------------------------------------------------

    @cached_property
    def asgi(self) -> ReceiverAsgi:
        """An ASGI application, for `Route("/hook", receiver.asgi)` or to serve alone."""
        from fairlead.sdk.receiving.asgi import ReceiverAsgi

        return ReceiverAsgi(self)

    @cached_property
    def wsgi(self) -> ReceiverWsgi:
        """A WSGI application."""
        from fairlead.sdk.receiving.wsgi import ReceiverWsgi

        return ReceiverWsgi(self)

    def consume(
        self,
        amqp_url: str | Sequence[str],
        queue: str,
        *,
        ca_file: str | None = None,
        prefetch: int = 1024,
    ) -> None:
        """Take deliveries from a queue of a message bus, in this thread, until `stop`, `close` or Ctrl-C.

        It works beside `asgi` and `wsgi`, in the same process or in others, into the same inbox. It connects
        for ever, and says in the log why it does not consume. Every delivery is settled at the broker once
        the inbox has decided, and answered to the reply queue; where that fails, by POST to `relay_url`.
        Messages that no relay of ours has signed are dropped, with the reason in the log.

        Args:
            amqp_url: `amqps://user:password@host/vhost`; several are nodes of one cluster, tried in turn with
                the first one's login.
            queue: `fairlead.<subscription>.<shard>`; one call for each shard, each in a thread of its own.
            ca_file: further certificate authorities for the broker and the relay, PEM.
            prefetch: how many deliveries may be here unsettled; 256 per partition of the queue are under way
                at most, and a prefetch below that lets a slow resource hold up others.

        Raises:
            ValueError: a URL or queue that is none, or no `whsec_…` to sign answers with (`check_answering`).
            ModuleNotFoundError: the AMQP library is not installed: `pip install 'fairlead[amqp]'`.
            StoreError: the inbox's file cannot be opened; nothing was taken from the queue.
            KeyboardInterrupt: Ctrl-C, once what has begun is done.
        """
        stop = Stop()  # before all else, so that nobody's `stop` is missed
        self._stops.add(stop)
        try:
            applier = Applier(self.inbox, caller(self._handler, None, self._background))
            bus = _receiver_bus()(self, applier, amqp_url, queue, ca_file=ca_file, prefetch=prefetch)
            if isinstance(self.inbox, SqliteInbox):
                self.inbox.open()
            bus.run(stop)
        finally:
            self._stops.discard(stop)
            stop.ended.set()

    def stop(self) -> None:
        """Let `consume` return once what it has begun is done; from any thread or a signal handler."""
        for stop in tuple(self._stops):
            stop.ask()

    def close(self) -> None:
        """Stop consuming, wait for the deliveries under way and close the inbox; idempotent.

        Not from a handler, nor from a signal handler of the thread that consumes: there, `stop` does.
        """
        stops = tuple(self._stops)
        self.stop()
        for stop in stops:
            stop.ended.wait()
        process = self._processes.pop(this_process(), None)
        if process is not None:
            process.workers.shutdown(wait=True)
        self._background.close()
        self.inbox.close()

    # -- one request -----------------------------------------------------------------------------------

    def handle(self, method: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answer one HTTP request, in the calling thread; never raises for anything a caller can do.

        Args:
            headers: by lower-case name.
        """
        process = self._process()
        if not process.slots.acquire(blocking=False):
            return self._busy()
        return self._serve(process, method, headers, body, None)

    async def handle_async(self, method: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """As `handle`, without holding up the event loop; an async handler runs on this loop."""
        process = self._process()
        if not process.slots.acquire(blocking=False):
            return self._busy()
        loop = asyncio.get_running_loop()
        serving = process.workers.submit(self._serve, process, method, headers, body, loop)
        serving.add_done_callback(process.left)
        return await asyncio.wrap_future(serving)

    def too_large(self, size_bytes: int) -> Reply | None:
        """The 413 for a body of that size, or None if it may come."""
        if size_bytes <= self.max_body_bytes:
            return None
        detail = f"the body has at least {size_bytes} bytes; this receiver takes {self.max_body_bytes}"
        return of_problem(TooLarge(detail, members={"limit_bytes": self.max_body_bytes}))

    def _process(self) -> _Process:
        """The slots and threads of this process; a child of a fork has its own."""
        here = this_process()
        return self._processes.get(here) or self._processes.setdefault(here, _Process.of(self.concurrency))

    def _busy(self) -> Reply:
        return of_problem(RateLimited(f"{self.concurrency} deliveries are under way", retry_after_seconds=1))

    def _serve(
        self,
        process: _Process,
        method: str,
        headers: Mapping[str, str],
        body: bytes,
        loop: asyncio.AbstractEventLoop | None,
    ) -> Reply:
        """Answer within a slot that was taken, and give it back."""
        try:
            return self._reply(method.upper(), headers, body, loop)
        except Problem as problem:
            return of_problem(problem)
        except (InboxError, StoreError) as error:
            return of_problem(Overloaded(str(error), retry_after_seconds=1))
        finally:
            process.slots.release()

    def _reply(
        self, method: str, headers: Mapping[str, str], body: bytes, loop: asyncio.AbstractEventLoop | None
    ) -> Reply:
        if method == "OPTIONS":
            return self._handshake(headers)
        if method not in METHODS:
            allow = ", ".join(("OPTIONS", *METHODS))
            raise MethodNotAllowed(f"{method} is not how deliveries come", headers={"allow": allow})
        if (refusal := self.too_large(len(body))) is not None:
            return refusal
        verify(self.secrets, headers, body, self._clock(), TOLERANCE_SECONDS)
        applier = Applier(self.inbox, caller(self._handler, loop, self._background))
        return deliver(applier, headers.get("content-type", ""), body)

    def _handshake(self, headers: Mapping[str, str]) -> Reply:
        """Consent to deliveries (CloudEvents web hooks, section 4): the headers say it, not the status."""
        origin = headers.get("webhook-request-origin")
        allowed = {"allow": ", ".join(("OPTIONS", *METHODS))}
        if origin is None:
            return Reply(204, allowed)
        if "*" not in self._origins and origin not in self._origins:
            return of_problem(ForeignOrigin(f"deliveries from {origin!r} are not wanted here"))
        allowed["webhook-allowed-origin"] = "*" if "*" in self._origins else origin
        if "webhook-request-rate" in headers:
            allowed["webhook-allowed-rate"] = "*" if self._rate is None else str(self._rate)
        return Reply(204, allowed)


def _receiver_bus() -> type[ReceiverBus]:
    try:
        from fairlead.sdk.bus.consuming import ReceiverBus
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pika":
            raise
        detail = "Receiver.consume needs an AMQP library: pip install 'fairlead[amqp]'"
        raise ModuleNotFoundError(detail, name=error.name) from None
    return ReceiverBus


def _checked(secrets: Sequence[str]) -> tuple[str, ...]:
    if isinstance(secrets, str):
        raise ValueError("secrets is a list of secrets, not one string: secrets=[…]")
    if not secrets:
        raise ValueError("secrets is empty: a receiver takes signed deliveries only")
    for number, secret in enumerate(secrets):
        if not secret.startswith(("whsec_", "whpk_")):
            raise ValueError(f"secrets[{number}] does not begin with whsec_ or whpk_")
        check_verifying(secret)
    return tuple(secrets)
