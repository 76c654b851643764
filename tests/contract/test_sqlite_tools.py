# SPDX-License-Identifier: Apache-2.0
"""Opening older stores, checking, compacting, restoring, and what the WAL does meanwhile."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from fairlead.core.channel import Progress
from fairlead.drivers.sqlite.file import APPLICATION_ID, memory
from fairlead.errors import StoreError, StoreLocked
from fairlead.stores.sqlite import checkpoint as sqlite_checkpoint
from fairlead.stores.sqlite.queries import migrate, migrations, newest_version, queries
from fairlead.stores.sqlite.store import SqliteStore
from fairlead.stores.sqlite.tools import check, compact, restored
from fairlead.testing.store_examples import NOW, NOW_MS, Lane, event, run, subscription

MIB = 1024 * 1024
SCHEMA = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with one channel at work."""
    path = tmp_path / "store.db"

    async def fill(store: Any) -> None:
        one = await Lane.of(store)
        await one.flush(Progress(1, 5, ((3, 5),)), holds=(one.hold(2),), attempts=(one.attempt(1),))

    run(lambda: SqliteStore.open(path), fill)
    return path


def execute(path: Path, *statements: str) -> list[Any]:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return [row for statement in statements for row in connection.execute(statement).fetchall()]
    finally:
        connection.close()


# -- the schema ----------------------------------------------------------------------------------------


def test_a_new_store_says_whose_it_is_and_which_version(path: Path) -> None:
    assert execute(path, "PRAGMA application_id", "PRAGMA user_version") == [
        (APPLICATION_ID,),
        (newest_version(),),
    ]
    assert execute(path, "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize("version", range(newest_version()))
def test_a_store_of_every_earlier_version_becomes_what_a_new_one_is(
    tmp_path: Path, path: Path, version: int
) -> None:
    old = tmp_path / "old.db"
    script = "".join(script for number, script in migrations() if number <= version)
    connection = sqlite3.connect(old)
    connection.executescript(
        f"PRAGMA application_id = {APPLICATION_ID}; {script} PRAGMA user_version = {version};"
    )
    connection.close()
    SqliteStore.open(old).abandon().close()
    assert execute(old, SCHEMA) == execute(path, SCHEMA)
    assert execute(old, "PRAGMA user_version") == [(newest_version(),)]


def test_every_statement_fits_the_schema() -> None:
    connection = memory()
    migrate(connection, 0)
    for file in ("log", "channel", "operate", "subscription", "attempt", "access", "check"):
        for statement in queries(file).values():
            wanted = statement.count("?")
            arguments: Any = {name: 1 for name in NAMES} if ":" in statement else (1,) * wanted
            connection.execute(f"EXPLAIN {statement}", arguments)
    connection.close()
    connection.close()


NAMES = (
    "accepted_after", "after", "before", "body", "epoch", "generation", "head", "header", "id", "key",
    "limit", "most", "next", "now", "older_than", "oldest", "outcome", "packed_key", "partition", "pos",
    "position", "reason", "size_bytes", "source", "state", "subject", "subscription", "target", "type",
)  # fmt: skip


def test_the_number_of_partitions_is_fixed_when_the_store_is_made(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def look(store: Any) -> None:
        assert store.log.partitions == 3
        assert set(await store.log.heads()) == {0, 1, 2}

    run(lambda: SqliteStore.open(path, partitions=3), look)
    run(lambda: SqliteStore.open(path, partitions=8), look)


# -- restored, compact ---------------------------------------------------------------------------------


def test_a_restored_store_begins_a_new_generation_of_everything(path: Path) -> None:
    assert restored(path, NOW_MS + 5000) == 1

    async def look(store: Any) -> None:
        found = await store.subscriptions.get("console")
        states = await store.channels.take_all("node-1")
        assert found.generation == NOW_MS + 5000
        assert {state.fence.generation for state in states} == {NOW_MS + 5000}
        assert sum(len(state.holds) for state in states) == 1
        await store.subscriptions.delete("console")
        assert (await store.subscriptions.create(subscription(), 1)).generation == NOW_MS + 5001

    run(lambda: SqliteStore.open(path), look)
    assert restored(path, 7) == 1
    assert execute(path, "SELECT generation FROM subscription_generation") == [(NOW_MS + 5002,)]


def test_a_restored_store_is_not_given_the_wal_of_the_one_before(path: Path) -> None:
    copy, wal = path.read_bytes(), path.with_name("store.db-wal")

    async def crash(store: Any) -> None:
        await store.subscriptions.delete("console")
        await asyncio.to_thread(lambda: path.with_name("kept").write_bytes(wal.read_bytes()))

    run(lambda: SqliteStore.open(path), crash)
    path.write_bytes(copy)
    path.with_name("kept").rename(wal)
    with pytest.raises(StoreError, match=r"store\.db-wal is not .*Remove it and store\.db-shm.*--with-wal"):
        restored(path, NOW_MS)
    assert path.read_bytes() == copy
    assert restored(path, NOW_MS, with_wal=True) == 0, "which is what the WAL says"
    path.write_bytes(copy)
    assert restored(path, NOW_MS) == 1


def test_a_compacted_store_is_smaller_and_the_same(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def fill_and_prune(store: Any) -> None:
        events = [event(number, data=b'"' + b"x" * 50_000 + b'"') for number in range(60)]
        partition = (await store.log.append(events, NOW))[0].entry.partition
        await store.log.prune(partition, range(1, 60))

    run(lambda: SqliteStore.open(path), fill_and_prune)
    ticks: list[None] = []
    before, after = compact(path, lambda: ticks.append(None))
    assert after < before / 4
    assert path.stat().st_size == after
    assert execute(path, "SELECT pos, id FROM log") == [(60, "a-59")]
    assert check(path) == []


@pytest.mark.parametrize("tool", [lambda path: restored(path, 1), compact])
def test_what_changes_a_store_needs_it_alone_and_needs_it_there(
    tmp_path: Path, path: Path, tool: Any
) -> None:
    async def meanwhile(_: Any) -> None:
        with pytest.raises(StoreLocked):
            await asyncio.to_thread(tool, path)

    run(lambda: SqliteStore.open(path), meanwhile)
    with pytest.raises(StoreError, match="there is no store"):
        tool(tmp_path / "nowhere.db")
    assert not (tmp_path / "nowhere.db").exists()


# -- check ---------------------------------------------------------------------------------------------


def test_a_store_is_checked_while_a_relay_has_it(path: Path) -> None:
    async def meanwhile(store: Any) -> None:
        await store.log.append([event(9)], NOW)
        assert await asyncio.to_thread(check, path) == []

    run(lambda: SqliteStore.open(path), meanwhile)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("UPDATE partition_head SET pos = 2 WHERE pos = 5", "is below position 5 of the log"),
        ("DELETE FROM partition_head WHERE pos = 5", "is missing is below position 5"),
        ("UPDATE progress SET low_water = 7 WHERE scan_pos = 5", "low_water 7, scan_pos 5, head 5"),
        ("UPDATE progress SET scan_pos = 9 WHERE scan_pos = 5", "scan_pos 9, head 5"),
        ("UPDATE progress SET done_ranges = '[[1, 2]]' WHERE scan_pos = 5", "do not ascend between 1 and 5"),
        ("UPDATE progress SET done_ranges = '[[4, 3]]' WHERE scan_pos = 5", "do not ascend"),
        ("UPDATE progress SET done_ranges = '[[3, 4], [4, 5]]' WHERE scan_pos = 5", "do not ascend"),
        ("UPDATE progress SET done_ranges = '[[3, 6]]' WHERE scan_pos = 5", "do not ascend"),
        ("UPDATE progress SET done_ranges = '[[3' WHERE scan_pos = 5", "done_ranges cannot be read"),
        ("DELETE FROM progress WHERE scan_pos = 5", "has no progress"),
        ("DELETE FROM channel WHERE partition = 0", "channel console/0: is missing"),
        (
            "UPDATE channel SET generation = generation + 1 WHERE partition = 0",
            "newer than its subscription's",
        ),
        ("UPDATE hold SET head_pos = 7", "head_pos 7 is not between 1 and what was read, 5"),
        ("UPDATE hold SET state = 'lost'", "unknown state lost"),
        ("UPDATE hold SET subscription = 'nobody'", "belongs to no channel"),
        ("DELETE FROM subscription_matching", "revision 1 is not kept"),
        ("UPDATE log SET partition = 7 - partition", "belongs to another partition"),
    ],
)
def test_each_damage_is_one_line_that_says_where_and_what(path: Path, damage: str, says: str) -> None:
    assert check(path) == []
    execute(path, damage)
    lines = check(path)
    assert [line for line in lines if says in line], lines
    assert not [line for line in lines if "\n" in line]


@pytest.mark.parametrize("size_bytes", [100, 4096, 20_000])
def test_a_store_that_was_cut_short_is_a_damage_to_report(path: Path, size_bytes: int) -> None:
    os.truncate(path, size_bytes)
    (line,) = check(path)
    assert line == f"{path}: database disk image is malformed"


# -- the WAL -------------------------------------------------------------------------------------------


def test_the_wal_moves_into_the_file_while_the_store_is_at_work(path: Path) -> None:
    async def write(store: Any) -> None:
        deadline = time.monotonic() + 60
        number = 100
        while await asyncio.to_thread(lambda: path.stat().st_size) < 6 * MIB:
            assert time.monotonic() < deadline
            number += 1
            await store.log.append([event(number, data=b'"' + b"x" * 200_000 + b'"')], NOW)

    run(lambda: SqliteStore.open(path), write)
    assert not Path(f"{path}-wal").exists()
    assert check(path) == []


def test_under_steady_load_the_writer_ends_a_wal_that_has_become_long(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_checkpoint, "_CHECKPOINT_BYTES", 1)
    monkeypatch.setattr(sqlite_checkpoint, "_LONG_PAGES", 16)

    async def write(store: Any) -> None:
        for number in range(100, 400):
            await store.log.append([event(number, data=b'"' + b"x" * 20_000 + b'"')], NOW)
        assert await asyncio.to_thread(lambda: Path(f"{path}-wal").stat().st_size) < 4 * MIB

    run(lambda: SqliteStore.open(path), write)
    assert check(path) == []
    assert execute(path, "SELECT count(*) FROM log") == [(305,)]
