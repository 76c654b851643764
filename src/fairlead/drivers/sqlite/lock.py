# SPDX-License-Identifier: Apache-2.0
"""The lock on a database file that one process owns."""

from __future__ import annotations

import fcntl
import os
import sys
import weakref
from contextlib import suppress
from pathlib import Path

from fairlead.errors import StoreError, StoreLocked


class SqliteLock:
    """Keeps every other process, and whoever else is in this one, out of a database.

    Two locks in one. That on a file beside the database is there before the database is; that on the database
    itself holds however somebody comes to it: by a hard link, by a mount, or past a lock file that was
    removed. Neither is one of SQLite's own, so other programs may read.

    Args:
        path: the database, without symbolic links.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = path.with_name(path.name + ".lock")
        self._made = False
        self._beside: int | None = None
        self._itself: int | None = None
        _locks.add(self)

    def take(self) -> None:
        """Take it, until `release` or the end of this process; before the first connection to the database.

        Children of a fork have no part in it.

        Raises:
            StoreLocked: another process has it. StoreError: the lock file cannot be written, or not locked.
        """
        descriptor = self._lock_beside()
        while not _is_at(self._name, descriptor):  # withdrawn between the two steps
            os.close(descriptor)
            descriptor = self._lock_beside()
        self._beside = descriptor
        with suppress(OSError):  # it only informs, and a full disk has no room for it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        try:
            self.follow()
        except StoreLocked:
            self.withdraw()
            raise

    def follow(self) -> None:
        """If it is taken, extend it to the file that is now at the path, if any; before any connection to it.

        Raises:
            StoreLocked: another process has that file.
        """
        # Elsewhere these locks and SQLite's are of one kind: SQLite would find its own file locked.
        if self._beside is None or sys.platform != "linux":
            return
        if self._itself is not None:
            os.close(self._itself)
            self._itself = None
        # To close a file ends SQLite's locks on it in this process: one that is in use here is not opened.
        if any(lock.has(self._path) for lock in list(_locks)):
            raise self._locked("this process")
        try:
            # Not for writing: NFS makes of such a lock one that keeps SQLite out, but refuses it for reading.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # there is none yet; or it cannot be read, which is said by whoever tries to
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise self._locked("another process") from error
        except OSError:  # not every file system can
            os.close(descriptor)
        else:
            self._itself = descriptor

    def has(self, path: Path) -> bool:
        """Whether it is taken on the file that has this name."""
        return self._itself is not None and _is_at(path, self._itself)

    def release(self) -> None:
        """Let others in; idempotent. No connection to the database may be open: it would lose its own locks.

        The lock file stays: without it two processes could lock two files.
        """
        held = (self._itself, self._beside)
        self._itself = self._beside = None  # first: a fork in between closes no number that is another file's
        for descriptor in held:
            if descriptor is not None:
                os.close(descriptor)

    def withdraw(self) -> None:
        """As `release`; and leave no lock file beside what is no store of ours, if it was made here."""
        if self._made:
            self._name.unlink(missing_ok=True)
            self._made = False
        self.release()

    def _lock_beside(self) -> int:
        descriptor = self._open()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise StoreLocked(
                f"{self._path} is open in another process{f' (pid {owner})' if owner else ''}; "
                "one store has one relay: stop that one, or give this one its own --store"
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise StoreError(
                f"{self._name} cannot be locked: {error.strerror}; "
                "the store needs a local disk, with a file system that has locks"
            ) from error
        return descriptor

    def _locked(self, where: str) -> StoreLocked:
        return StoreLocked(
            f"{self._path} is open in {where}, under another name or with its lock file removed; "
            "one store has one relay: stop that one, or give this one its own --store"
        )

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW  # root would write to whatever a link leads to
        try:
            with suppress(FileExistsError):
                descriptor = os.open(self._name, flags | os.O_CREAT | os.O_EXCL, 0o600)
                self._made = True
                self._share(descriptor)
                return descriptor
            return os.open(self._name, flags)
        except OSError as error:
            raise StoreError(
                f"{self._name} cannot be written: {error.strerror}; {_remedy(self._name)}"
            ) from error

    def _share(self, lock: int) -> None:
        """Give a new lock file to those who may use the database: root's would keep its service out."""
        with suppress(OSError):  # a new store has no database yet, and not every root may do this
            database = self._path.stat()
            os.fchmod(lock, database.st_mode & 0o666)
            if os.geteuid() == 0:
                os.fchown(lock, database.st_uid, database.st_gid)


def _is_at(name: Path, descriptor: int) -> bool:
    """Whether an open file still has that name."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), name.stat())
    return False


def _remedy(lock: Path) -> str:
    """What to do about a lock file that cannot be opened."""
    if lock.is_symlink():
        return "it is a symbolic link, which nothing of ours is: remove it"
    if lock.is_file() and not os.access(lock, os.W_OK, effective_ids=True):
        owner, user = lock.stat().st_uid, os.geteuid()
        if owner != user:
            return f"it belongs to user {owner}: give it to user {user}"
    return "the store needs a directory that exists and is writable, and a file there"


_locks: weakref.WeakSet[SqliteLock] = weakref.WeakSet()


def _forget_locks() -> None:
    """A child must not keep the locks of a parent that has died; to close its copies takes none away."""
    for lock in list(_locks):
        lock.release()


os.register_at_fork(after_in_child=_forget_locks)
