# SPDX-License-Identifier: Apache-2.0
"""The detector detects: without it, nobody would notice that it stopped."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.loop_guard import OURS, BlockedLoopError, guarded


def as_ours(source: str, **names: object) -> Callable[[], object]:
    """A function that seems to stand in Fairlead's own code."""
    space: dict[str, object] = dict(names)
    exec(compile(f"def call():\n    return {source}\n", f"{OURS}/made_up.py", "exec"), space)
    call = space["call"]
    assert callable(call)
    return call


async def on_the_loop(call: Callable[[], object]) -> object:
    return call()


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("time.sleep(0)", {"time": time}),
        ("path.read_text()", {"path": Path(__file__)}),
        ("sqlite3.connect(':memory:').close()", {"sqlite3": sqlite3}),
    ],
)
def test_a_call_that_blocks_the_loop_is_found(source: str, names: dict[str, object]) -> None:
    call = as_ours(source, **names)
    call()
    with pytest.raises(BlockedLoopError, match=r"made_up\.py:2"), guarded():
        asyncio.run(on_the_loop(call))


def test_a_statement_on_the_loop_is_found_even_if_its_error_is_caught() -> None:
    with guarded():
        database = sqlite3.connect(":memory:")
    call = as_ours("database.execute('SELECT 1')", database=database)
    with pytest.raises(BlockedLoopError, match="SELECT 1"), guarded():
        asyncio.run(on_the_loop(call))
    database.close()


def test_what_a_thread_does_is_not_the_loop_s_business() -> None:
    async def elsewhere() -> None:
        await asyncio.to_thread(as_ours("time.sleep(0)", time=time))

    with guarded():
        asyncio.run(elsewhere())


def test_tests_themselves_may_block() -> None:
    async def reads() -> str:
        return Path(__file__).read_text()

    with guarded():
        assert asyncio.run(reads())
