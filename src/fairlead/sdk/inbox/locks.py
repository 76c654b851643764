# SPDX-License-Identifier: Apache-2.0
"""A lock per name, which exists only while somebody holds it or waits for it."""

from __future__ import annotations

import threading
from collections.abc import Hashable


class NamedLocks:
    """Mutual exclusion per name between threads; any thread may release what another acquired."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[Hashable, tuple[threading.Lock, int]] = {}

    def acquire(self, name: Hashable, timeout_seconds: float) -> bool:
        """Take the lock of `name`; False if it was not free in time."""
        with self._guard:
            lock, users = self._locks.get(name) or (threading.Lock(), 0)
            self._locks[name] = lock, users + 1
        if lock.acquire(timeout=timeout_seconds):
            return True
        self._leave(name)
        return False

    def release(self, name: Hashable) -> None:
        """Let go of a lock that was acquired."""
        lock, _ = self._locks[name]
        self._leave(name)
        lock.release()

    def _leave(self, name: Hashable) -> None:
        with self._guard:
            lock, users = self._locks[name]
            if users > 1:
                self._locks[name] = lock, users - 1
            else:
                del self._locks[name]
