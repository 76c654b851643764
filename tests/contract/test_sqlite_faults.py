# SPDX-License-Identifier: Apache-2.0
"""What a store in a file does when the disk, the file or another process lets it down (fault matrix, E3)."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fairlead.core.channel import ChannelFlush, Progress
from fairlead.drivers.sqlite import file as sqlite_file
from fairlead.drivers.sqlite.file import Connection, memory
from fairlead.errors import (
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFailed,
    StoreForeign,
    StoreFull,
    StoreLocked,
    StoreNewer,
)
from fairlead.stores.sqlite import checkpoint as sqlite_checkpoint
from fairlead.stores.sqlite import store as sqlite_store
from fairlead.stores.sqlite.store import SqliteStore
from fairlead.stores.sqlite.tools import check
from fairlead.testing.store_examples import NOW, NOW_MS, Lane, event, run, subscription

MIB = 1024 * 1024
DEADLINE_SECONDS = 30.0
HOLD_IT_OPEN = """
import sys
from fairlead.stores.sqlite.store import SqliteStore
store = SqliteStore.open(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def big(number: int) -> Any:
    return event(number, data=b'"' + b"x" * 100_000 + b'"')


def filled(path: Path, count: int = 20) -> Path:
    """A store with `count` events of one key, closed."""

    async def fill(store: Any) -> None:
        for number in range(1, count + 1):
            await store.log.append([event(number)], NOW)

    run(lambda: SqliteStore.open(path), fill)
    return path


def kept(path: Path) -> list[str]:
    """The ids of the events in a store, in order of their positions."""
    ids: list[str] = []

    async def read(store: Any) -> None:
        for partition in range(store.log.partitions):
            page = await store.log.read(partition, 0, 1000)
            assert [entry.position for entry in page] == list(range(1, len(page) + 1))
            ids.extend(entry.event.id for entry in page)

    run(lambda: SqliteStore.open(path), read)
    return ids


# -- who may open it -----------------------------------------------------------------------------------


def test_a_store_that_another_process_has_open_is_refused_until_that_one_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_IT_OPEN, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(StoreLocked, match=f"pid {other.pid}"):
            SqliteStore.open(path)
        with pytest.raises(StoreLocked):
            SqliteStore.open(_link(tmp_path, path))
        other.kill()
        other.wait()
    assert kept(path) == []


def _link(directory: Path, path: Path) -> Path:
    link = directory / "link.db"
    link.symlink_to(path)
    return link


def test_one_process_opens_a_store_once(tmp_path: Path) -> None:
    async def again(_: Any) -> None:
        with pytest.raises(StoreLocked):
            await asyncio.to_thread(SqliteStore.open, tmp_path / "store.db")

    run(lambda: SqliteStore.open(tmp_path / "store.db"), again)


def _text(path: Path) -> None:
    path.write_text("[limits]\nevent_bytes = 1\n" * 20)


def _other_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()


def _newer(path: Path) -> None:
    filled(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def _cut_short(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"x" * 20)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (_text, StoreForeign, "not an SQLite database"),
        (_cut_short, StoreForeign, "not an SQLite database"),
        (_other_database, StoreForeign, "another program"),
        (_newer, StoreNewer, "newer Fairlead"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_and_not_touched(
    tmp_path: Path, make: Callable[[Path], None], error: type[StoreError], says: str
) -> None:
    path = tmp_path / "store.db"
    make(path)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(error, match=says) as caught:
            SqliteStore.open(path)
        assert str(path) in str(caught.value)
    assert make is _newer or list(tmp_path.iterdir()) == [path], "nothing is left beside it"
    with pytest.raises(error):
        check(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("replaced", [True, False])
def test_a_store_whose_files_are_taken_away_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, replaced: bool
) -> None:
    monkeypatch.setattr("fairlead.drivers.sqlite.room._PLENTY_SECONDS", 0.0)
    file = tmp_path / f"store.db{suffix}"

    def take_away() -> None:
        file.unlink()
        if replaced:
            file.touch()

    async def scene(store: Any) -> None:
        await store.log.append([event(1)], NOW)
        await asyncio.to_thread(take_away)
        with pytest.raises(StoreFailed, match=rf"cannot be written: .*store\.db{suffix}\b"):
            await store.log.append([event(2)], NOW)
        assert store.failure is not None

    run(lambda: SqliteStore.open(tmp_path / "store.db"), scene)


@pytest.mark.parametrize("truncate", [True, False])
def test_a_store_whose_wal_is_written_back_meanwhile_has_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truncate: bool
) -> None:
    monkeypatch.setattr("fairlead.drivers.sqlite.room._PLENTY_SECONDS", 0.0)
    path = tmp_path / "store.db"
    look = """if True:
        import sqlite3, sys
        connection = sqlite3.connect(sys.argv[1])
        connection.execute("SELECT count(*) FROM log").fetchone()
        if sys.argv[2] == "True":
            assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        connection.close()
    """

    async def scene(store: Any) -> None:
        for number in range(3):
            await store.log.append([event(number)], NOW)
            code = [sys.executable, "-c", look, str(path), str(truncate)]
            await asyncio.to_thread(subprocess.run, code, check=True)
        assert not truncate or not path.with_name("store.db-wal").stat().st_size

    run(lambda: SqliteStore.open(path), scene)


def test_a_directory_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="directory"):
        SqliteStore.open(tmp_path / "nowhere" / "store.db")


def test_an_empty_file_becomes_a_store_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.touch(mode=0o644)
    assert kept(path) == []
    assert path.stat().st_mode & 0o777 == 0o600


# -- damage --------------------------------------------------------------------------------------------


def test_a_torn_tail_of_the_wal_ends_the_log_at_a_commit(tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"

    async def write(store: Any) -> None:
        for number in range(1, 21):
            await store.log.append([event(number)], NOW)
        # As a power cut would find it: nothing is closed.
        for suffix in ("", "-wal"):
            await asyncio.to_thread(shutil.copyfile, f"{path}{suffix}", f"{copy}{suffix}")

    run(lambda: SqliteStore.open(path), write)
    wal = Path(f"{copy}-wal").read_bytes()
    database = copy.read_bytes()
    seen = set()
    for cut in (0, 1, 4096, 12_345, 50_000, 100_000):
        copy.write_bytes(database)
        Path(f"{copy}-shm").unlink(missing_ok=True)
        Path(f"{copy}-wal").write_bytes(wal[: len(wal) - cut])
        ids = kept(copy)
        assert ids == [f"a-{number}" for number in range(1, len(ids) + 1)]
        seen.add(len(ids))
        assert check(copy) == []
    assert max(seen) == 20
    assert len(seen) > 2


@pytest.mark.parametrize(
    "damage",
    [
        "attributes = CAST(replace(CAST(attributes AS TEXT), 'a-7', 'a-8') AS BLOB)",
        "attributes = x'7b'",
        "data = x'7b226e223a20327d'",
        "data = NULL",
        "data = '{\"n\": 1}'",
        "digest = zeroblob(16)",
        "form = 'text'",
        "key = '/heat k2'",
        "accepted_at = 'noon'",
        "accepted_at = 9e999",
        "accepted_at = -1",
    ],
)
def test_a_row_that_was_damaged_surfaces_and_hides_no_other(tmp_path: Path, damage: str) -> None:
    path = filled(tmp_path / "store.db")
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE log SET {damage} WHERE pos = 7")
    connection.commit()
    connection.close()

    async def read(store: Any) -> None:
        partition = next(partition for partition, head in (await store.log.heads()).items() if head)
        with pytest.raises(StoreCorrupt, match=f"event {partition}:7"):
            await store.log.read(partition, 0, 100)
        assert len(await store.log.read(partition, 7, 100)) == 13
        assert any(f"event {partition}:7" in line for line in await store.check())

    run(lambda: SqliteStore.open(path), read)
    assert any(":7: does not hold what was written" in line for line in check(path))


def test_a_bit_that_flips_in_the_file_surfaces(tmp_path: Path) -> None:
    path = filled(tmp_path / "store.db")
    content = bytearray(path.read_bytes())
    content[content.index(b'{"n": 1}') + 6] ^= 0x02
    path.write_bytes(content)
    assert [line for line in check(path) if "event" in line]
    with pytest.raises(StoreCorrupt, match="does not hold what was written"):
        kept(path)


def test_pages_that_were_overwritten_are_reported_not_read(tmp_path: Path) -> None:
    path = filled(tmp_path / "store.db", 200)
    content = bytearray(path.read_bytes())
    for page in range(3, len(content) // 4096, 2):
        content[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
    path.write_bytes(content)
    assert check(path)
    with pytest.raises(StoreError, match=r"fairlead store check|start again"):
        kept(path)


def test_a_first_page_that_was_overwritten_is_refused_at_once(tmp_path: Path) -> None:
    path = filled(tmp_path / "store.db")
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xa5" * 3996
    path.write_bytes(content)
    left: list[Connection] = []

    class Closed(Connection):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            left.append(self)

        def close(self) -> None:
            super().close()
            left.remove(self)

    with pytest.raises(StoreCorrupt, match="restore a backup"):
        SqliteStore.open(path, factory=Closed)
    assert not left, "no connection stays open on what cannot be read"
    assert check(path)


# -- a disk that is full -------------------------------------------------------------------------------


def test_appends_stop_at_the_reserve_while_flushes_go_on_and_begin_again_by_themselves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    free = [64 * MIB]
    caplog.set_level(logging.INFO, "fairlead.store")

    async def fill(store: Any) -> None:
        one = await Lane.of(store)
        assert await store.has_room()
        free[0] = 64 * MIB - 1
        both: Any = await asyncio.gather(
            store.log.append([event(9)], NOW),
            store.channels.flush([ChannelFlush(one.state.fence, Progress(3, 5))]),
            return_exceptions=True,
        )
        refused, stored = both
        assert isinstance(refused, StoreFull)
        assert refused.retry_after_seconds == 10
        assert stored == [one.state.fence]
        assert (await one.reload()).progress == Progress(3, 5)
        with pytest.raises(StoreFull):
            await store.log.append([event(9)], NOW)
        assert not await store.has_room()
        free[0] = 64 * MIB
        assert await store.has_room()
        assert not (await store.log.append([event(9)], NOW))[0].duplicate
        await store.log.append([event(10)], NOW)

    run(lambda: SqliteStore.open(tmp_path / "store.db", free_bytes=lambda: free[0]), fill)
    told = [(record.levelname, record.getMessage()[:20]) for record in caplog.records]
    assert told == [("WARNING", "the disk is full: ev"), ("INFO", "the disk has room ag")]


def test_who_asks_for_room_is_answered_by_a_store_whose_disk_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "ROOM_SECONDS", 0.01)
    free, sound = [64 * MIB], threading.Event()

    async def hang(store: Any) -> None:
        for room in (True, False):  # a sound store is not even asked; one that had no room cannot tell
            sound.clear()
            waits = asyncio.ensure_future(store.log.append([event(1)], NOW))
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    assert await store.has_room() is room
                assert not waits.done()
            finally:
                sound.set()
            await waits
            free[0] = 0
            with pytest.raises(StoreFull):
                await store.log.append([event(2)], NOW)
            free[0] = 64 * MIB

    with ThreadPoolExecutor(1) as disk:

        def hanging(work: Callable[[], None]) -> None:
            disk.submit(sound.wait)
            disk.submit(work)

        run(lambda: SqliteStore.open(executor=hanging, free_bytes=lambda: free[0]), hang)


class FewPages(Connection):
    """A connection to a file that may not grow past 2 MiB: SQLite itself then says that the disk is full."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.execute("PRAGMA max_page_count = 512")


def test_a_disk_without_any_room_refuses_appends_and_keeps_what_was_accepted(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    accepted: list[int] = []

    async def fill(store: Any) -> None:
        one = await Lane.of(store)
        accepted.extend(await _until_full(store))
        assert accepted
        (fence,) = await store.channels.flush([ChannelFlush(one.state.fence, Progress(4, 5))])
        assert fence == one.state.fence
        await store.log.prune(one.partition, range(6, 99))
        await store.log.append([big(99)], NOW)

    run(lambda: SqliteStore.open(path, factory=FewPages), fill)
    assert "a-99" in ids_of(path)


def ids_of(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    try:
        return {id for (id,) in connection.execute("SELECT id FROM log")}
    finally:
        connection.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB: a tmpfs where we may mount one, else a directory, and the store is told its size."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True, check=False
    )
    yield disk
    if mounted.returncode == 0:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_real_disk_that_fills_up_stops_appends_at_the_reserve_and_recovers(small_disk: Path) -> None:
    path = small_disk / "store.db"
    ballast = small_disk / "ballast"
    real = small_disk.is_mount()
    options: dict[str, Any] = {"disk_reserve_bytes": 2 * MIB}
    if not real:
        options["free_bytes"] = lambda: 8 * MIB - sum(file.stat().st_size for file in small_disk.iterdir())

    async def fill(store: Any) -> None:
        one = await Lane.of(store)
        head = 5 + len(await _until_full(store))
        assert head > 15
        for scan in range(6, head + 1):
            await one.flush(Progress(5, scan))
        await _eat(ballast, 16 * MIB if real else 0)
        if real:  # others have eaten the reserve as well
            with pytest.raises(StoreFull):
                await store.log.append([event(600)], NOW)
            assert not await store.has_room()
            await asyncio.to_thread(ballast.unlink)
        await store.log.prune(one.partition, range(1, head))
        await one.flush(Progress(head, head))
        await store.close()

    run(lambda: SqliteStore.open(path, **options), fill)
    assert check(path) == []
    run(lambda: SqliteStore.open(path, disk_reserve_bytes=0), _append_one)


async def _until_full(store: Any) -> list[int]:
    """Append until the store refuses; the numbers that it took."""
    for number in range(10, 500):
        try:
            await store.log.append([big(number)], NOW)
        except StoreFull:
            return list(range(10, number))
    raise AssertionError("the disk never filled up")


async def _append_one(store: Any) -> None:
    (answer,) = await store.log.append([event(700)], NOW)
    assert not answer.duplicate


async def _eat(ballast: Path, size: int) -> None:
    """Write until the disk has no room left."""

    def write() -> None:
        try:
            ballast.write_bytes(b"\0" * size)
        except OSError as error:
            assert error.errno == 28  # noqa: PT017

    await asyncio.to_thread(write)


# -- a disk that fails ---------------------------------------------------------------------------------


class Faulty(Connection):
    """A connection whose statements fail on demand, as SQLite would report it."""

    fail: dict[str, int] = {}
    seen: list[str] = []

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        type(self).seen.append(sql)
        code = type(self).fail.get(sql)
        if code is not None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = code
            raise error
        return super().execute(sql, *arguments)


@pytest.fixture
def faulty() -> type[Faulty]:
    return type("FaultyHere", (Faulty,), {"fail": {}, "seen": []})


def test_a_failed_fsync_ends_serving_and_is_never_tried_again(tmp_path: Path, faulty: type[Faulty]) -> None:
    path = tmp_path / "store.db"
    failures: list[StoreFailed] = []

    async def fail(store: Any) -> None:
        store.on_failed = failures.append
        one = await Lane.of(store)
        faulty.fail["COMMIT"] = sqlite3.SQLITE_IOERR_FSYNC
        both = await asyncio.gather(
            store.log.append([event(9)], NOW),
            store.channels.flush([ChannelFlush(one.state.fence, Progress(5, 5))]),
            return_exceptions=True,
        )
        assert [type(error) for error in both] == [StoreFailed, StoreFailed]
        faulty.fail.clear()
        faulty.seen.clear()
        for call in (
            store.log.append([event(10)], NOW),
            store.log.read(one.partition, 0, 9),
            store.channels.flush([ChannelFlush(one.state.fence, Progress(5, 5))]),
            store.subscriptions.create(subscription("other"), NOW_MS),
            store.check(),
        ):
            with pytest.raises(StoreFailed, match="Check the disk"):
                await call
        assert "COMMIT" not in faulty.seen
        assert len(failures) == 1
        assert store.failure is failures[0]

    run(lambda: SqliteStore.open(path, factory=faulty), fail)
    assert kept(path) == [f"a-{number}" for number in range(1, 6)]


@pytest.mark.parametrize(
    ("code", "ends"),
    [(sqlite3.SQLITE_IOERR_FSYNC, True), (sqlite3.SQLITE_FULL, False), (sqlite3.SQLITE_BUSY, False)],
)
def test_a_checkpoint_that_fails_ends_serving_only_if_the_disk_failed(
    tmp_path: Path, faulty: type[Faulty], monkeypatch: pytest.MonkeyPatch, code: int, ends: bool
) -> None:
    monkeypatch.setattr(sqlite_checkpoint, "_CHECKPOINT_BYTES", 1)
    faulty.fail["PRAGMA wal_checkpoint(PASSIVE)"] = code

    async def write(store: Any) -> None:
        await store.log.append([event(1)], NOW)
        deadline = time.monotonic() + 30
        while not any("wal_checkpoint" in sql for sql in faulty.seen) or (ends and store.failure is None):
            assert time.monotonic() < deadline
            await asyncio.sleep(0)
        if ends:
            with pytest.raises(StoreFailed):
                await store.log.append([event(9)], NOW)
        else:
            await store.log.append([event(9)], NOW)

    run(lambda: SqliteStore.open(tmp_path / "store.db", factory=faulty), write)


def test_a_transaction_that_cannot_be_undone_ends_serving(faulty: type[Faulty]) -> None:
    async def fail(store: Any) -> None:
        faulty.fail |= {"COMMIT": sqlite3.SQLITE_FULL, "ROLLBACK": sqlite3.SQLITE_IOERR}
        with pytest.raises(StoreFailed):
            await store.log.append([event(1)], NOW)

    run(lambda: SqliteStore.open(factory=faulty), fail)


def test_a_commit_that_finds_the_disk_full_refuses_the_appends_alone(faulty: type[Faulty]) -> None:
    async def fail(store: Any) -> None:
        one = await Lane.of(store)
        faulty.fail["COMMIT"] = sqlite3.SQLITE_FULL
        with pytest.raises(StoreFull):
            await store.log.append([event(9)], NOW)
        with pytest.raises(StoreFull):
            await store.channels.flush([ChannelFlush(one.state.fence, Progress(5, 5))])
        assert not await store.has_room(), "not even for what may use the reserve, whatever the disk says"
        faulty.fail.clear()
        (appended,) = await store.log.append([event(9)], NOW)
        assert (appended.entry.position, appended.duplicate) == (6, False)
        await one.flush(Progress(5, 5))
        assert await store.has_room()

    run(lambda: SqliteStore.open(factory=faulty), fail)


@pytest.mark.parametrize("used_up", [True, False])
def test_a_write_that_fails_is_a_full_disk_where_a_quota_is_used_up(
    tmp_path: Path, faulty: type[Faulty], monkeypatch: pytest.MonkeyPatch, used_up: bool
) -> None:
    monkeypatch.setattr(sqlite_file, "is_used_up", lambda path: used_up and Path(path).parent == tmp_path)
    monkeypatch.setattr(sqlite_store, "is_used_up", lambda _: True)

    async def fail(store: Any) -> None:
        faulty.fail["COMMIT"] = sqlite3.SQLITE_IOERR_WRITE
        with pytest.raises(StoreFull if used_up else StoreFailed):
            await store.log.append([event(9)], NOW)
        faulty.fail.clear()
        if used_up:
            assert not await store.has_room(), "the disk has room, and this user has none"
            assert not (await store.log.append([event(9)], NOW))[0].duplicate
            assert await store.has_room()

    run(lambda: SqliteStore.open(tmp_path / "store.db", factory=faulty), fail)


def test_a_lock_that_a_foreign_tool_holds_too_long_is_back_pressure(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    tool = sqlite3.connect(filled(path), isolation_level=None, check_same_thread=False)

    async def wait(store: Any) -> None:
        await asyncio.to_thread(tool.execute, "BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy) as caught:
            await store.log.append([event(99)], NOW)
        assert caught.value.retry_after_seconds
        await asyncio.to_thread(tool.execute, "ROLLBACK")
        assert not (await store.log.append([event(99)], NOW))[0].duplicate

    run(lambda: SqliteStore.open(path, busy_timeout_seconds=0.01), wait)
    tool.close()


def test_a_defect_in_one_job_fails_its_caller_alone() -> None:
    async def mix(store: Any) -> None:
        odd = event(1, "lone \ud800 surrogate", partitionkey="k")
        answers: Any = await asyncio.gather(
            store.log.append([event(2)], NOW),
            store.log.append([event(3), odd], NOW),
            store.log.append([event(4)], NOW),
            return_exceptions=True,
        )
        assert isinstance(answers[1], UnicodeError)
        assert [answers[index][0].entry.position for index in (0, 2)] == [1, 2]

    run(SqliteStore.open, mix)


# -- the executor and the crash ------------------------------------------------------------------------


def test_what_waits_shares_a_commit_and_a_crash_keeps_what_was_committed(faulty: type[Faulty]) -> None:
    connection = memory(faulty)
    work: list[Callable[[], None]] = []

    def carry_out() -> None:
        while work:
            work.pop(0)()

    async def crash() -> None:
        store = await asyncio.to_thread(SqliteStore.open, connection=connection, executor=work.append)
        faulty.seen.clear()
        done = [asyncio.ensure_future(store.log.append([event(number)], NOW)) for number in range(1, 31)]
        done.append(asyncio.ensure_future(store.subscriptions.all()))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await asyncio.to_thread(carry_out)
        await asyncio.gather(*done)
        assert faulty.seen.count("COMMIT") == 1
        lost = asyncio.ensure_future(store.log.append([event(99)], NOW))
        await asyncio.sleep(0)
        assert store.abandon() is connection
        await asyncio.to_thread(carry_out)
        assert not lost.done()
        lost.cancel()

    async def look(store: Any) -> None:
        assert sum((await store.log.heads()).values()) == 30

    asyncio.run(crash())
    run(lambda: SqliteStore.open(connection=connection), look)
    connection.close()
