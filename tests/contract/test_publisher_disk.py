# SPDX-License-Identifier: Apache-2.0
"""An outbox on a disk that is full: it says so, and what waits in it goes out all the same."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from fairlead import Event, OutboxFull, Publisher
from fairlead.sdk.publishing.outbox import Outbox
from tests.contract.publishing import DEADLINE_SECONDS, StubRelay, relay_at, until

MIB = 1024 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB; as root only."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "fairlead-test", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture
def away() -> StubRelay:
    """A relay that is down, and knows its address."""
    with relay_at() as relay:
        return StubRelay(relay.port)


def event(n: int) -> Event:
    return Event(f"a-{n}", "/heat", "org.example.state", subject="k1", data="x" * 20_000)


def fill(publisher: Publisher) -> tuple[int, str]:
    """Publish until there is no room; how many were stored, and what was said then."""
    for n in range(10_000):
        try:
            publisher.publish(event(n))
        except OutboxFull as full:
            return n, str(full)
    raise AssertionError("it never got full")


def eat(disk: Path, leave_bytes: int = 0) -> Path:
    """Others take the whole disk, but for so much."""
    ballast = disk / "ballast"
    free = os.statvfs(disk)
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        file.write(b"x" * (free.f_bavail * free.f_frsize - leave_bytes))
        while leave_bytes == 0:
            file.write(b"x" * 4096)
    return ballast


def give_back(ballast: Path, size_bytes: int) -> None:
    os.truncate(ballast, ballast.stat().st_size - size_bytes)


def sent(relay: StubRelay) -> list[str]:
    return [one["id"] for _, _, batch in relay.requests for one in batch]


def ids(count: int) -> list[str]:
    return [f"a-{n}" for n in range(count)]


def test_an_outbox_that_filled_its_disk_empties_itself_though_others_ate_the_reserve(
    disk: Path, away: StubRelay, caplog: pytest.LogCaptureFixture
) -> None:
    with Publisher(away.url, outbox=disk / "outbox.db") as publisher:
        stored, why = fill(publisher)
        assert f"disk of {disk}/outbox.db is full but for 8 MiB" in why
        assert "free some room" in why
        assert stored > 100
        assert os.statvfs(disk).f_bavail * 4096 >= 8 * MIB
        ballast = eat(disk)
        with pytest.raises(OutboxFull, match="is full"):
            publisher.publish(event(stored))
        with relay_at(away, away.port) as relay:
            assert publisher.flush(DEADLINE_SECONDS) == 0
            assert sent(relay) == ids(stored)
            ballast.unlink()
            publisher.publish(event(stored), wait="accepted", timeout=DEADLINE_SECONDS)
    assert not [line for line in caplog.records if line.exc_info]


def test_an_outbox_whose_disk_others_filled_goes_on_when_a_little_room_comes_back(
    disk: Path, away: StubRelay, caplog: pytest.LogCaptureFixture
) -> None:
    with Publisher(away.url, outbox=disk / "outbox.db") as publisher:
        for n in range(150):  # all of it in the WAL: to move it into the file takes room
            publisher.publish(event(n))
        ballast = eat(disk)
        with relay_at(away, away.port) as relay:
            until(lambda: publisher.flush(0.05) > 0 and "is full" in str(publisher.status().last_error))
            until(lambda: publisher.flush(0.05) > 0 and publisher._process().forwarder._failures > 3)
            assert sent(relay) == ids(150)
            give_back(ballast, 4 * MIB)
            until(lambda: publisher.flush(0.05) == 0)
            assert sent(relay) == ids(150), "what the relay has taken was sent again"
    assert not [line for line in caplog.records if line.exc_info]
    assert [line.levelno for line in caplog.records if "is full" in line.message] == [logging.WARNING]


def test_where_a_batch_finds_no_room_to_be_let_go_of_it_goes_in_parts(disk: Path, away: StubRelay) -> None:
    with Publisher(away.url, outbox=disk / "outbox.db") as publisher:
        for n in range(300):
            publisher.publish(event(n))
    eat(disk, leave_bytes=MIB // 4)
    with closing(Outbox(disk / "outbox.db", 0)) as outbox:
        head = outbox.head(1000, 8 * MIB)
        problem = {"type": "urn:fairlead:problem:invalid-event"}
        settled = outbox.settle([(row, problem) for row in head])
        assert 0 < settled < len(head)
        assert [row.id for row in outbox.head(1, MIB)] == [f"a-{settled}"]
        assert [one.event.id for one in outbox.refused()] == ids(settled)
