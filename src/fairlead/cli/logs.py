# SPDX-License-Identifier: Apache-2.0
"""The relay's log on standard error: lines for people, or one JSON object per line (`[log] format`)."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Mapping

from fairlead.core.durations import format_time

MOST_WAITING = 10_000
FLUSH_SECONDS = 2.0
_log = logging.getLogger(__name__)
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}


class TextLines(logging.Formatter):
    """`2026-11-22T10:00:00Z INFO node started subscriptions=2`."""

    def format(self, record: logging.LogRecord) -> str:
        extra = " ".join(f"{name}={_plain(value)}" for name, value in _extra(record).items())
        when = format_time(int(record.created))
        line = f"{when} {record.levelname} {record.getMessage()}{' ' if extra else ''}{extra}"
        return line + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


class JsonLines(logging.Formatter):
    """`{"at":…,"level":…,"logger":…,"message":…, the extra members …}`."""

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, object] = {
            "at": format_time(round(record.created, 3)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False, default=str)


class Lines(logging.Handler):
    """Lines for a file descriptor, written by a thread: nobody who logs waits for who reads.

    In order. What more than `most` lines would wait is dropped, until half of them are written; then a line
    says how many were.

    Args:
        fd: where the lines go; others may write there too.
    """

    def __init__(self, fd: int, formatter: logging.Formatter, *, most: int = MOST_WAITING) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._fd = fd
        self._most = most
        self._dropped = 0
        self._ended = False
        self._turn = threading.RLock()  # what is collected meanwhile may log, within a line
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="fairlead-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.say(self.format(record))
        except Exception:
            self.handleError(record)

    def say(self, line: str) -> None:
        """A line as it is."""
        with self._turn:
            if self._waiting.qsize() >= (self._most // 2 if self._dropped else self._most):
                self._dropped += 1
                return
            self._own_up()
            self._waiting.put(line)

    def close(self) -> None:
        """Write what waits, for `FLUSH_SECONDS` at most. Idempotent.

        Where that is not enough, the descriptor leads nowhere afterwards: the end of the process must not
        wait for who does not read.
        """
        with self._turn:
            if self._ended:
                return
            self._ended = True
            self._own_up()
            self._waiting.put(None)
        self._thread.join(FLUSH_SECONDS)
        if self._thread.is_alive():
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._fd)
        super().close()

    def _own_up(self) -> None:
        if self._dropped:
            what, extra = "log lines dropped: nobody took them", {"lines": self._dropped}
            self._dropped = 0
            self._waiting.put(
                self.format(_log.makeRecord(_log.name, logging.WARNING, "", 0, what, (), None, extra=extra))
            )

    def _write(self) -> None:
        # Past `sys.stderr`, whose lock a thread that is stuck would keep from the end of the process.
        while (line := self._waiting.get()) is not None:
            data = f"{line}\n".encode(sys.stderr.encoding, "backslashreplace")
            with contextlib.suppress(OSError):
                while data:
                    data = data[os.write(self._fd, data) :]


def set_up(level: str, format: str) -> Lines:
    """Send the log to standard error, until what is returned is closed; libraries speak from `warning` on."""
    lines = Lines(sys.stderr.fileno(), JsonLines() if format == "json" else TextLines())
    logging.basicConfig(level=logging.WARNING, handlers=[lines], force=True)
    logging.getLogger("fairlead").setLevel(level.upper())
    return lines


def _extra(record: logging.LogRecord) -> Mapping[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}


def _plain(value: object) -> str:
    """A value on one line, quoted where it holds what would end it."""
    text = str(value)
    return (
        json.dumps(text, ensure_ascii=False)
        if not text or any(c.isspace() or c in '"=' for c in text)
        else text
    )
