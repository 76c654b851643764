# SPDX-License-Identifier: Apache-2.0
"""Whether the disk has room: appends stop at the reserve, deliveries go on within it (design, section 3).

Told in the log once when it begins and once when it is over, and to whoever asks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

_log = logging.getLogger("fairlead.store")


class Reserve:
    """The reserve of disk that appends leave, as the writer meets it; its calls are for the writer's thread.

    Args:
        free_bytes: what the disk has left.
        reserve_bytes: what appends must leave of it.
        is_used_up: tries whether anything can be written; asked where that is in doubt.

    Attributes:
        refused: something had no room, and no event was stored since. Read on any thread: who asks after the
            room of a sound store does not wait for a disk that hangs.
    """

    def __init__(
        self, free_bytes: Callable[[], int], reserve_bytes: int, is_used_up: Callable[[], bool]
    ) -> None:
        self._free_bytes, self._reserve_bytes = free_bytes, reserve_bytes
        self._is_used_up = is_used_up
        self.refused = self._full = False

    def for_events(self) -> bool:
        """Whether events may be appended; they are refused where not."""
        if self._free_bytes() >= self._reserve_bytes:
            return True
        self._tell_refused()
        return False

    def left(self) -> bool:
        """Whether there is room for events now, and what was to be stored last had room."""
        return not self._full and self._free_bytes() >= self._reserve_bytes and not self._is_used_up()

    def none_for(self, appending: bool) -> None:
        """SQLite itself found no room, while events were appended or for what may use the reserve."""
        self._full = not appending
        self._tell_refused()

    def stored(self, appended: bool) -> None:
        """Something was stored, events among it or not."""
        self._full = False
        if appended and self.refused:
            self.refused = False
            _log.info("the disk has room again; events are taken")

    def _tell_refused(self) -> None:
        if not self.refused:
            self.refused = True
            _log.warning(
                "the disk is full: events are refused with 507 until there is room; what was accepted is "
                "delivered as far as the reserve goes",
                extra={"reserve_bytes": self._reserve_bytes},
            )
