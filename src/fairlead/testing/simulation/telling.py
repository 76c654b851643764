# SPDX-License-Identifier: Apache-2.0
"""The story of a run: what happened, line by line, and what came of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


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


@contextmanager
def told(say: Callable[[str], None], *, logged: bool) -> Iterator[None]:
    """While a world plays: its log belongs to the story, or is nobody's."""
    logger, teller = logging.getLogger("fairlead"), Teller(say)
    if logged:
        logger.addHandler(teller)
        logger.setLevel(logging.INFO)
    else:
        logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logger.removeHandler(teller)
        logging.disable(logging.NOTSET)


_PLAIN_RECORD = frozenset(vars(logging.makeLogRecord({})))
