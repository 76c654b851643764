# SPDX-License-Identifier: Apache-2.0
"""Ids of rejects: they are listed by them, so they are in the order in which rejects came."""

from __future__ import annotations

from collections.abc import Callable


class RejectIds:
    """Of one source. Also within one millisecond, and when the clock is set back, the next id is greater.

    Args:
        random_bytes: `os.urandom`: two sources, or two runs of one, never make the same id.
    """

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._last_ms = self._count = 0

    def next(self, now: float) -> str:
        """The id of what comes at a Unix time."""
        now_ms = int(now * 1000)
        if now_ms > self._last_ms:
            self._last_ms, self._count = now_ms, 0
        else:
            self._count += 1
        return f"r-{self._last_ms:012x}-{self._count:06x}{self._random_bytes(6).hex()}"
