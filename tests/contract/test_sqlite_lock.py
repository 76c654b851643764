# SPDX-License-Identifier: Apache-2.0
"""The file beside a store that keeps other processes out, and whose it is."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from fairlead import Event, Publisher
from fairlead.drivers.sqlite.lock import SqliteLock
from fairlead.errors import StoreError, StoreLocked
from fairlead.stores.sqlite.store import SqliteStore
from fairlead.stores.sqlite.tools import compact, restored
from fairlead.testing.store_examples import run
from tests.contract.publishing import until

SERVICE = 12_345


@contextmanager
def acting_as(user: int) -> Iterator[None]:
    """Not as root, who may do everything."""
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def store() -> Iterator[Path]:
    """A store without a lock file, of a service with a user of its own who can reach it."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")

    async def nothing(_: Any) -> None: ...

    with TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        run(lambda: SqliteStore.open(path), nothing)
        lock_of(path).unlink()
        for place in (path, path.parent):
            os.chown(place, SERVICE, SERVICE)
        yield path


def lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def look_into(path: Path) -> None:
    """As somebody does who is curious, with a program of his own."""
    look = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('select * from log'); c.close()"
    subprocess.run([sys.executable, "-c", look, path], check=True)


def lock(path: Path) -> None:
    taken = SqliteLock(path)
    taken.take()
    taken.release()


@pytest.mark.parametrize("tool", [lambda path: restored(path, 1), compact])
@pytest.mark.parametrize("mode", [0o600, 0o660])
def test_what_root_does_to_a_store_does_not_keep_its_service_out(store: Path, tool: Any, mode: int) -> None:
    store.chmod(mode)
    tool(store)
    assert {file.stat().st_uid for file in store.parent.iterdir()} == {SERVICE}
    assert lock_of(store).stat().st_gid == SERVICE
    assert lock_of(store).stat().st_mode & 0o777 == mode
    with acting_as(SERVICE):
        lock(store)


def test_a_lock_file_of_somebody_else_is_said_to_be(store: Path) -> None:
    lock_of(store).touch(mode=0o600)
    with acting_as(SERVICE), pytest.raises(StoreError) as caught:
        lock(store)
    assert f"{lock_of(store)} cannot be written: Permission denied" in str(caught.value)
    assert f"it belongs to user 0: give it to user {SERVICE}" in str(caught.value)


def test_no_link_leads_root_to_another_file(store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("whole")
    lock_of(store).symlink_to(other)
    with pytest.raises(StoreError, match=r"store\.db\.lock cannot be written.*symbolic link.*remove it"):
        lock(store)
    assert other.read_text() == "whole"


def test_a_second_opening_in_the_same_process_ends_no_lock_of_the_first(tmp_path: Path) -> None:
    """Closing a file ends every POSIX lock of the process on it. Without SQLite's locks whoever looks into
    the database in use counts as its last user and deletes the WAL that the relay goes on committing to."""
    path = tmp_path / "store.db"

    async def scene(_: Any) -> None:
        for second in (SqliteStore.open, compact, lambda path: restored(path, 1)):
            with pytest.raises(StoreLocked):
                await asyncio.to_thread(second, path)
            await asyncio.to_thread(look_into, path)
            assert path.with_name("store.db-wal").exists()

    run(lambda: SqliteStore.open(path), scene)


def test_a_lock_file_that_was_taken_away_meanwhile_locks_nothing(store: Path) -> None:
    opened: list[int] = []

    class Racing(SqliteLock):
        def _open(self) -> int:
            opened.append(super()._open())
            if len(opened) == 1:
                lock_of(store).unlink()
            return opened[-1]

    racing = Racing(store)
    racing.take()
    with pytest.raises(StoreLocked):
        lock(store)
    racing.release()


def open_elsewhere(path: Path) -> str:
    """As a second relay would; what it says."""
    code = """if True:
        import sys; from fairlead.errors import StoreLocked; from fairlead.stores.sqlite.tools import compact
        try: compact(sys.argv[1])
        except StoreLocked as error: print(error)
    """
    return subprocess.run(
        [sys.executable, "-c", code, path], check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize("new", [True, False])
def test_a_store_is_locked_however_one_comes_to_it(tmp_path: Path, new: bool) -> None:
    path, link = tmp_path / "store.db", tmp_path / "link.db"

    async def nothing(_: Any) -> None: ...

    def intrude() -> None:
        link.hardlink_to(path)
        lock_of(path).unlink()
        for name in (path, link):
            said = open_elsewhere(name)
            assert f"{name} is open in another process, under another name or with its lock file" in said
            with pytest.raises(StoreLocked, match="is open in this process, under another name"):
                compact(name)
            assert not lock_of(name).exists()
        look_into(path)
        assert path.with_name("store.db-wal").exists(), "none of this has ended SQLite's own locks"

    async def scene(_: Any) -> None:
        await asyncio.to_thread(intrude)

    if not new:
        run(lambda: SqliteStore.open(path), nothing)
    run(lambda: SqliteStore.open(path), scene)
    assert open_elsewhere(link) == ""


def test_a_file_system_without_locks_on_the_database_has_the_one_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    path.touch()
    whole = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        whole(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    taken = SqliteLock(path)
    taken.take()
    with pytest.raises(StoreLocked):
        lock(path)
    taken.release()


def test_a_file_system_without_any_locks_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StoreError, match="cannot be locked: Operation not supported") as refused:
        SqliteStore.open(tmp_path / "store.db")
    assert not isinstance(refused.value, StoreLocked), "nobody has it open"
    with Publisher("http://127.0.0.1:9", outbox=tmp_path / "outbox.db") as publisher:
        publisher.publish(Event("a-1", "/heat", "org.example.state"))
        until(lambda: "a file system that has locks" in (publisher.status().last_error or ""))
        assert not open_files("outbox.db-lock"), "each try would keep one"


def open_files(name: str) -> list[str]:
    files = [os.path.realpath(number) for number in Path("/proc/self/fd").iterdir()]
    return [file for file in files if file.endswith(name)]


def test_a_full_disk_keeps_nobody_out_of_a_lock_file_that_is_there(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    lock_of(store).touch()
    monkeypatch.setattr(os, "pwrite", full)
    taken = SqliteLock(store)
    taken.take()
    with pytest.raises(StoreLocked, match="is open in another process; one store has one relay"):
        lock(store)
    taken.release()


def test_a_child_does_not_keep_the_store_of_a_parent_that_died(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    code = """if True:
        import os, sys; from fairlead.stores.sqlite.store import SqliteStore
        store = SqliteStore.open(sys.argv[1])
        if os.fork():
            os.kill(os.getpid(), 9)
        print(flush=True); sys.stdin.read(); os._exit(0)
    """
    child = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(child, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.wait() == -9
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"\n", "it lives"
        assert restored(path, 1, with_wal=True) == 0
