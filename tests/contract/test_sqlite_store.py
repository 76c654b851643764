# SPDX-License-Identifier: Apache-2.0
"""The contract of stores, on a file and in memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.drivers.sqlite_file import Connection, memory
from fairlead.stores.sqlite.store import SqliteStore
from fairlead.testing.store_contract import StoreContract
from fairlead.testing.store_examples import StoreMaker


class TestSqliteFile(StoreContract):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> StoreMaker:
        return lambda: SqliteStore.open(tmp_path / "store.db")


class TestSqliteMemory(StoreContract):
    @pytest.fixture
    def make_store(self) -> Iterator[StoreMaker]:
        connection = memory()
        yield lambda: SqliteStore.open(connection=connection)
        connection.close()


def test_every_commit_of_a_file_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "store.db")
    connection = store.abandon()
    settings = [
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
    ]
    connection.close()
    assert settings == ["wal", 2], "2 is FULL: with NORMAL the last commits may go with the power"


def test_a_long_search_holds_up_nothing_that_intake_asks_for(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "store.db")
    may_end = threading.Event()

    def search(connection: Connection) -> None:
        may_end.wait()

    async def main() -> None:
        searching = asyncio.ensure_future(store._lists.run(search))
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(10):
                assert await store.log.size_bytes() > 0
                assert await store.note("imagefactory", "i 1") is None
        finally:
            may_end.set()
            await searching
            await store.close()

    asyncio.run(main())
