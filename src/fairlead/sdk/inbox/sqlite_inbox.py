# SPDX-License-Identifier: Apache-2.0
"""The default inbox: one SQLite file, shared by every process of the receiver.

A handler whose effect is elsewhere holds no write transaction: a lock per key spans it, in the process and,
as a lock row with owner and expiry, between processes; two short transactions stand before and after it. A
handler that writes here (`SqliteTransaction.execute`) takes part in the delivery's transaction: its rows and
ours are stored together or not at all, and while it runs the file's other writers wait.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from fairlead.core.channel import ChannelId
from fairlead.drivers.sqlite.fork import hold_at_fork, torn
from fairlead.drivers.sqlite.local import SqliteError
from fairlead.drivers.this_process import Process, this_process
from fairlead.errors import InboxError
from fairlead.sdk.inbox.hold import FileHold
from fairlead.sdk.inbox.port import Transaction
from fairlead.sdk.inbox.process import InboxProcess
from fairlead.sdk.inbox.sqlite_transaction import SqliteTransaction, store
from fairlead.sdk.inbox.tables import Place

__all__ = ["SqliteInbox", "SqliteTransaction"]


class SqliteInbox:
    """An inbox in an SQLite file, made at its first use; it may be your own database: ours begin `fairlead_`.

    Args:
        path: the file; a local disk, never a network file system.
        lock_wait_seconds: how long a delivery waits for another of its key, or for the file's other writers.
        lease_seconds: how long the key of a process that died stays locked; renewed while a handler runs.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, lock_wait_seconds: float = 10.0, lease_seconds: float = 20.0
    ) -> None:
        self.path = str(Path(path).absolute())  # the process may change its directory before the first use
        self._lock_wait = lock_wait_seconds
        self._lease = lease_seconds
        self._processes: dict[Process, InboxProcess] = {}
        self._opening = threading.Lock()
        hold_at_fork(self._opening)

    def begin(self, channel: ChannelId, key: str | None) -> SqliteTransaction:
        """See `Inbox.begin`."""
        process = self._process()
        place = Place(channel, key, process.new_owner())
        try:
            memory = process.read(channel, None) if key is None else process.take(place)
        except SqliteError as error:
            raise InboxError(f"{self.path}: {error}") from error
        return SqliteTransaction(process, FileHold(process), place, memory)

    def begin_all(self, wanted: Sequence[tuple[ChannelId, str | None]]) -> list[Transaction | InboxError]:
        """See `Together.begin_all`."""
        process = self._process()
        places = [Place(channel, key, process.new_owner()) for channel, key in wanted]
        try:
            memories = process.take_all(places)
        except SqliteError as error:
            return [InboxError(f"{self.path}: {error}") for _ in places]
        except InboxError as error:
            return [error] * len(places)
        hold = FileHold(process)
        return [
            memory if isinstance(memory, InboxError) else SqliteTransaction(process, hold, place, memory)
            for place, memory in zip(places, memories, strict=True)
        ]

    def handled(self, transaction: Transaction) -> None:
        """See `Together.handled`."""
        if isinstance(transaction, SqliteTransaction):
            transaction.keep()

    def waited_seconds(self, transaction: Transaction) -> float:
        """See `Together.waited_seconds`."""
        return transaction.waited_seconds if isinstance(transaction, SqliteTransaction) else 0.0

    def commit_all(self, transactions: Sequence[Transaction]) -> list[InboxError | None]:
        """See `Together.commit_all`."""
        ours = [transaction for transaction in transactions if isinstance(transaction, SqliteTransaction)]
        errors: dict[int, InboxError] = {}
        for hold in dict.fromkeys(one.hold for one in ours):
            group = [one for one in ours if one.hold is hold]
            errors |= store(self._process(), hold, group)
        return [errors.get(id(one)) for one in ours]

    def open(self) -> None:
        """Open the file now, not with the first delivery; idempotent.

        Raises:
            StoreError: it cannot be opened; its subclass and its text say why.
            InboxError: this process was forked during a transaction.
        """
        self._process()

    def close(self) -> None:
        """See `Inbox.close`. The next `begin` opens the file again."""
        process = self._processes.pop(this_process(), None)
        if process is not None:
            process.close()

    def _process(self) -> InboxProcess:
        """What this process has open; a child of a fork opens its own."""
        here = this_process()
        process = self._processes.get(here)
        if process is None:
            with self._opening:
                process = self._processes.get(here)
                if process is None:
                    if (refused := torn(self.path)) is not None:
                        raise InboxError(refused)
                    process = self._processes[here] = InboxProcess(self.path, self._lock_wait, self._lease)
        return process

    def __enter__(self) -> SqliteInbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
