# SPDX-License-Identifier: Apache-2.0
"""The story of a run: what happened, line by line, and what came of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fairlead.testing.simulation.loop import where

RECEIVER = "fairlead.receiver"


@dataclass(slots=True)
class Outcome:
    """What came of one run."""

    violation: str | None
    story: list[str] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0


class Teller(logging.Handler):
    """Puts the log into the story."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        extra = {name: value for name, value in vars(record).items() if name not in _PLAIN_RECORD}
        self._say(f"log: {record.getMessage()} {extra}")


class Alarm(logging.Handler):
    """Hears of the exceptions that the relay takes and logs: what nobody had expected."""

    def __init__(self, alarm: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._alarm = alarm

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and record.name != RECEIVER:  # whose handlers may raise
            self._alarm(f"{record.getMessage()}: {error!r}{where(error)}")


@contextmanager
def told(say: Callable[[str], None], alarm: Callable[[str], None], *, logged: bool) -> Iterator[None]:
    """While a world plays: its log belongs to the story, or is nobody's but for what `alarm` is told."""
    logger = logging.getLogger("fairlead")
    handlers = [Alarm(alarm), Teller(say)] if logged else [Alarm(alarm)]
    level, logger.propagate = logger.level, False
    logger.setLevel(logging.INFO if logged else logging.ERROR)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = True


_PLAIN_RECORD = frozenset(vars(logging.makeLogRecord({})))
