# SPDX-License-Identifier: Apache-2.0
"""The limit of the log, as the engine meets it."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from fairlead.engine.log_room import MEASURE_EVERY_SECONDS, LogRoom
from fairlead.errors import StoreFull
from fairlead.ports import Log


class _Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


class _Sized:
    def __init__(self, size: int) -> None:
        self.size, self.measured = size, 0

    async def size_bytes(self) -> int:
        self.measured += 1
        return self.size


def test_a_full_log_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "fairlead.ingest")
    sized = _Sized(10)
    room = LogRoom(cast("Log", sized), _Clock(), 10)

    async def refused() -> None:
        with pytest.raises(StoreFull, match=r"10 bytes and limits\.log_bytes is 10"):
            await room.demand()

    async def scene() -> None:
        assert await room.left(), "nobody was refused yet"
        assert sized.measured == 0
        await refused()
        await refused()
        assert not await room.left()
        sized.size = 9
        assert await room.left(), "whoever asks learns of it at once"
        await room.demand()
        await room.demand()
        assert sized.measured == 5, "not twice within a second"

    asyncio.run(scene())
    assert [one.levelname for one in caplog.records] == ["WARNING", "INFO"]


def test_it_is_measured_again_after_a_while_and_never_without_a_limit() -> None:
    async def scene() -> None:
        sized, clock = _Sized(0), _Clock()
        room = LogRoom(cast("Log", sized), clock, 10)
        await room.demand()
        clock.at += MEASURE_EVERY_SECONDS
        await room.demand()
        assert sized.measured == 2
        unlimited = LogRoom(cast("Log", sized), clock, None)
        await unlimited.demand()
        assert await unlimited.left()
        assert sized.measured == 2

    asyncio.run(scene())
