# SPDX-License-Identifier: Apache-2.0
"""The file's write transaction while handlers write in it, one after the other, each in its own savepoint."""

from __future__ import annotations

import threading
from collections.abc import Callable

from fairlead.drivers.sqlite.local import Connection, SqliteError
from fairlead.errors import InboxError
from fairlead.sdk.inbox.process import InboxProcess


class FileHold:
    """Opened by the first handler that writes, stored by `commit`; kept by what began together.

    Between `enter` and `keep` or `drop` one handler has it; `commit` waits for that.

    Attributes:
        number: of the transaction, counted up each time that one is opened.
        stored: the numbers of those that were committed.
    """

    def __init__(self, process: InboxProcess) -> None:
        self._process = process
        self._turn = threading.Lock()
        self._open = False
        self._kept = 0
        self._broken = False
        self._guard = threading.Lock()
        self._after: list[Callable[[], None]] = []
        self.number = 0
        self.stored: set[int] = set()

    def enter(self) -> Connection:
        """Let a handler write; the file is not free for others until `commit`. Raises InboxBusy."""
        self._turn.acquire()
        try:
            if not self._open:
                self._process.enter()
                self._open = True
                self.number += 1
            connection = self._process.connection  # a fork meanwhile has closed the one before
            connection.execute("SAVEPOINT fairlead_delivery")
        except BaseException:
            self._close_if_empty()
            self._turn.release()
            raise
        return connection

    def check(self) -> None:
        """The handler has left the transaction open, or RuntimeError."""
        if not self._process.connection.in_transaction:
            raise self._ended()

    def keep(self) -> None:
        """What the handler wrote is to be stored by `commit`. Raises as `check`."""
        try:
            self._process.connection.execute("RELEASE fairlead_delivery")
        except SqliteError:
            raise self._ended() from None
        self._kept += 1
        self._turn.release()

    def _ended(self) -> RuntimeError:
        self._broken = True  # what is stored of the others nobody knows: they are read again
        return RuntimeError("the handler ended the delivery's transaction; only the receiver may")

    def drop(self) -> None:
        """Nothing that the handler wrote is to be stored."""
        connection = self._process.connection
        try:
            if connection.in_transaction and not self._broken:
                connection.execute("ROLLBACK TO fairlead_delivery")
                connection.execute("RELEASE fairlead_delivery")
            else:
                self._broken = True
        except SqliteError:
            self._broken = True
        finally:
            self._close_if_empty()
            self._turn.release()

    def commit(self, work: Callable[[Connection], None]) -> bool:
        """Run `work` and store all that was kept; False, and nothing done, if no handler has written.

        Raises:
            InboxError: a handler has ended the transaction; nobody knows what is stored. Or as
                `InboxProcess.check_in_place`.
            sqlite3.Error: nothing is stored.
        """
        with self._turn:
            if not self._open:
                return False
            try:
                if self._broken or not self._process.connection.in_transaction:
                    raise InboxError("a handler ended the transaction of the deliveries before it")
                work(self._process.connection)
                self._process.connection.execute("COMMIT")
                self._process.check_in_place()
                self.stored.add(self.number)
            finally:
                self._close()
        return True

    def abort(self, number: int) -> None:
        """Store nothing of the transaction with that number, if it is still open."""
        with self._turn:
            if self._open and self.number == number:
                self._close()

    def when_free(self, then: Callable[[], None]) -> None:
        """Call it when this hold does not keep the file from others: now, or once it is closed."""
        with self._guard:
            if self._open:
                self._after.append(then)
                return
        then()

    def _close_if_empty(self) -> None:
        if self._open and not self._kept:
            self._close()

    def _close(self) -> None:
        self._kept, self._broken = 0, False
        try:
            self._process.leave()
        finally:
            with self._guard:
                self._open = False
                after, self._after = self._after, []
            for then in after:
                then()
