# SPDX-License-Identifier: Apache-2.0
"""What one process has open of an SQLite inbox: its connections, its locks, the renewal of its lock rows."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import TypeVar

from fairlead.core.chain import Memory
from fairlead.core.channel import ChannelId
from fairlead.drivers.sqlite.fork import ForkedFile, Synchronous
from fairlead.drivers.sqlite.in_place import InPlace
from fairlead.drivers.sqlite.local import Connection, SqliteError, is_busy, open_local, transaction
from fairlead.errors import InboxBusy, InboxError, StoreError
from fairlead.sdk.inbox import tables
from fairlead.sdk.inbox.group_commit import GroupCommit, Share
from fairlead.sdk.inbox.locks import NamedLocks
from fairlead.sdk.inbox.tables import Place

log = logging.getLogger("fairlead.inbox")

T = TypeVar("T")


class InboxProcess:
    """The open inbox file. Lock rows need not outlive the machine, so they are written without an fsync.

    The lock order is: the key's, then its lock row, then the file's write lock; nobody waits for a key while
    holding the file.
    """

    def __init__(self, path: str, lock_wait_seconds: float, lease_seconds: float) -> None:
        self.path = path
        self._wait, self._lease = lock_wait_seconds, lease_seconds
        self._writer = ForkedFile(path, threading.Lock(), self._open, fork_wait_seconds=lock_wait_seconds)
        with self._writer.held():
            self._writer.connection("FULL")
            self._writer.connection("NORMAL")
        self._group = GroupCommit(self._commit)
        self._keys = NamedLocks()
        self._name, self._numbers = f"{os.getpid()}-{secrets.token_hex(8)}", count(1)
        self._owners: dict[str, float] = {}
        self._changed = threading.Condition()
        # Async handlers wait for the file and write here, as many as there are: whoever holds the file must
        # always find a thread, or nobody would ever let go of it.
        self.writers = ThreadPoolExecutor(max_workers=1024, thread_name_prefix="fairlead-inbox-writer")
        self._renewer: threading.Thread | None = None
        self._closed = False

    @property
    def connection(self) -> Connection:
        """For who has entered. Raises InboxError in the child of a fork, and if it cannot be opened again."""
        return self._connection("FULL")

    def _connection(self, synchronous: Synchronous) -> Connection:
        try:
            return self._writer.connection(synchronous)
        except StoreError as error:
            raise InboxError(str(error)) from error

    def _check(self) -> None:
        try:
            self._writer.check()
        except StoreError as error:
            raise InboxError(str(error)) from error

    def _open(self, synchronous: Synchronous) -> Connection:
        connection = open_local(
            self.path,
            tables.SCHEMA,
            name=tables.TABLE,
            version=tables.VERSION,
            synchronous=synchronous,
            busy_timeout_seconds=self._wait,
        )
        self._in_place = InPlace(self.path)
        return connection

    def check_in_place(self) -> None:
        """After a commit: raise InboxError if the file, and with it what was stored, will not last."""
        try:
            self._in_place.check()
        except OSError as error:
            raise InboxError(
                f"{self.path}: {error.strerror}; see that the file is there, and start this process anew"
            ) from error

    # -- the file's write lock -------------------------------------------------------------------------

    def enter(self) -> None:
        """Begin an immediate transaction on `connection`; `leave` ends it. Raises InboxBusy."""
        self._lock_writer()
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        except BaseException as error:
            self._writer.release()
            if is_busy(error):
                raise self._busy() from None
            raise

    def leave(self) -> None:
        """Roll back what was not committed, and let others write."""
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        finally:
            self._writer.release()

    def write(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Run `work` in a short transaction, which may be shared with other threads; see `GroupCommit.run`.

        Args:
            durable: whether it must survive a power loss.

        Raises:
            LockLost: of `work`, before it wrote anything.
            InboxBusy: the file was not free in time.
            InboxError: as `connection` and `check_in_place`.
            sqlite3.Error: nothing was stored.
        """
        self._check()  # nobody leads in the child of a fork
        return self._group.run(work, durable=durable)

    def _commit(self, shares: Sequence[Share]) -> None:
        self._lock_writer()
        try:
            durable = any(share.durable for share in shares)
            with transaction(self._connection("FULL" if durable else "NORMAL")) as connection:
                for share in shares:
                    share.run(connection)
            self.check_in_place()
        except SqliteError as error:
            if is_busy(error):
                raise self._busy() from None
            raise
        finally:
            self._writer.release()

    def _busy(self) -> InboxBusy:
        return InboxBusy(f"{self.path}: another process writes for longer than {self._wait:g} s")

    def _lock_writer(self) -> None:
        if not self._writer.acquire(self._wait):
            raise InboxBusy(f"{self.path}: another handler writes for longer than {self._wait:g} s")

    def new_owner(self) -> str:
        """A name that no other delivery has, of this process or another."""
        return f"{self._name}-{next(self._numbers)}"

    # -- the lock of a key -----------------------------------------------------------------------------

    def read(self, channel: ChannelId, key: str | None) -> Memory:
        """What the file holds, under no lock. Raises InboxBusy."""
        return self.write(partial(tables.read, channel=channel, key=key), durable=False)

    def take(self, place: Place) -> Memory:
        """Take the lock of a key, here and between processes, then read. Raises InboxBusy, or as `_keep`."""
        deadline = time.monotonic() + self._wait
        if not self._keys.acquire(place[:2], self._wait):
            raise InboxBusy(f"{place.key!r} is still being handled, for longer than {self._wait:g} s")
        try:
            memory = self._claim(place, deadline)
        except BaseException:
            self._keys.release(place[:2])
            raise
        self._keep([place])
        return memory

    def _claim(self, place: Place, deadline: float) -> Memory:
        pause = 0.005
        while True:
            (memory,) = self.write(partial(self._try, places=[place]), durable=False)
            if memory is not None:
                return memory
            if time.monotonic() > deadline:
                raise InboxBusy(
                    f"{place.key!r} is being handled by another process, for longer than {self._wait:g} s"
                )
            time.sleep(pause)
            pause = min(0.1, pause * 2)

    def take_all(self, places: Sequence[Place]) -> list[Memory | InboxBusy]:
        """As `take` for each, without waiting for a key that is locked. Raises as `write` and `_keep`."""
        free = [place for place in places if place.key is None or self._keys.acquire(place[:2], 0)]
        try:
            read = self.write(partial(self._try, places=free), durable=False)
        except BaseException:
            self._give_back(free)
            raise
        memories = {place: memory for place, memory in zip(free, read, strict=True) if memory is not None}
        self._give_back(place for place in free if place not in memories)
        self._keep([place for place in memories if place.key is not None])
        return [memories.get(place) or InboxBusy(f"{place.key!r} is being handled") for place in places]

    def _try(self, connection: Connection, places: Sequence[Place]) -> list[Memory | None]:
        now, read = time.time(), tables.read
        return [
            read(connection, channel, key)
            if key is None
            or tables.claim(connection, channel, key, owner, now=now, lease_seconds=self._lease)
            else None
            for channel, key, owner in places
        ]

    def _give_back(self, places: Iterable[Place]) -> None:
        for place in places:
            if place.key is not None:
                self._keys.release(place[:2])

    def let_go(self, place: Place, *, released: bool) -> None:
        """Free a key; its lock row was deleted with the commit if `released`."""
        if place.key is None:
            return
        with self._changed:
            self._owners.pop(place.owner, None)
        try:
            if not released:
                self.write(partial(tables.let_go, place=place), durable=False)
        except (SqliteError, InboxError) as error:
            # The row runs out by itself; until then the relay is told to come back.
            log.warning("A lock row of the inbox could not be freed", extra={"error": str(error)})
        finally:
            self._keys.release(place[:2])

    # -- renewal ---------------------------------------------------------------------------------------

    def _keep(self, places: Sequence[Place]) -> None:
        """Have lock rows renewed. Raises InboxError: no thread can be started for it; the keys are free."""
        if not places:
            return
        try:
            with self._changed:
                idle = not self._owners
                self._owners.update((place.owner, time.monotonic()) for place in places)
                if self._renewer is None:
                    renewer = threading.Thread(target=self._renew, name="fairlead-inbox", daemon=True)
                    renewer.start()
                    self._renewer = renewer
                elif idle:
                    self._changed.notify()
        except RuntimeError as error:
            for place in places:
                self.let_go(place, released=False)
            raise InboxError(f"{self.path}: no thread can be started that renews locks: {error}") from error

    def _renew(self) -> None:
        """Prolong the lock rows of handlers that run for longer than a third of the lease."""
        while True:
            with self._changed:
                while not self._closed and not self._owners:
                    self._changed.wait()
                self._changed.wait_for(lambda: self._closed, timeout=self._lease / 3)
                if self._closed:
                    return
                due = time.monotonic() - self._lease / 4
                slow = [owner for owner, since in self._owners.items() if since < due]
            if slow:
                self._prolong(slow)

    def _prolong(self, owners: list[str]) -> None:
        try:
            self.write(partial(tables.renew, owners=owners, until=time.time() + self._lease), durable=False)
        except (SqliteError, InboxError) as error:
            # Who cannot write now tries again; a row that runs out is noticed at the commit.
            log.warning("The lock rows of the inbox could not be renewed", extra={"error": str(error)})

    # -- the end ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop renewing and close the file."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._renewer is not None:
            self._renewer.join()
        self.writers.shutdown()
        self._writer.close()
