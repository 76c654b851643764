# SPDX-License-Identifier: Apache-2.0
"""Moving the WAL into the database, beside the writer, so that no commit waits for it.

A passive checkpoint on a connection of its own copies while the writer goes on; it can only end the WAL when
the writer pauses. Under steady load the writer lends a moment of its own once the WAL has become long: little
is left to copy then.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition, Thread

from fairlead.drivers.sqlite.file import Connection, Error, trouble_of

_CHECKPOINT_BYTES = 4 * 1024 * 1024
_LONG_PAGES = 16 * 1024  # 64 MiB
_PASSIVE = "PRAGMA wal_checkpoint(PASSIVE)"


class Checkpointer:
    """One thread that checkpoints after every few MiB of commits.

    Args:
        connection: its own; `writer` is the one that writes.
        failed: called with an error that says that the disk cannot be relied on.
    """

    def __init__(
        self, connection: Connection, writer: Connection, failed: Callable[[BaseException], None]
    ) -> None:
        self._connection = connection
        self._writer = writer
        self._failed = failed
        self._changed = Condition()
        self._unsaved_bytes = 0
        self._due = self._long = self._stopped = False
        self._thread = Thread(target=self._run, name="fairlead-store-checkpoint", daemon=True)
        self._thread.start()

    def committed(self, size_bytes: int) -> None:
        """Count a commit; on the writer's thread, between two transactions."""
        self._unsaved_bytes += size_bytes
        if self._due:  # the thread is at it, and two at once would only be in each other's way
            return
        if self._long:
            self._long = False
            self._unsaved_bytes = 0
            self._checkpoint(self._writer)
        elif self._unsaved_bytes >= _CHECKPOINT_BYTES:
            self._unsaved_bytes = 0
            with self._changed:
                self._due = True
                self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due or self._stopped)
                if self._stopped:
                    return
            self._long = self._checkpoint(self._connection)
            self._due = False

    def _checkpoint(self, connection: Connection) -> bool:
        """Copy what can be copied; whether the WAL is long (it ends when the writer finds all copied)."""
        try:
            _, pages, _ = connection.execute(_PASSIVE).fetchone()
        except Error as error:
            # A full disk is no damage: the WAL goes on. A failed fsync of the database is.
            if trouble_of(error, connection) == "broken":
                self._failed(error)
            return False
        return bool(pages > _LONG_PAGES)
