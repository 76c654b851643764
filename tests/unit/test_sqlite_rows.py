# SPDX-License-Identifier: Apache-2.0
"""The pure pieces of the SQLite store: rows, statements, what an error means."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.channel import Hold, Progress, Skip
from fairlead.core.outcome import Outcome
from fairlead.drivers.sqlite.file import trouble_of
from fairlead.errors import StoreCorrupt
from fairlead.stores.sqlite.queries import migrations, queries
from fairlead.stores.sqlite.rows import encode, hold_of, hold_row, progress_of, skip_of, skip_row

positions = st.integers(1, 2**62)
times = st.floats(0, 1e12)
outcomes = st.builds(
    Outcome,
    st.sampled_from(["unavailable", "throttled", "chain"]),
    st.none() | st.integers(100, 599),
    st.text(),
    st.none() | times,
    st.booleans(),
    st.none() | positions,
)
holds = st.builds(
    Hold,
    st.text(),
    positions,
    st.integers(0, 99),
    times,
    st.sampled_from(["held", "parked", "slow"]),
    times,
    st.none() | outcomes,
    st.none() | times,
)
skips = st.builds(
    Skip,
    st.text(),
    positions,
    st.text(),
    st.text(),
    st.sampled_from(["operator", "retention"]),
    st.text(),
    times,
    st.text(),
)


@given(holds)
def test_a_hold_comes_back_from_its_row(hold: Hold) -> None:
    assert hold_of(hold_row("console", 5, hold)[2:]) == hold


@given(skips)
def test_a_skip_comes_back_from_its_row(skip: Skip) -> None:
    _, _, _, pos, key, *rest = skip_row("console", 7, 5, skip)
    assert skip_of((pos, key, *rest)) == skip


@given(st.lists(st.tuples(positions, positions)))
def test_progress_comes_back_from_its_columns(done: list[tuple[int, int]]) -> None:
    assert progress_of(1, 9, encode(done)) == Progress(1, 9, tuple(done))


@pytest.mark.parametrize("stored", [b"[[1", b"[[1]]", b'"x"', b"[[1, null]]"])
def test_ranges_that_cannot_be_read_are_damage(stored: bytes) -> None:
    with pytest.raises(StoreCorrupt, match="done_ranges"):
        progress_of(1, 9, stored)


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "busy"),
        (sqlite3.SQLITE_LOCKED, "busy"),
        (sqlite3.SQLITE_FULL, "full"),
        (sqlite3.SQLITE_IOERR_SHMSIZE, "full"),
        (sqlite3.SQLITE_IOERR_FSYNC, "broken"),
        (sqlite3.SQLITE_IOERR_WRITE, "broken"),
        (sqlite3.SQLITE_CORRUPT_INDEX, "broken"),
        (sqlite3.SQLITE_NOTADB, "broken"),
        (sqlite3.SQLITE_READONLY_DBMOVED, "broken"),
        (sqlite3.SQLITE_CANTOPEN, "broken"),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, "statement"),
    ],
)
def test_an_error_says_whether_to_wait_to_refuse_or_to_end(code: int, trouble: str) -> None:
    error = sqlite3.OperationalError("said by SQLite")
    error.sqlite_errorcode = code
    assert trouble_of(error) == trouble


def test_an_error_that_is_not_the_databases_is_the_statements() -> None:
    assert trouble_of(UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed")) == "statement"
    assert trouble_of(sqlite3.ProgrammingError("Incorrect number of bindings supplied")) == "statement"
    assert trouble_of(sqlite3.OperationalError("Could not decode to UTF-8 column 'key'")) == "broken"


def test_migrations_are_numbered_and_statements_bare() -> None:
    assert [number for number, _ in migrations()] == list(range(1, len(migrations()) + 1))
    for statement in queries("log").values():
        assert not statement.endswith(";")
        assert "--" not in statement
