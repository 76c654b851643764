# SPDX-License-Identifier: Apache-2.0
"""The SQLite inbox: the shipped suite, and what is its own."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from fairlead.core.chain import Memory
from fairlead.core.channel import ChannelId
from fairlead.errors import InboxBusy, InboxError, LockLost, StoreForeign, StoreNewer
from fairlead.sdk.inbox.port import Inbox
from fairlead.sdk.inbox.sqlite_inbox import SqliteInbox, SqliteTransaction
from fairlead.testing.inbox_contract import CHANNEL, InboxContract, begin_patiently, read, store


class TestSqliteInbox(InboxContract):
    def open(self, place: Path) -> Inbox:
        return SqliteInbox(place / "inbox.db", lock_wait_seconds=0.5)


def inbox_at(place: Path, lock_wait_seconds: float = 0.5, lease_seconds: float = 20.0) -> SqliteInbox:
    return SqliteInbox(place / "inbox.db", lock_wait_seconds=lock_wait_seconds, lease_seconds=lease_seconds)


def rows_of(transaction: SqliteTransaction) -> list[int]:
    return [row[0] for row in transaction.execute("SELECT n FROM mine ORDER BY n")]


def begin_writing(inbox: SqliteInbox, key: str, n: int) -> SqliteTransaction:
    transaction = inbox.begin(CHANNEL, key)
    transaction.record(Memory(1, 1, applied=n))
    transaction.execute("CREATE TABLE IF NOT EXISTS mine (n INTEGER)")
    transaction.execute("INSERT INTO mine VALUES (?)", (n,))
    return transaction


def test_an_inbox_stays_where_it_was_named_when_the_process_changes_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (elsewhere := tmp_path / "elsewhere").mkdir()
    with SqliteInbox("inbox.db") as inbox:
        monkeypatch.chdir(elsewhere)  # as every daemon does, before the first delivery
        store(inbox, "k", Memory(1, 1, applied=4))
    assert list(elsewhere.iterdir()) == []
    assert (tmp_path / "inbox.db").exists()


def test_what_a_handler_writes_is_stored_with_the_inbox(tmp_path: Path) -> None:
    with inbox_at(tmp_path) as inbox:
        begin_writing(inbox, "k", 4).commit()
        reader = inbox.begin(CHANNEL, "k")
        assert (reader.applied, rows_of(reader)) == (4, [4])
        reader.rollback()


def test_what_a_handler_writes_is_dropped_with_the_inbox(tmp_path: Path) -> None:
    with inbox_at(tmp_path) as inbox:
        begin_writing(inbox, "k", 4).commit()
        begin_writing(inbox, "k", 5).rollback()
        reader = inbox.begin(CHANNEL, "k")
        assert (reader.applied, rows_of(reader)) == (4, [4])
        reader.rollback()


@pytest.mark.parametrize("fails", [False, True])
def test_a_cursor_that_a_handler_keeps_half_read_does_not_keep_the_file(tmp_path: Path, fails: bool) -> None:
    with inbox_at(tmp_path) as inbox:
        begin_writing(inbox, "k", 4).commit()
        begin_writing(inbox, "k", 5).commit()
        reader = begin_writing(inbox, "k", 6)
        half_read = reader.execute("SELECT n FROM mine ORDER BY n")
        assert half_read.fetchone() == (4,)
        reader.rollback() if fails else reader.commit()
        begin_writing(inbox, "k", 7).commit()
        with pytest.raises(sqlite3.ProgrammingError, match="closed cursor"):
            half_read.fetchone()


def test_what_a_handler_wrote_is_stored_though_it_has_not_read_what_that_returns(tmp_path: Path) -> None:
    with inbox_at(tmp_path) as inbox:
        begin_writing(inbox, "k", 4).commit()
        writer = begin_writing(inbox, "k", 5)
        half_read = writer.execute("INSERT INTO mine VALUES (6), (7) RETURNING n")
        assert half_read.fetchone() == (6,)
        writer.commit()
        reader = inbox.begin(CHANNEL, "k")
        assert rows_of(reader) == [4, 5, 6, 7]
        reader.rollback()


def test_executemany_takes_part_too(tmp_path: Path) -> None:
    with inbox_at(tmp_path) as inbox:
        transaction = begin_writing(inbox, "k", 1)
        transaction.executemany("INSERT INTO mine VALUES (?)", [(2,), (3,)])
        transaction.commit()
        reader = inbox.begin(CHANNEL, "k")
        assert rows_of(reader) == [1, 2, 3]
        reader.rollback()


def test_a_second_writer_waits_for_the_first_and_gives_up_in_time(tmp_path: Path) -> None:
    with inbox_at(tmp_path) as inbox:
        first = inbox.begin(CHANNEL, "k")
        second = inbox.begin(CHANNEL, "l")
        first.execute("CREATE TABLE mine (n INTEGER)")
        with pytest.raises(InboxBusy):
            second.execute("SELECT 1")
        first.commit()
        second.execute("INSERT INTO mine VALUES (2)")
        second.commit()


def test_a_handler_that_writes_is_refused_once_a_newer_generation_began(tmp_path: Path) -> None:
    with inbox_at(tmp_path) as inbox:
        transaction = inbox.begin(CHANNEL, "k")
        transaction.record(Memory(1, 1, applied=4))
        store(inbox, None, Memory(2, 1))
        with pytest.raises(LockLost):
            transaction.execute("SELECT 1")
        transaction.rollback()


def test_a_handler_may_not_end_the_transaction(tmp_path: Path) -> None:
    with inbox_at(tmp_path) as inbox:
        transaction = begin_writing(inbox, "k", 4)
        transaction.execute("ROLLBACK")
        with pytest.raises(RuntimeError, match="only the receiver may"):
            transaction.commit()
        assert read(inbox, "k") == Memory()


def test_a_transaction_that_has_ended_takes_no_more_statements(tmp_path: Path) -> None:
    with inbox_at(tmp_path) as inbox:
        transaction = store(inbox, "k", Memory(1, 1, applied=4))
        assert isinstance(transaction, SqliteTransaction)
        with pytest.raises(RuntimeError, match="has ended"):
            transaction.execute("SELECT 1")


def test_an_async_handler_writes_in_a_thread(tmp_path: Path) -> None:
    def work(transaction: SqliteTransaction, n: int) -> list[int]:
        transaction.execute("INSERT INTO mine VALUES (?)", (n,))
        return rows_of(transaction)

    async def handler(transaction: SqliteTransaction) -> list[int]:
        with pytest.raises(RuntimeError, match="await transaction"):
            transaction.execute("SELECT 1")
        await transaction.run(work, 2)
        return await transaction.run(work, n=3)

    with inbox_at(tmp_path) as inbox:
        begin_writing(inbox, "k", 1).commit()
        transaction = inbox.begin(CHANNEL, "k")
        assert asyncio.run(handler(transaction)) == [1, 2, 3]
        transaction.commit()


def test_async_handlers_that_write_take_turns_without_blocking_their_loop(tmp_path: Path) -> None:
    def write(transaction: SqliteTransaction) -> None:
        transaction.execute("INSERT INTO mine VALUES (7)")

    async def main(first: SqliteTransaction, second: SqliteTransaction) -> None:
        await first.run(write)
        waiting = asyncio.create_task(second.run(write))
        await asyncio.to_thread(first.commit)  # the loop is free to do this while `second` waits
        await waiting

    with inbox_at(tmp_path, lock_wait_seconds=20.0) as inbox:
        begin_writing(inbox, "k", 1).commit()
        first, second = inbox.begin(CHANNEL, "k"), inbox.begin(CHANNEL, "l")
        asyncio.run(main(first, second))
        assert rows_of(second) == [1, 7, 7]
        second.commit()


def test_the_lock_of_a_process_that_died_runs_out(tmp_path: Path) -> None:
    code = """
import os, sys
from fairlead.core.channel import ChannelId
from fairlead.sdk.inbox.sqlite_inbox import SqliteInbox
SqliteInbox(sys.argv[1], lease_seconds=0.2).begin(ChannelId("console", 5), "k")
os._exit(9)
"""
    path = tmp_path / "inbox.db"
    died = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert died.returncode == 9
    with SqliteInbox(path, lock_wait_seconds=30.0) as inbox:
        inbox.begin(CHANNEL, "k").rollback()


def test_a_lock_that_was_taken_over_commits_nothing(tmp_path: Path) -> None:
    with inbox_at(tmp_path) as inbox, inbox_at(tmp_path) as other:
        slow = inbox.begin(CHANNEL, "k")
        with sqlite3.connect(tmp_path / "inbox.db") as file:
            file.execute("UPDATE fairlead_claim SET expires_at = 0")
        file.close()
        store(other, "k", Memory(1, 1, applied=5))
        slow.record(Memory(1, 1, applied=4))
        with pytest.raises(LockLost):
            slow.commit()
        slow.rollback()
        assert read(inbox, "k").applied == 5


def test_the_lock_of_a_slow_handler_is_renewed(tmp_path: Path) -> None:
    def expiry() -> float:
        with sqlite3.connect(tmp_path / "inbox.db") as file:
            (found,) = file.execute("SELECT expires_at FROM fairlead_claim").fetchone()
        file.close()
        return float(found)

    with inbox_at(tmp_path, lease_seconds=0.6) as inbox:
        slow = inbox.begin(CHANNEL, "k")
        first = expiry()
        renewed = threading.Event()
        while not renewed.wait(0.02):
            if expiry() > first:
                renewed.set()
        slow.record(Memory(1, 1, applied=4))
        slow.commit()


# -- handlers that write, several in one transaction --------------------------------------------------------


def begin_together(inbox: SqliteInbox, *keys: str) -> list[SqliteTransaction]:
    """Begun together, with a table of the handlers' own."""
    begin_writing(inbox, "table", 0).commit()
    begun = inbox.begin_all([(CHANNEL, key) for key in keys])
    transactions = [one for one in begun if isinstance(one, SqliteTransaction)]
    for n, one in enumerate(transactions, 1):
        one.record(Memory(1, 1, applied=n))
    return transactions


def write(inbox: SqliteInbox, transaction: SqliteTransaction, n: int) -> None:
    transaction.execute("INSERT INTO mine VALUES (?)", (n,))
    inbox.handled(transaction)


def state(inbox: SqliteInbox) -> tuple[list[int], dict[str, int]]:
    """What handlers wrote, and what is applied."""
    with closing(sqlite3.connect(inbox.path)) as file:
        mine = [n for (n,) in file.execute("SELECT n FROM mine WHERE n > 0 ORDER BY n")]
        applied = dict(file.execute("SELECT key, pos FROM fairlead_applied"))
    return mine, applied


def test_handlers_that_write_share_one_commit(tmp_path: Path) -> None:
    with inbox_at(tmp_path) as inbox:
        one, two, three = begin_together(inbox, "k", "l", "m")
        write(inbox, one, 1)
        inbox.handled(two)  # wrote nothing
        write(inbox, three, 3)
        assert state(inbox) == ([], {})
        assert inbox.commit_all([one, two, three]) == [None] * 3
        assert state(inbox) == ([1, 3], {"k": 1, "l": 2, "m": 3})
        store(inbox, "k", Memory(1, 1, applied=9))  # the file and the keys are free


def test_a_handler_that_fails_takes_back_its_own_writes_only(tmp_path: Path) -> None:
    with inbox_at(tmp_path) as inbox:
        one, two, three = begin_together(inbox, "k", "l", "m")
        write(inbox, one, 1)
        two.execute("INSERT INTO mine VALUES (2)")
        two.rollback()
        write(inbox, three, 3)
        assert inbox.commit_all([one, three]) == [None, None]
        assert state(inbox) == ([1, 3], {"k": 1, "m": 3})
        store(inbox, "l", Memory(1, 1, applied=9))


def test_if_only_failing_handlers_wrote_the_file_is_free_at_once(tmp_path: Path) -> None:
    with inbox_at(tmp_path) as inbox:
        one, two = begin_together(inbox, "k", "l")
        one.execute("INSERT INTO mine VALUES (1)")
        one.rollback()
        store(inbox, "k", Memory(1, 1, applied=9))
        assert inbox.commit_all([two]) == [None]
        assert state(inbox) == ([], {"k": 9, "l": 2})


def test_a_handler_that_ends_the_transaction_takes_the_others_back_to_be_applied_again(
    tmp_path: Path,
) -> None:
    with inbox_at(tmp_path) as inbox:
        one, two = begin_together(inbox, "k", "l")
        write(inbox, one, 1)
        two.execute("ROLLBACK")
        with pytest.raises(RuntimeError, match="only the receiver may"):
            inbox.handled(two)
        (error,) = inbox.commit_all([one])
        assert isinstance(error, InboxError)
        assert state(inbox) == ([], {})
        store(inbox, "k", Memory(1, 1, applied=9))
        store(inbox, "l", Memory(1, 1, applied=9))


def test_what_was_handled_and_is_rolled_back_takes_the_others_back_too(tmp_path: Path) -> None:
    with inbox_at(tmp_path) as inbox:
        one, two = begin_together(inbox, "k", "l")
        write(inbox, one, 1)
        write(inbox, two, 2)
        two.rollback()
        (error,) = inbox.commit_all([one])
        assert isinstance(error, InboxError)
        assert state(inbox) == ([], {})


def test_a_part_may_be_stored_while_the_next_handler_has_not_written_yet(tmp_path: Path) -> None:
    with inbox_at(tmp_path) as inbox:
        one, two = begin_together(inbox, "k", "l")
        write(inbox, one, 1)
        assert inbox.commit_all([one]) == [None]
        write(inbox, two, 2)
        assert inbox.commit_all([two]) == [None]
        assert state(inbox) == ([1, 2], {"k": 1, "l": 2})


def test_what_another_part_has_stored_already_is_stored(tmp_path: Path) -> None:
    with inbox_at(tmp_path) as inbox:
        one, two = begin_together(inbox, "k", "l")
        write(inbox, one, 1)
        write(inbox, two, 2)
        assert inbox.commit_all([two]) == [None]
        assert inbox.commit_all([one]) == [None]
        assert state(inbox) == ([1, 2], {"k": 1, "l": 2})


def test_a_lock_that_was_taken_over_is_lost_alone(tmp_path: Path) -> None:
    with inbox_at(tmp_path) as inbox:
        one, two = begin_together(inbox, "k", "l")
        with closing(sqlite3.connect(inbox.path)) as file, file:
            file.execute("UPDATE fairlead_claim SET owner = 'another' WHERE key = 'k'")
        with pytest.raises(LockLost):
            one.execute("INSERT INTO mine VALUES (1)")
        one.rollback()
        write(inbox, two, 2)
        assert inbox.commit_all([two]) == [None]
        assert state(inbox) == ([2], {"l": 2})


def test_an_inbox_may_live_in_a_database_of_ones_own(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "inbox.db") as file:
        file.execute("CREATE TABLE mine (n INTEGER)")
        file.execute("PRAGMA user_version = 42")
    file.close()
    with inbox_at(tmp_path) as inbox:
        begin_writing(inbox, "k", 4).commit()
        assert read(inbox, "k").applied == 4


@pytest.mark.parametrize("removed", [True, False])
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_an_inbox_that_somebody_removed_or_replaced_takes_nothing_more(
    tmp_path: Path, suffix: str, removed: bool
) -> None:
    gone = rf"inbox\.db{suffix} was removed or replaced while it was in use; see that the file is there"
    file = tmp_path / f"inbox.db{suffix}"
    with inbox_at(tmp_path) as inbox:
        writing = begin_writing(inbox, "k", 4)
        (tmp_path / "other").touch()
        file.unlink() if removed else (tmp_path / "other").replace(file)
        with pytest.raises(InboxError, match=gone):
            writing.commit()
        with pytest.raises(InboxError, match=gone):
            inbox.begin(CHANNEL, "another")


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "inbox.db").write_text("hello, I am a text file and long enough to be read as a header " * 9)
    with pytest.raises(StoreForeign, match=r"inbox\.db"):
        inbox_at(tmp_path).begin(CHANNEL, "k")


def test_a_newer_inbox_is_left_alone(tmp_path: Path) -> None:
    with inbox_at(tmp_path) as inbox:
        read(inbox, "k")
    with sqlite3.connect(tmp_path / "inbox.db") as file:
        file.execute("UPDATE fairlead_inbox SET version = 99")
    file.close()
    with pytest.raises(StoreNewer, match="99"):
        inbox_at(tmp_path).begin(CHANNEL, "k")


def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
    with inbox_at(tmp_path) as inbox:
        read(inbox, "k")
    assert (tmp_path / "inbox.db").stat().st_mode & 0o077 == 0


def test_a_closed_inbox_opens_again_at_its_next_use(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path)
    store(inbox, "k", Memory(1, 1, applied=4))
    inbox.close()
    inbox.close()
    assert read(inbox, "k").applied == 4
    inbox.close()


@pytest.mark.parametrize("together", [False, True])
def test_where_no_thread_can_be_started_the_key_is_free_for_the_next_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with inbox_at(tmp_path) as inbox, inbox_at(tmp_path) as other:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        if together:
            (error,) = inbox.begin_all([(CHANNEL, "k")])
            assert isinstance(error, InboxError)
        else:
            with pytest.raises(InboxError, match="no thread"):
                inbox.begin(CHANNEL, "k")
        monkeypatch.undo()
        other.begin(CHANNEL, "k").rollback()
        store(inbox, "k", Memory(1, 1, applied=4))
        assert "fairlead-inbox" in {thread.name for thread in threading.enumerate()}, "locks are renewed"


def test_processes_share_one_inbox(tmp_path: Path) -> None:
    code = """
import sys
from fairlead.core.chain import Memory
from fairlead.core.channel import ChannelId
from fairlead.sdk.inbox.port import memory_of
from fairlead.sdk.inbox.sqlite_inbox import SqliteInbox
with SqliteInbox(sys.argv[1], lock_wait_seconds=60.0) as inbox:
    for _ in range(10):
        transaction = inbox.begin(ChannelId("console", 5), "k")
        transaction.record(Memory(1, 1, applied=memory_of(transaction).applied + 1))
        transaction.commit()
"""
    path = str(tmp_path / "inbox.db")
    started = [subprocess.Popen([sys.executable, "-c", code, path]) for _ in range(3)]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    with SqliteInbox(path) as inbox:
        transaction = begin_patiently(inbox, "k")
        assert transaction.applied == 30
        transaction.rollback()
        assert read(inbox, "k", ChannelId("console", 9)) == Memory()
