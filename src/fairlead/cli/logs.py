# SPDX-License-Identifier: Apache-2.0
"""The relay's log on standard error: lines for people, or one JSON object per line (`[log] format`)."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping

from fairlead.core.durations import format_time

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


def set_up(level: str, format: str) -> None:
    """Send the log to standard error; libraries speak from `warning` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if format == "json" else TextLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("fairlead").setLevel(level.upper())


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
