# SPDX-License-Identifier: Apache-2.0
"""Group commit: who leads, who follows, and whose error is whose."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from fairlead.errors import InboxBusy, LockLost
from fairlead.sdk.inbox import group_commit
from fairlead.sdk.inbox.group_commit import GroupCommit, Share

DEADLINE_SECONDS = 30.0


class Disk:
    """Carries groups out; the first only when it is told to, so that others can queue up behind it."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.groups: list[int] = []
        self.began, self.go = threading.Event(), threading.Event()
        self.error = error
        self.connection = sqlite3.connect(":memory:", check_same_thread=False)

    def commit(self, shares: Sequence[Share]) -> None:
        self.groups.append(len(shares))
        if len(self.groups) == 1:
            self.began.set()
            assert self.go.wait(DEADLINE_SECONDS)
        elif self.error is not None:
            raise self.error
        for share in shares:
            share.run(self.connection)


def at_once(disk: Disk, works: Sequence[Callable[[Any], Any]]) -> list[object]:
    """Run `works` in threads, all but the first queued up while the first is under way; results or errors."""
    group = GroupCommit(disk.commit)
    outcomes: list[object] = [None] * len(works)

    def run(at: int) -> None:
        try:
            outcomes[at] = group.run(works[at], durable=True)
        except BaseException as error:
            outcomes[at] = error

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(works))]
    threads[0].start()
    assert disk.began.wait(DEADLINE_SECONDS)
    for thread in threads[1:]:
        thread.start()
    while len(group._waiting) < len(works) - 1:
        threading.Event().wait(0.001)
    disk.go.set()
    for thread in threads:
        thread.join(DEADLINE_SECONDS)
    disk.connection.close()
    return outcomes


def give(n: int, _: object) -> int:
    return n


def lose(_: object) -> None:
    raise LockLost("ran out")


def fail(_: object) -> None:
    raise sqlite3.OperationalError("disk I/O error")


def test_what_waits_while_a_group_is_stored_is_the_next_group() -> None:
    disk = Disk()
    assert at_once(disk, [partial(give, n) for n in range(9)]) == list(range(9))
    assert disk.groups == [1, 8]


def test_a_lost_lock_is_the_affair_of_one() -> None:
    outcomes = at_once(Disk(), [lambda _: 0, lambda _: 1, lose, lambda _: 3])
    assert [outcomes[0], outcomes[1], outcomes[3]] == [0, 1, 3]
    assert isinstance(outcomes[2], LockLost)


def test_one_that_cannot_be_stored_does_not_take_the_others_along() -> None:
    disk = Disk()
    outcomes = at_once(disk, [lambda _: 0, lambda _: 1, fail, lambda _: 3])
    assert [outcomes[0], outcomes[1], outcomes[3]] == [0, 1, 3]
    assert isinstance(outcomes[2], sqlite3.OperationalError)
    assert disk.groups == [1, 3, 1, 1, 1]


def test_a_file_that_is_busy_is_not_tried_by_each_in_turn() -> None:
    disk = Disk(InboxBusy("another process writes"))
    outcomes = at_once(disk, [lambda _: 0, lambda _: 1, lambda _: 2])
    assert outcomes[0] == 0
    assert [type(outcome) for outcome in outcomes[1:]] == [InboxBusy, InboxBusy]
    assert disk.groups == [1, 2]


class SlowToLeave:
    """A lock whose holder, once it has let go, may be slow to go on: the scheduler's way, on demand."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.slow: threading.Thread | None = None
        self.left, self.go_on = threading.Event(), threading.Event()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if threading.current_thread() is self.slow:
            self.slow = None
            self.left.set()
            assert self.go_on.wait(DEADLINE_SECONDS)


def test_the_lead_may_come_before_its_next_holder_has_begun_to_wait_for_it() -> None:
    disk = Disk()
    group = GroupCommit(disk.commit)
    guard = SlowToLeave()
    group._guard = guard  # type: ignore[assignment]
    outcomes: list[object] = []

    def run(n: int) -> None:
        outcomes.append(group.run(partial(give, n), durable=True))

    leader, follower = (threading.Thread(target=run, args=(n,)) for n in (1, 2))
    leader.start()
    assert disk.began.wait(DEADLINE_SECONDS)
    guard.slow = follower
    follower.start()
    assert guard.left.wait(DEADLINE_SECONDS)
    disk.go.set()
    leader.join(DEADLINE_SECONDS)  # it has passed the lead on
    guard.go_on.set()
    follower.join(DEADLINE_SECONDS)
    assert outcomes == [1, 2]
    assert group.run(partial(give, 3), durable=True) == 3, "and somebody leads again"
    disk.connection.close()


def test_after_an_error_the_next_leads_again() -> None:
    disk = Disk()
    disk.go.set()
    group = GroupCommit(disk.commit)
    with pytest.raises(sqlite3.OperationalError):
        group.run(fail, durable=True)
    assert group.run(lambda _: 7, durable=True) == 7
    disk.connection.close()


def test_whose_leader_is_interrupted_is_not_taken_for_stored() -> None:
    outcomes = at_once(Disk(KeyboardInterrupt()), [lambda _: 0, lambda _: 1, lambda _: 2])
    assert outcomes[0] == 0
    assert sorted(type(outcome).__name__ for outcome in outcomes[1:]) == ["InboxBusy", "KeyboardInterrupt"]


class Interrupting:
    """A turn whose waiting ends by an interruption."""

    def __init__(self, turn: threading.Lock) -> None:
        self.turn = turn
        self.release = turn.release

    def acquire(self) -> bool:
        self.turn.acquire()
        raise KeyboardInterrupt


def test_who_is_interrupted_when_it_was_to_lead_lets_another_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Share] = []

    class Second(Share):
        """The second share's thread is interrupted."""

        def __init__(self, work: Callable[[Any], Any], durable: bool) -> None:
            super().__init__(work, durable)
            made.append(self)
            if len(made) == 2:
                self.turn = Interrupting(self.turn)  # type: ignore[assignment]

    monkeypatch.setattr(group_commit, "Share", Second)
    works = [lambda _: 0, lambda _: 1, lambda _: 2]
    outcomes = at_once(Disk(), works)
    assert outcomes[0] == 0
    kinds = [type(outcome) for outcome in outcomes[1:]]
    assert kinds.count(KeyboardInterrupt) == 1
    assert {outcome for outcome in outcomes[1:] if isinstance(outcome, int)} <= {1, 2}
    assert kinds.count(int) == 1
