# SPDX-License-Identifier: Apache-2.0
"""`Publisher`: publishes events through a durable outbox, so the relay may be down (interface, section 11).

with Publisher("https://relay.example", source="/heat", api_key="flk_…") as publisher:
    publisher.publish(Event("a-1", "/heat", "org.example.state", subject="k1", data={"n": 1}))
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from fairlead.core.codec import BATCH, encode_structured
from fairlead.core.durations import format_time
from fairlead.core.event import Event
from fairlead.drivers.http_sync import HttpOrigin
from fairlead.drivers.this_process import this_process
from fairlead.errors import OutboxClosed, OutboxError, StoreError
from fairlead.sdk.publishing.outbox import Outbox
from fairlead.sdk.publishing.process import Pending, PublisherProcess
from fairlead.sdk.publishing.records import OutboxStatus, Receipt, RefusedEvent

Wait = Literal["stored", "accepted"]
DEFAULT_MAX_BYTES = 256 * 1024 * 1024
REQUEST_TIMEOUT_SECONDS = 35.0  # the relay's own request timeout, and a little


class Publisher:
    """Publishes from any thread, any event loop and any number of processes.

    An event is on disk, fsynced, before `publish` returns; a thread forwards the outbox to the relay in the
    order in which events were stored, again and again until the relay has taken or refused each. Publishing
    again what was stored, after a crash say, is harmless: the relay knows (`source`, `id`).

    Args:
        url: the relay's; `https://…`, or `http://…` on loopback.
        outbox: the SQLite file; processes that share it share one order.
        source: the default `source` of events given as mappings.
        api_key: sent as a bearer token.
        max_bytes: how much waiting and refused events may take together.
        on_refused: called with each `RefusedEvent`, in the forwarding thread of the process that forwards.
        ca_file: further certificate authorities, PEM.

    Raises:
        ValueError: the URL is not a relay's.
        StoreError: the outbox file cannot be used; its subclass and its text say why.
    """

    def __init__(
        self,
        url: str,
        outbox: str | os.PathLike[str] = "outbox.db",
        source: str | None = None,
        api_key: str | None = None,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        on_refused: Callable[[RefusedEvent], None] | None = None,
        ca_file: str | None = None,
    ) -> None:
        self._url, self._source = url, source
        self._path = Path(outbox).absolute()  # a fork opens it again, and may have changed its directory
        self._max_bytes, self._on_refused, self._ca_file = max_bytes, on_refused, ca_file
        self._headers = {"content-type": BATCH, "user-agent": "Fairlead/1.0"}
        if api_key is not None:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._closed = False
        # Opened here, so that a wrong URL or file is known now, and what was left over goes out.
        self._processes = {this_process(): self._open()}

    # -- publishing ------------------------------------------------------------------------------------

    def publish(
        self, event: Event | Mapping[str, Any], wait: Wait = "stored", timeout: float | None = None
    ) -> Receipt:
        """Store an event and, with `wait="accepted"`, wait until the relay has taken it.

        Args:
            event: an `Event`, or its attributes and `data` as a mapping, in which `id` (a random one),
                `source` (the publisher's) and `time` (now) may be left out.
            timeout: seconds to wait for `accepted`; None for ever.

        Raises:
            InvalidEvent: CloudEvents 1.0 refuses it; nothing was stored.
            OutboxFull: nothing was stored.
            OutboxClosed: the publisher was closed.
            OutboxError: the file cannot be used; nothing was stored.
            EventRefused: with `accepted`: the relay refused it; it is in `refused()`.
            TimeoutError: with `accepted`: it is stored, and goes on by itself.
        """
        pending = self._pending(event, wait)
        process = self._process()
        process.commit(pending)
        pending.stored.result()
        if wait == "stored":
            return Receipt(pending.event.id)
        try:
            return pending.accepted.result(timeout)
        except TimeoutError:
            raise _still_waits(process, pending) from None

    async def publish_async(
        self,
        event: Event | Mapping[str, Any],
        wait: Wait = "stored",
        timeout: float | None = None,  # noqa: ASYNC109  # as `publish` has it
    ) -> Receipt:
        """As `publish`, without holding up the event loop; concurrent calls share one commit."""
        pending = self._pending(event, wait)
        process = self._processes.get(this_process())
        if process is None or self._closed:
            process = await asyncio.to_thread(self._process)
        process.commit_soon(pending)
        await asyncio.wrap_future(pending.stored)
        if wait == "stored":
            return Receipt(pending.event.id)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(pending.accepted), timeout)
        except TimeoutError:
            raise _still_waits(process, pending) from None

    def _pending(self, event: Event | Mapping[str, Any], wait: Wait) -> Pending:
        if wait not in ("stored", "accepted"):
            raise ValueError(f'wait is {wait!r}; expected "stored" or "accepted"')
        if not isinstance(event, Event):
            event = self._event(event)
        return Pending(event, encode_structured(event), wait == "accepted")

    def _event(self, members: Mapping[str, Any]) -> Event:
        defaults: dict[str, Any] = {"id": str(uuid.uuid4()), "time": format_time(time.time())}
        if self._source is not None:
            defaults["source"] = self._source
        attributes = {name: value for name, value in {**defaults, **members}.items() if name != "specversion"}
        return Event(**{"source": "", "type": "", **attributes})

    # -- the outbox ------------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None) -> int:
        """Wait until everything stored before the call has gone; return how many events have not.

        What was refused has gone. A wait between two tries is cut short once.
        """
        process = self._process()
        last = process.outbox.last_seq()
        deadline = None if timeout is None else time.monotonic() + timeout
        process.forwarder.hurry()
        while True:
            left = process.outbox.left(last)
            if left == 0 or (deadline is not None and time.monotonic() >= deadline):
                return left
            process.wait_for_step(
                0.05 if deadline is None else max(0.0, min(0.05, deadline - time.monotonic()))
            )

    def status(self) -> OutboxStatus:
        """How the outbox stands."""
        process = self._process()
        return process.outbox.status(process.forwarder.last_error)

    def note_lost(self, count: int, reason: str) -> None:
        """Count events that could not be published and that nobody else will be told of, in the outbox.

        Raises:
            OutboxError: the file cannot be used.
        """
        self._process().outbox.note_lost(count, reason)

    def refused(self) -> list[RefusedEvent]:
        """The events that the relay refused for good, in the order in which they were published."""
        return self._process().outbox.refused()

    def retry_refused(self, id: int) -> None:
        """Publish a refused event again: as the newest, for what came after it has gone already.

        Raises:
            KeyError: no refused event has that number.
        """
        process = self._process()
        if not process.outbox.retry_refused(id):
            raise KeyError(f"no refused event has the number {id}")
        process.forwarder.wake()

    def discard_refused(self, id: int) -> None:
        """Delete a refused event. Raises KeyError as `retry_refused`."""
        if not self._process().outbox.discard_refused(id):
            raise KeyError(f"no refused event has the number {id}")

    # -- life ------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop forwarding and close the outbox; idempotent.

        What waits stays in the file, for the next publisher: `flush` first to see it off.
        """
        self._closed = True
        process = self._processes.pop(this_process(), None)
        if process is not None:
            process.close()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _process(self) -> PublisherProcess:
        """What this process has open; a child of a fork opens its own."""
        if self._closed:
            raise OutboxClosed(f"{self._path}: the publisher was closed")
        here = this_process()
        process = self._processes.get(here)
        if process is None:
            try:
                process = self._open()
            except StoreError as error:
                raise OutboxError(str(error)) from error
            if self._processes.setdefault(here, process) is not process:  # of two threads one wins
                process.close()
                process = self._processes[here]
        return process

    def _open(self) -> PublisherProcess:
        origin = HttpOrigin(self._url, timeout_seconds=REQUEST_TIMEOUT_SECONDS, ca_file=self._ca_file)
        return PublisherProcess(
            Outbox(self._path, self._max_bytes), origin, self._headers, on_refused=self._on_refused
        )


def _still_waits(process: PublisherProcess, pending: Pending) -> TimeoutError:
    why = process.forwarder.last_error or "the relay has not answered yet"
    return TimeoutError(f"{pending.event.id!r} is stored in the outbox and goes on by itself: {why}")
