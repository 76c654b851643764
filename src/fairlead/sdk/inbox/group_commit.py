# SPDX-License-Identifier: Apache-2.0
"""Group commit: what several threads want written at one moment is one transaction, with one fsync.

There is no thread for it. Whoever comes first leads: it carries out what waits, its own among it, and hands
the lead on to the first who came meanwhile. Alone it costs what a transaction costs; under load the groups
grow by themselves to what comes while the disk works.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fairlead.drivers.sqlite.local import Connection
from fairlead.errors import InboxBusy, LockLost

T = TypeVar("T")
Work = Callable[[Connection], Any]


class Share:
    """One thread's share of a group.

    Attributes:
        work: its statements; may raise LockLost before it has written anything, and leaves the others be.
        durable: whether it must outlive a power loss once it is stored.
        leads: its thread carries out what waits.
        over: it was carried out, well or with `error`.
    """

    __slots__ = ("durable", "error", "leads", "over", "result", "turn", "work")

    def __init__(self, work: Work, durable: bool) -> None:
        self.work, self.durable = work, durable
        self.result: Any = None
        self.error: BaseException | None = None
        self.leads = self.over = False
        self.turn = threading.Lock()
        self.turn.acquire()

    def run(self, connection: Connection) -> None:
        """Run the work in the transaction that is open; a lost lock is this share's own affair."""
        self.error = None
        try:
            self.result = self.work(connection)
        except LockLost as error:
            self.error = error


class GroupCommit:
    """Brings shares together.

    Args:
        commit: runs the shares of one group in one transaction; whatever it raises is each one's error.
    """

    def __init__(self, commit: Callable[[Sequence[Share]], None]) -> None:
        self._commit = commit
        self._guard = threading.Lock()
        self._waiting: list[Share] = []
        self._led = False

    def run(self, work: Callable[[Connection], T], *, durable: bool) -> T:
        """Run `work` in a transaction shared with whoever else waits; return once it is stored.

        Raises whatever `work` raised, or kept the group from being stored; then nothing of it was. InboxBusy:
        the thread that carried it out was interrupted, and nobody knows.
        """
        share = Share(work, durable)
        with self._guard:
            self._waiting.append(share)
            follows = self._led
            share.leads, self._led = not follows, True
        if follows:  # also where the lead has come to it by now: its turn comes with it
            self._follow(share)
        if share.leads:
            self._lead()
        if share.error is not None:
            raise share.error
        result: T = share.result
        return result

    def _follow(self, share: Share) -> None:
        """Wait until the share is over, or leads."""
        try:
            share.turn.acquire()
        except BaseException:  # interrupted, or a greenlet was killed
            with self._guard:
                if share in self._waiting:
                    self._waiting.remove(share)
                must_pass_on = share.leads
            if must_pass_on:
                self._pass_on()
            raise

    def _lead(self) -> None:
        with self._guard:
            group, self._waiting = self._waiting, []
        try:
            self._carry_out(group)
        finally:  # also when this caller was interrupted: nobody may take for stored what was not
            for share in group:
                if not share.over:
                    share.error = InboxBusy("the thread that stored it for others was interrupted")
                share.turn.release()
            self._pass_on()

    def _pass_on(self) -> None:
        """Let the first who came meanwhile lead."""
        with self._guard:
            following = self._waiting[0] if self._waiting else None
            self._led = following is not None
            if following is not None:
                following.leads = True
        if following is not None:
            following.turn.release()

    def _carry_out(self, group: Sequence[Share]) -> None:
        try:
            self._commit(group)
        except Exception as error:
            if len(group) > 1 and not isinstance(error, InboxBusy):
                for share in group:  # one of them may be to blame for what befell all
                    self._carry_out([share])
                return
            for share in group:
                share.error = error
        for share in group:
            share.over = True
