# SPDX-License-Identifier: Apache-2.0
"""SQLite files in a process that forks: no connection is open across a fork.

SQLite keeps one record of its locks on a file per process. A fork copies the record but not the locks: what a
child opens then believes that it has them and never takes them, and once the parent has ended, whoever closes
the file deletes the WAL under the child, with all that it commits. So a fork waits for whoever uses a file,
closes it, and each side opens it again at its next use. A server written in C, as uWSGI, forks past that; its
child then closes what it has inherited before it opens anything, which is safe if nobody was using it.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from fairlead.errors import StoreError

Synchronous = Literal["FULL", "NORMAL"]

INHERITED = "was opened before a fork, and belongs to the parent"
TORN = (
    "cannot be used: this process was forked during a transaction; start this process anew, "
    "or open it only after forks (uWSGI: lazy-apps)"
)


class ForkedFile:
    """The connections of this process to one file, opened at their first use, for one thread at a time.

    A fork that does not get them goes on without: the parent works on, and its child, which has inherited
    SQLite's record of a transaction, opens that file no more. It does not wait for the forking thread itself.

    Args:
        lock: whoever holds it has the connections; also held across a fork.
        open: makes a connection.
        fork_wait_seconds: how long a fork waits for them; for ever by default. A number where users' code
            runs while they are held.
    """

    def __init__(
        self,
        path: str,
        lock: threading.Lock,
        open: Callable[[Synchronous], sqlite3.Connection],
        *,
        fork_wait_seconds: float = -1,
    ) -> None:
        self.path, self._lock, self._make = path, lock, open
        self.pid = os.getpid()
        self.fork_wait_seconds = fork_wait_seconds
        self._gate = threading.Lock()  # a fork that waits is next: locks are not fair
        self._holder: int | None = None
        self._open: dict[Synchronous, sqlite3.Connection] = {}
        self._over: str | None = None

    def acquire(self, timeout_seconds: float = -1) -> bool:
        """Have the connections, until `release` in whichever thread; False if they were not free in time."""
        if not self._gate.acquire(timeout=timeout_seconds):
            return False
        self._gate.release()
        if not self._lock.acquire(timeout=timeout_seconds):
            return False
        self._holder = threading.get_ident()
        return True

    def release(self) -> None:
        """Let others have the connections."""
        self._holder = None
        self._lock.release()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have the connections for the block.

        Raises:
            StoreError: this thread has them, and a signal's handler, which has interrupted it, asks again.
        """
        me = threading.get_ident()  # not under the lock: a signal is handled after a call
        if self._holder == me:
            raise StoreError(f"{self.path}: a signal handler cannot use it while its thread does")
        with self._lock:
            self._holder = me
            try:
                yield
            finally:
                self._holder = None

    def connection(self, synchronous: Synchronous = "FULL") -> sqlite3.Connection:
        """The one of that kind, for who holds them. Raises StoreError as `check` and `open_local`."""
        found = self._open.get(synchronous)
        if found is None:
            _leave_to_parent()
            self.check()
            with _guard:  # not before: a fork that had it would wait for whoever is about to open it
                _files.add(self)
            found = self._open[synchronous] = self._make(synchronous)
        return found

    def check(self) -> None:
        """Raise StoreError if this was closed, or belongs to the parent of a fork."""
        if self._over is not None:
            raise StoreError(f"{self.path} {self._over}")

    def close(self) -> None:
        """Close the connections, for good. Raises StoreError as `held`."""
        with self.held():
            self._over = self._over or "was closed"
            self._close()

    def _close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def take_to_fork(self) -> bool:
        """Hold and close them, if they can be had."""
        if self._holder == threading.get_ident() or not self._gate.acquire(timeout=self.fork_wait_seconds):
            return False
        try:
            if not self._lock.acquire(timeout=self.fork_wait_seconds):
                return False
        finally:
            self._gate.release()
        self._close()
        return True

    def inherit(self) -> None:
        """In the child of a fork: leave the file to the parent."""
        if not self._lock.locked():
            self._over = INHERITED
            self._close()
            return
        self._over = TORN
        _torn.update(_identity(self.path))
        while self._open:  # their end, be it the interpreter's, would be a rollback under the parent
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._open.popitem()[1]))


_files: weakref.WeakSet[ForkedFile] = weakref.WeakSet()
_locks: weakref.WeakSet[threading.Lock] = weakref.WeakSet()
_torn: set[tuple[int, int]] = set()
_guard = threading.RLock()  # of these; a signal's handler that interrupts who has it may open a file too


def _identity(path: str | os.PathLike[str]) -> set[tuple[int, int]]:
    """Device and inode of a file, if it is there: one that is made anew is another."""
    try:
        found = Path(path).stat()
    except OSError:
        return set()
    return {(found.st_dev, found.st_ino)}


def torn(path: str | os.PathLike[str]) -> str | None:
    """Why this process may not open a file, if a fork has left it SQLite's record of a transaction there."""
    _leave_to_parent()
    return f"{path} {TORN}" if _torn and _identity(path) & _torn else None


def hold_at_fork(lock: threading.Lock) -> None:
    """Let no fork happen while a thread holds `lock`."""
    with _guard:
        _locks.add(lock)


class _Fork(threading.local):
    """What a thread that forks has taken."""

    def __init__(self) -> None:
        self.files: list[ForkedFile] = []
        self.locks: list[threading.Lock | threading.RLock] = []


_fork = _Fork()


def _before_fork() -> None:
    with _guard:
        files, locks = list(_files), list(_locks)
    # Whoever holds a file with a bounded wait runs users' code, which may want all else: that comes later.
    for file in sorted(files, key=lambda one: (one.fork_wait_seconds < 0, id(one))):
        if file.take_to_fork():
            _fork.files.append(file)
    wanted: list[threading.Lock | threading.RLock] = [*sorted(locks, key=id), _guard]
    for lock in wanted:
        lock.acquire()
        _fork.locks.append(lock)


def _after_fork() -> None:
    while _fork.locks:
        _fork.locks.pop().release()
    while _fork.files:
        _fork.files.pop().release()


def _after_fork_in_child() -> None:
    _after_fork()  # what is locked still was in use; all of it may be, if nobody saw the fork come
    _leave_to_parent()


def _leave_to_parent() -> None:
    """In the child of a fork: close what the parent was not using, and never touch what it was."""
    with _guard:
        for file in list(_files):
            if file.pid != os.getpid():
                _files.remove(file)
                file.inherit()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
