# SPDX-License-Identifier: Apache-2.0
"""Notifications that could not be stored: counted, logged without a flood, and noted in the outbox."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from fairlead.core.attributes import shown
from fairlead.drivers.green import system_lock
from fairlead.drivers.sqlite_local import hold_at_fork
from fairlead.errors import FairleadError

log = logging.getLogger("fairlead.oslo")

LOG_EVERY_SECONDS = 5.0

Note = Callable[[int, str], None]


class Losses:
    """What was lost in one process. Of many losses a line comes at once and then every five seconds.

    Args:
        note: told how many were lost since it was told last, and why; may raise FairleadError.
    """

    def __init__(self, note: Note) -> None:
        self.count = 0
        self.last_error: str | None = None
        self._note = note
        self._told = 0
        self._tell_at = 0.0
        self._guard = system_lock()
        hold_at_fork(self._guard)

    def add(self, notification: Mapping[str, Any], error: Exception) -> None:
        """Count one more, and tell of it if it is time."""
        reason = str(error) if isinstance(error, FairleadError) else f"{type(error).__name__}: {error}"
        with self._guard:
            self.count += 1
            self.last_error = reason
            if time.monotonic() < self._tell_at:
                return
            fresh = self._take()
        which = " ".join(shown(notification.get(name)) for name in ("event_type", "message_id"))
        log.error("Lost %d notifications, the last one is %s: %s", fresh, which, reason)
        self._write(fresh, reason)

    def over(self) -> None:
        """One was stored: tell of those that were lost before it."""
        if self.last_error is None:
            return
        with self._guard:
            fresh, reason, self.last_error = self._take(), self.last_error, None
        if reason is not None:
            log.warning("Notifications are stored again; this process has lost %d", self.count)
            if fresh:
                self._write(fresh, reason)

    def _take(self) -> int:
        fresh, self._told = self.count - self._told, self.count
        self._tell_at = time.monotonic() + LOG_EVERY_SECONDS
        return fresh

    def _write(self, fresh: int, reason: str) -> None:
        try:
            self._note(fresh, reason)
        except FairleadError as error:
            log.debug("The outbox does not know how many notifications were lost: %s", error)
