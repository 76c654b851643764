# SPDX-License-Identifier: Apache-2.0
"""The contract of stores, on a file and in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.drivers.sqlite_file import memory
from fairlead.stores.sqlite import SqliteStore
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
