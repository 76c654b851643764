# SPDX-License-Identifier: Apache-2.0
"""Whoever opens a file of ours that cannot be used is told why: store, outbox and inbox alike."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fairlead.drivers.sqlite import local as sqlite_local
from fairlead.drivers.sqlite.local import open_local
from fairlead.drivers.sqlite.refusal import refusal
from fairlead.errors import OutboxError, OutboxFull, StoreCorrupt, StoreError, StoreForeign, StoreLocked
from fairlead.sdk.inbox.sqlite_inbox import SqliteInbox
from fairlead.sdk.publishing.outbox import SCHEMA, TABLE, VERSION, Outbox
from fairlead.stores.sqlite.store import SqliteStore
from fairlead.testing.store_examples import run

Open = Callable[[Path], object]


def open_store(path: Path) -> None:
    async def nothing(_: Any) -> None: ...

    run(lambda: SqliteStore.open(path, busy_timeout_seconds=0.01), nothing)


def open_outbox(path: Path) -> None:
    Outbox(path, 0).close()


def open_inbox(path: Path) -> None:
    with SqliteInbox(path, lock_wait_seconds=0.01) as inbox:
        inbox.open()


def open_impatiently(path: Path) -> None:
    open_local(path, SCHEMA, name=TABLE, version=VERSION, busy_timeout_seconds=0.01).close()


class NoPages(sqlite3.Connection):
    """A connection to a file that may not grow: SQLite itself then says that the disk is full."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.execute("PRAGMA max_page_count = 1")


class ReadOnly(sqlite3.Connection):
    """A connection to a file that may only be read."""

    def __init__(self, database: Path, **options: Any) -> None:
        super().__init__(f"{database.absolute().as_uri()}?mode=ro", uri=True, **options)


@pytest.mark.parametrize("open", [open_store, open_impatiently, open_inbox])
def test_a_file_that_another_program_keeps_locked_is_said_to_be_locked(tmp_path: Path, open: Open) -> None:
    path = tmp_path / "our.db"
    open(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreLocked, match=r"our\.db is locked by another program: .*; close it"):
            open(path)
    open(path)


@pytest.mark.parametrize("open", [open_outbox, open_inbox])
@pytest.mark.parametrize(
    ("factory", "says"),
    [
        (NoPages, r"our\.db cannot be used: the disk is full; free some space"),
        (ReadOnly, r"our\.db cannot be opened for writing: .*; its directory must exist, .* writable"),
    ],
)
def test_a_full_disk_and_a_file_that_may_not_be_written_are_no_foreign_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: type[sqlite3.Connection], says: str, open: Open
) -> None:
    path = tmp_path / "our.db"
    with monkeypatch.context() as disk:
        disk.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=factory))
        with pytest.raises(StoreError, match=says) as caught:
            open(path)
        assert type(caught.value) is StoreError
    open(path)


@pytest.mark.parametrize("open", [open_outbox, open_inbox])
@pytest.mark.parametrize(("place", "says"), [("nowhere", "No such file"), ("file", "Not a directory")])
def test_a_directory_that_is_none_is_no_foreign_file(
    tmp_path: Path, place: str, says: str, open: Open
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=rf"{place}/our\.db .*{says}.* its directory must exist") as caught:
        open(tmp_path / place / "our.db")
    assert type(caught.value) is StoreError


@pytest.mark.parametrize("open", [open_outbox, open_inbox])
def test_a_file_of_ours_that_is_damaged_is_told_from_one_that_is_not_ours(tmp_path: Path, open: Open) -> None:
    path = tmp_path / "our.db"
    open(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xff" * 300 + whole[400:])
    with pytest.raises(StoreCorrupt, match=r"our\.db cannot be read: .*; restore a backup"):
        open(path)
    path.write_bytes(b"x" * len(whole))
    with pytest.raises(StoreForeign, match=r"our\.db cannot be opened as a Fairlead file: .* another file"):
        open(path)


@pytest.mark.parametrize(
    ("owner", "open", "says"),
    [
        (open_store, open_inbox, "is a relay's store; name another file for a receiver's inbox"),
        (open_store, open_outbox, "is a relay's store; name another file for a publisher's outbox"),
        (open_outbox, open_inbox, "is a publisher's outbox; name another file"),
        (open_inbox, open_outbox, "is a receiver's inbox; name another file"),
        (open_inbox, open_store, "is not a Fairlead store"),
        (open_outbox, open_store, "is not a Fairlead store"),
    ],
)
def test_a_file_of_ours_serves_one_of_us(tmp_path: Path, owner: Open, open: Open, says: str) -> None:
    path = tmp_path / "our.db"
    owner(path)
    before = path.read_bytes()
    with pytest.raises(StoreForeign, match=says):
        open(path)
    assert path.read_bytes() == before
    owner(path)


@pytest.mark.parametrize(
    ("code", "trying", "says"),
    [
        (sqlite3.SQLITE_LOCKED_SHAREDCACHE, errno.ENOSPC, "locked"),
        (sqlite3.SQLITE_IOERR_SHMSIZE, errno.ENOSPC, "the disk is full"),
        (sqlite3.SQLITE_IOERR_WRITE, errno.EDQUOT, "the disk is full"),
        (sqlite3.SQLITE_CANTOPEN, errno.ENOSPC, "the disk is full"),
        (sqlite3.SQLITE_CANTOPEN, None, "opened for writing"),
        (sqlite3.SQLITE_CANTOPEN, errno.EACCES, "opened for writing"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, errno.EROFS, "opened for writing"),
    ],
)
def test_sqlite_says_of_a_full_disk_what_it_says_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, trying: int | None, says: str
) -> None:
    real = tempfile.TemporaryFile

    def probe(**options: Any) -> object:
        if trying is None:
            return real(**options)
        raise OSError(trying, os.strerror(trying))

    monkeypatch.setattr("fairlead.drivers.sqlite.room.tempfile.TemporaryFile", probe)
    error = sqlite3.OperationalError("said by SQLite")
    error.sqlite_errorcode = code
    assert says in str(refusal(tmp_path / "our.db", error))


def test_a_disk_that_fails_is_no_reason_to_move_a_file_away(tmp_path: Path) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
    refused = refusal(tmp_path / "our.db", error)
    assert type(refused) is StoreError
    assert "our.db cannot be used: disk I/O error; look at its disk first" in str(refused)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR])
def test_what_the_file_itself_is_to_blame_for_is_no_refusal(tmp_path: Path, code: int) -> None:
    error = sqlite3.OperationalError("said by SQLite")
    error.sqlite_errorcode = code
    assert refusal(tmp_path / "our.db", error) is None


@pytest.mark.parametrize("used_up", [True, False])
def test_a_write_that_fails_finds_an_outbox_full_where_a_quota_is_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used_up: bool
) -> None:
    monkeypatch.setattr(sqlite_local, "is_used_up", lambda _: used_up)
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    with (
        closing(Outbox(tmp_path / "outbox.db", 1)) as outbox,
        pytest.raises(OutboxError) as caught,
        outbox._reading(),
    ):
        raise error
    assert isinstance(caught.value, OutboxFull) == used_up


def test_a_directory_without_room_for_a_new_file_is_a_full_disk(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    assert "the disk is full" in str(refusal(tmp_path / "our.db", error))
