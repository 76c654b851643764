# SPDX-License-Identifier: Apache-2.0
"""The contract of stores, on a file and in memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.core.event import Event
from fairlead.drivers.sqlite.file import Connection, memory
from fairlead.ports import Store
from fairlead.stores.sqlite.store import SqliteStore
from fairlead.testing.store_contract import StoreContract
from fairlead.testing.store_contract_log import conflict_of
from fairlead.testing.store_examples import StoreMaker, event, run


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


def test_what_conflicts_in_a_batch_costs_the_writer_no_more_than_its_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a publisher sends: all others wait for the writer."""
    key_of = vars(Event)["key"]
    asked: list[Event] = []

    def counted(self: Event) -> str:
        asked.append(self)
        return str(key_of.fget(self))

    monkeypatch.setattr(Event, "key", property(counted))

    async def scene(store: Store) -> None:
        await store.log.append([event(n) for n in range(400)], 0.0)
        asked.clear()
        changed = [event(n, data=b"{}") for n in (*range(400), 0)]
        faults = (await conflict_of(store, *changed)).faults
        assert [fault.index for fault in faults] == list(range(401))
        assert "at position" in faults[399].detail
        assert "of the same batch, at index 0" in faults[400].detail
        assert len(asked) <= 4 * len(changed)

    run(lambda: SqliteStore.open(tmp_path / "store.db"), scene)
