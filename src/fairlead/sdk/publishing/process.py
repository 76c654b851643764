# SPDX-License-Identifier: Apache-2.0
"""What a publisher has open in one process: the outbox, the forwarder, and the commits that calls share."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from fairlead.core.event import Event
from fairlead.drivers.green import off_hub, outside_greenlets
from fairlead.drivers.http_sync import HttpOrigin
from fairlead.errors import EventRefused, OutboxClosed, OutboxError, OutboxFull
from fairlead.sdk.publishing.forwarder import Forwarder
from fairlead.sdk.publishing.outbox import Outbox
from fairlead.sdk.publishing.records import Receipt, RefusedEvent

log = logging.getLogger("fairlead.publisher")

COMMIT_EVENTS = 1000


@dataclass(slots=True)
class Pending:
    """One call to publish: `stored` resolves at the commit, `accepted` with the relay's receipt.

    Attributes:
        waits: whether somebody waits for `turn`: set when the event is stored, or when it is his to store.
    """

    event: Event
    body: bytes
    awaited: bool
    stored: Future[int] = field(default_factory=Future)
    accepted: Future[Receipt] = field(default_factory=Future)
    waits: bool = False
    turn: threading.Event = field(default_factory=threading.Event)


class PublisherProcess:
    """Concurrent calls share a commit: one of them leads and stores whatever queued while the last one ran.

    Who has been stored goes its way, and who is next in the queue leads then.
    """

    def __init__(
        self,
        outbox: Outbox,
        origin: HttpOrigin,
        headers: dict[str, str],
        *,
        on_refused: Callable[[RefusedEvent], None] | None,
    ) -> None:
        self.outbox = outbox
        self._callback = on_refused
        self._queue: deque[Pending] = deque()
        self._led = False
        self._guard = threading.Lock()  # of the two above; nothing waits while it is held
        self._inside: set[int] = set()  # the threads that are storing, or queueing for it
        self._committer = _committer()
        self._closed = False
        self._awaited: dict[int, Pending] = {}
        self._stepped = threading.Condition()
        self.forwarder = Forwarder(
            outbox, origin, headers, on_step=self._after_step, on_refused=self._after_refusal
        )

    # -- storing ---------------------------------------------------------------------------------------

    def commit(self, pending: Pending) -> None:
        """Store a call's event, and whatever else is queued; `pending.stored` is done when it returns.

        Raises:
            OutboxError: a signal's handler has interrupted its thread here, and would wait for itself.
        """
        with self._entered():
            if outside_greenlets():
                self._store([pending])  # alone, for it must not wait for greenlets
            else:
                self._take_turn(pending)

    @contextmanager
    def _entered(self) -> Iterator[None]:
        me = threading.get_ident()
        if me in self._inside:
            raise OutboxError(f"{self.outbox.path}: a signal handler cannot publish while its thread does")
        try:
            self._inside.add(me)
            yield
        finally:
            self._inside.discard(me)

    def _take_turn(self, pending: Pending) -> None:
        pending.waits = True
        if not self._leads(pending):
            try:
                pending.turn.wait()
            except BaseException:  # interrupted, or a greenlet was killed: the event is stored all the same
                with self._guard:
                    pending.waits = False
                    must_lead = pending.turn.is_set() and not pending.stored.done()
                if must_lead:
                    self._hand_over()
                raise
        if not pending.stored.done():
            self._lead(pending)

    def commit_soon(self, pending: Pending) -> None:
        """As `commit`, in a thread.

        Raises:
            OutboxClosed, OutboxError: there is none, and the event is not stored; or as `commit`.
        """
        with self._entered():
            if self._leads(pending) and not self._lead_in_thread():
                with self._guard:
                    self._queue.remove(pending)
                self._hand_over()
                if self._closed:
                    raise OutboxClosed(f"{self.outbox.path}: the publisher was closed")
                raise OutboxError(f"{self.outbox.path}: no thread can be started to store the event")

    def _leads(self, pending: Pending) -> bool:
        """Queue an event; whether its caller has to lead, as nobody does."""
        with self._guard:
            self._queue.append(pending)
            leads, self._led = not self._led, True
            return leads

    def _lead(self, own: Pending | None) -> None:
        """Store batches until `own` is stored or, for async calls, nothing is queued; then hand over."""
        try:
            while batch := self._batch():
                self._store(batch)
                if own is not None and own.stored.done():
                    break
        finally:
            self._hand_over()

    def _batch(self) -> list[Pending]:
        batch: list[Pending] = []
        while self._queue and len(batch) < COMMIT_EVENTS:
            pending = self._queue.popleft()
            if pending.stored.set_running_or_notify_cancel():
                batch.append(pending)
        return batch

    def _hand_over(self) -> None:
        """Let the next in the queue lead."""
        with self._guard:
            if not self._queue:
                self._led = False
                return
            following = self._queue[0]
            if following.waits:
                following.turn.set()
                return
        if not self._lead_in_thread():  # who awaits it is told nevertheless
            self._lead(None)

    def _lead_in_thread(self) -> bool:
        """Whether there is a thread that leads from now on: not when closing, or when none can be started."""
        try:
            self._committer.submit(self._lead, None)
        except RuntimeError:
            if not self._closed:  # it has kept what it was to run, and another leads by then
                self._committer.shutdown(wait=False, cancel_futures=True)
                self._committer = _committer()
            return False
        return True

    def _store(self, batch: list[Pending]) -> None:
        stored: list[int | OutboxFull] = []
        failures: list[Exception] = []
        try:
            self._append(batch, stored, failures)
        finally:  # also when this caller was killed meanwhile: the others are told
            failure = failures[0] if failures else OutboxError(f"{self.outbox.path}: interrupted")
            results: Sequence[int | Exception] = stored or [failure] * len(batch)
            for pending, result in zip(batch, results, strict=True):
                if isinstance(result, Exception):
                    pending.stored.set_exception(result)
                else:
                    if pending.awaited:
                        self._awaited[result] = pending
                    pending.stored.set_result(result)
                pending.turn.set()
        self.forwarder.wake()

    @off_hub
    def _append(
        self, batch: list[Pending], stored: list[int | OutboxFull], failures: list[Exception]
    ) -> None:
        try:
            stored += self.outbox.append([(p.event, p.body, p.awaited) for p in batch])
        except Exception as error:  # nothing was stored, whatever it was
            failures.append(error)

    # -- what became of it -----------------------------------------------------------------------------

    def wait_for_step(self, timeout_seconds: float) -> None:
        """Wait until the forwarder has looked at the outbox once more, or for so long."""
        with self._stepped:
            self._stepped.wait(timeout_seconds)

    def _after_step(self) -> None:
        """In the forwarder's thread: hand out the receipts that this process awaits, whoever earned them."""
        awaited = list(self._awaited)
        if awaited:
            for seq, receipt in self.outbox.receipts(awaited).items():
                _resolve(self._awaited.pop(seq), seq, receipt)
        with self._stepped:
            self._stepped.notify_all()

    def _after_refusal(self, seqs: list[int]) -> None:
        """In the forwarder's thread."""
        if self._callback is None:
            return
        for refused in self.outbox.refused():
            if refused.id in seqs:
                try:
                    self._callback(refused)
                except Exception:  # a callback's defect must not stop the events behind it
                    log.exception("on_refused raised", extra={"event_id": refused.event.id})

    # -- the end ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop, and tell those who still wait."""
        self._closed = True
        self._committer.shutdown(wait=True)
        self.forwarder.close()
        self.outbox.close()
        for pending in self._awaited.values():
            message = f"{self.outbox.path}: the publisher was closed; the event is stored and waits"
            if not pending.accepted.done():
                pending.accepted.set_exception(OutboxClosed(message))


def _committer() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="fairlead-outbox")


def _resolve(pending: Pending, seq: int, receipt: Receipt | dict[str, Any]) -> None:
    if not pending.accepted.set_running_or_notify_cancel():
        return
    if isinstance(receipt, Receipt):
        pending.accepted.set_result(replace(receipt, id=pending.event.id))
        return
    detail = receipt.get("detail") or receipt.get("title")
    message = f"the relay refused {pending.event.id!r}: {detail}"
    pending.accepted.set_exception(EventRefused(message, refused_id=seq, problem=receipt))
