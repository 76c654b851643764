# SPDX-License-Identifier: Apache-2.0
"""The thread that forwards an outbox to the relay, in order, in batches.

Of all processes that share an outbox one forwards at a time: it holds a lock on the file beside the outbox,
which the system frees when the process dies, and another takes over.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable

from fairlead.drivers.green import outside_greenlets
from fairlead.drivers.http_sync import HttpOrigin, UnreachableError
from fairlead.errors import OutboxError
from fairlead.sdk.publishing.forwarding import Accepted, Later, Meaning, Refused, Smaller, batch_body, judge
from fairlead.sdk.publishing.outbox import Outbox
from fairlead.sdk.publishing.records import Decided, Receipt, Waiting

log = logging.getLogger("fairlead.publisher")

MAX_EVENTS = 1000
MAX_BYTES = 8 * 1024 * 1024 - 2  # the array's brackets
POLL_SECONDS = 0.1  # how soon what another process stored is seen
CLOSE_GRACE_SECONDS = 1.0
FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 0.5, 60.0

REFUSED = "The relay refused the event %s of %s; it is in the outbox's refused table: %s"

OnRefused = Callable[[list[int]], None]


class Forwarder:
    """Forwards until it is closed; a daemon thread, for what it has not forwarded stays in the outbox.

    Args:
        headers: sent with every request, the login among them.
        on_step: called in this thread after each look at the outbox, whoever forwards it.
        on_refused: called in this thread with the numbers of events that were refused.
    """

    def __init__(
        self,
        outbox: Outbox,
        origin: HttpOrigin,
        headers: dict[str, str],
        *,
        on_step: Callable[[], None],
        on_refused: OnRefused,
    ) -> None:
        self._outbox, self._origin, self._headers = outbox, origin, headers
        self._on_step, self._on_refused = on_step, on_refused
        self._lock = _TurnLock(f"{outbox.path}-lock")
        self._random = random.Random()
        self._wake = threading.Event()
        self._closing = False
        self._limit = MAX_EVENTS
        self._decided: list[Decided] = []  # what the outbox has yet to let go of
        self._failures = 0
        self._not_before = 0.0
        self.last_error: str | None = None
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self.wake()

    def wake(self) -> None:
        """There is something to forward; a wait after a failure goes on, for the relay answers no sooner.

        Where no thread can be started it says so, and is tried again with the next event.

        Outside of eventlet's greenlets it does nothing: the forwarder looks often enough.
        """
        if outside_greenlets():
            return
        if self._thread is None and self._starting.acquire(blocking=False):  # else another caller is at it
            try:
                self._start()
            finally:
                self._starting.release()
        self._wake.set()

    def hurry(self) -> None:
        """As `wake`, and cut a wait after a failure short, once."""
        self._not_before = 0.0
        self.wake()

    def close(self) -> None:
        """End the thread; a request under way is broken off if its answer takes longer than a second.

        Idempotent. What was broken off is sent again by whoever forwards next; the relay knows it by its id.
        """
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(CLOSE_GRACE_SECONDS)
            self._origin.abort()
            self._thread.join()

    def _start(self) -> None:
        """Start the thread, unless there is one: two would send each event twice, and in any order."""
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._run, name="fairlead-publisher", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the events are stored all the same
            self._note(f"no thread can be started that forwards them: {error}")
        else:
            self._thread = thread

    def _run(self) -> None:
        try:
            # A green thread goes on in the child of a fork, where the outbox is not its own.
            while not self._closing and os.getpid() == self._pid:
                delay = self._step()
                self._wake.wait(delay)
                self._wake.clear()
        finally:
            self._lock.release()
            self._origin.close()

    def _step(self) -> float:
        """Forward one batch; return after how many seconds to go on at the latest."""
        try:
            delay = POLL_SECONDS
            if (pause := self._not_before - time.monotonic()) > 0:
                delay = pause
            elif self._lock.take():
                delay = self._go_on()
            self._on_step()
            return delay
        except (OutboxError, OSError) as error:  # full or busy: nothing was let go of, so nothing is lost
            return self._back_off(str(error), None)
        except Exception as error:  # a defect: the thread lives on
            log.exception("The outbox %s could not be forwarded", self._outbox.path)
            return self._back_off(str(error), None)

    def _go_on(self) -> float:
        """Send what is next, unless what was decided before has still to be settled."""
        if self._decided:
            return self._settle()
        batch = self._outbox.head(self._limit, MAX_BYTES)
        return self._act(self._send(batch), batch) if batch else POLL_SECONDS

    def _send(self, batch: list[Waiting]) -> Meaning:
        try:
            answer = self._origin.send("POST", "/events", batch_body(batch), self._headers)
        except UnreachableError as error:
            return Later(f"the relay cannot be reached: {error}")
        return judge(answer.status, answer.headers, answer.body, batch)

    def _act(self, meaning: Meaning, batch: list[Waiting]) -> float:
        match meaning:
            case Accepted(receipts):
                self._decided = list(zip(batch, receipts, strict=True))
                self._limit = min(MAX_EVENTS, self._limit * 2)
            case Refused(problems):
                self._decided = [(batch[index], problem) for index, problem in sorted(problems.items())]
            case Smaller():
                self._limit = max(1, len(batch) // 2)
                return 0.0
            case Later(detail, retry_after_seconds):
                return self._back_off(detail, retry_after_seconds)
        return self._settle()

    def _settle(self) -> float:
        """Have the outbox let go of what was decided; what it cannot is tried again, not sent again."""
        while self._decided:
            count = self._outbox.settle(self._decided)
            settled, self._decided = self._decided[:count], self._decided[count:]
            self._tell_refused(settled)
        self._failures, self.last_error = 0, None
        return 0.0

    def _tell_refused(self, settled: list[Decided]) -> None:
        seqs = []
        for row, problem in settled:
            if not isinstance(problem, Receipt):
                log.error(REFUSED, row.id, row.source, problem.get("detail") or problem.get("title"))
                seqs.append(row.seq)
        if seqs:
            self._on_refused(seqs)

    def _back_off(self, detail: str, retry_after_seconds: float | None) -> float:
        if self._closing:
            return 0.0
        self._note(detail)
        ceiling = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(self._failures, 16))
        self._failures += 1
        pause = max(self._random.uniform(ceiling / 2, ceiling), retry_after_seconds or 0.0)
        self._not_before = time.monotonic() + pause
        return pause

    def _note(self, error: str) -> None:
        if error != self.last_error:
            log.warning("Events wait in the outbox %s: %s", self._outbox.path, error)
        self.last_error = error


class _TurnLock:
    """An exclusive lock between processes on a file of its own; the system frees it when its process ends."""

    def __init__(self, path: str) -> None:
        _forget_locks()  # those of a parent whose fork nobody saw
        self._path, self.pid = path, os.getpid()
        self._file: int | None = None
        _locks[id(self)] = self

    def take(self) -> bool:
        """Whether this process has the lock, taking it if it is free."""
        if self._file is not None:
            return True
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            if isinstance(error, BlockingIOError):
                return False
            raise OutboxError(
                f"{self._path} cannot be locked: {error.strerror}; "
                "the outbox needs a local disk, with a file system that has locks"
            ) from error
        self._file = file
        return True

    def release(self) -> None:
        """Let go of the lock; in a fork's child that closes its copy and leaves the parent's lock alone."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


_locks: weakref.WeakValueDictionary[int, _TurnLock] = weakref.WeakValueDictionary()


def _forget_locks() -> None:
    """A child that never publishes must not keep the lock of a parent that has died."""
    for known in _locks.valuerefs():  # a list of its own: other threads make locks meanwhile
        lock = known()
        if lock is not None and lock.pid != os.getpid():
            with contextlib.suppress(OSError):
                lock.release()


os.register_at_fork(after_in_child=_forget_locks)
