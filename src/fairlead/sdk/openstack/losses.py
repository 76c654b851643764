# SPDX-License-Identifier: Apache-2.0
"""Notifications that could not be stored: counted, logged without a flood, and noted in the outbox."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from fairlead.core.attributes import shown
from fairlead.drivers.green import outside_greenlets, system_lock
from fairlead.drivers.sqlite.fork import hold_at_fork
from fairlead.errors import FairleadError

log = logging.getLogger("fairlead.oslo")

LOG_EVERY_SECONDS = 5.0

Note = Callable[[int, str], None]


class Losses:
    """What was lost in one process. Of many losses a line comes at once and then every five seconds.

    The rest of a burst is told by a daemon thread after these seconds, or when the process ends. Under
    eventlet that is a greenlet, and what is lost outside of greenlets waits for the next loss or the end.

    Args:
        note: told how many were lost since it was told last, and why; may raise FairleadError.
    """

    def __init__(self, note: Note) -> None:
        self.count = 0
        self.last_error: str | None = None
        self._last = ""  # the notification that was lost last
        self._note = note
        self._told = 0
        self._tell_at = 0.0
        self._waits = False  # whether a thread is there to tell the rest
        self._pid = os.getpid()
        self._guard = system_lock()
        hold_at_fork(self._guard)
        _all.add(self)

    def add(self, notification: Mapping[str, Any], error: Exception) -> None:
        """Count one more, and tell of it if it is time."""
        reason = str(error) if isinstance(error, FairleadError) else f"{type(error).__name__}: {error}"
        which = " ".join(shown(notification.get(name)) for name in ("event_type", "message_id"))
        with self._guard:
            self._own()
            self.count += 1
            self.last_error, self._last = reason, which
            later = time.monotonic() < self._tell_at
            starts = later and not self._waits and not outside_greenlets()
            self._waits = self._waits or starts
        if starts:
            self._start()
        elif not later:
            self.tell()

    def over(self) -> None:
        """One was stored: tell of those that were lost before it."""
        if self.last_error is None:
            return
        with self._guard:
            self._own()
            fresh, reason, self.last_error = self._take(), self.last_error, None
        if reason is not None:
            log.warning("Notifications are stored again; this process has lost %d", self.count)
            if fresh:
                self._write(fresh, reason)

    def tell(self) -> None:
        """Tell of those that nobody was told of yet, if there are any."""
        with self._guard:
            self._own()
            fresh, reason, which = self._take(), self.last_error, self._last
        if fresh and reason is not None:
            log.error("Lost %d notifications, the last one is %s: %s", fresh, which, reason)
            self._write(fresh, reason)

    def _start(self) -> None:
        try:
            threading.Thread(target=self._tell_later, name="fairlead-losses", daemon=True).start()
        except RuntimeError:  # no thread can be had, or the process ends: then they are told there
            self._waits = False

    def _tell_later(self) -> None:
        pid = os.getpid()
        threading.Event().wait(self._tell_at - time.monotonic())
        if os.getpid() == pid:  # a green thread goes on in the child of a fork
            self._waits = False
            self.tell()

    def _own(self) -> None:
        """In the child of a fork: what its parent has lost is its parent's to tell."""
        if self._pid != os.getpid():
            self._pid, self._told, self._tell_at, self._waits = os.getpid(), self.count, 0.0, False

    def _take(self) -> int:
        fresh, self._told = self.count - self._told, self.count
        self._tell_at = time.monotonic() + LOG_EVERY_SECONDS
        return fresh

    def _write(self, fresh: int, reason: str) -> None:
        try:
            self._note(fresh, reason)
        except FairleadError as error:
            log.debug("The outbox does not know how many notifications were lost: %s", error)


_all: weakref.WeakSet[Losses] = weakref.WeakSet()


@atexit.register
def _tell_the_rest() -> None:
    for losses in list(_all):
        losses.tell()
