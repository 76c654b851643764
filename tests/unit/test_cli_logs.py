# SPDX-License-Identifier: Apache-2.0
"""The relay's log where it is read slowly, or not at all."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import IO

import pytest

from fairlead.cli import logs
from fairlead.cli.logs import Lines, TextLines


@pytest.fixture
def pipe() -> Iterator[tuple[IO[str], int]]:
    """A full pipe: who reads it, and the descriptor to write to."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b".")
    except BlockingIOError:
        os.set_blocking(writing, True)
    with os.fdopen(reading) as reader:
        yield reader, writing


def log(lines: Lines, text: str) -> None:
    lines.handle(logging.LogRecord("x", logging.INFO, "", 0, text, (), None))


def test_lines_wait_in_order_and_those_too_many_are_counted(pipe: tuple[IO[str], int]) -> None:
    reader, writing = pipe
    lines = Lines(writing, TextLines(), most=4)
    for number in range(10):
        log(lines, f"line-{number}")
    got = reader.readline() + reader.readline()  # the dots, and the line after them
    while "line-3" not in got:
        got += reader.readline()
    log(lines, "after")
    lines.close()
    os.close(writing)
    first, *rest = (got + reader.read()).lstrip(".").splitlines()
    kept = [int(line.rpartition("-")[2]) for line in (first, *rest[:-2])]
    assert kept == list(range(len(kept)))
    assert rest[-2].endswith(f"WARNING log lines dropped: nobody took them lines={10 - len(kept)}")
    assert rest[-1].endswith("INFO after")


def test_the_end_does_not_wait_for_who_does_not_read(
    pipe: tuple[IO[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "FLUSH_SECONDS", 0.01)
    lines = Lines(pipe[1], TextLines())
    log(lines, "never read")
    lines.close()
    lines.close()
    os.write(pipe[1], b"x" * 100_000)  # leads nowhere now
    os.close(pipe[1])


def test_what_a_line_says_is_settled_when_it_is_logged(pipe: tuple[IO[str], int]) -> None:
    reader, writing = pipe
    lines, said = Lines(writing, TextLines()), ["before"]
    lines.handle(logging.LogRecord("x", logging.INFO, "", 0, "%s", (said,), None))
    said[0] = "after"
    assert "before" in reader.readline()
    lines.close()
    os.close(writing)


def test_a_line_for_nobody_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    lines = Lines(writing, TextLines())
    log(lines, "broken pipe")
    lines.close()
    os.close(writing)


def test_who_logs_within_a_line_does_not_wait_for_himself(pipe: tuple[IO[str], int]) -> None:
    class Talkative(TextLines):
        """As when the formatting of a line has a task collected, whose error nobody took: it logs."""

        def format(self, record: logging.LogRecord) -> str:
            if "dropped" in record.msg:
                log(lines, "within")
            return super().format(record)

    reader, writing = pipe
    lines = Lines(writing, Talkative(), most=2)
    for number in range(5):  # one is with the thread, two wait
        log(lines, f"line-{number}")
    got = reader.readline() + reader.readline()
    log(lines, "after")
    lines.close()
    os.close(writing)
    assert "within" in got + reader.read()
