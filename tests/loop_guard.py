# SPDX-License-Identifier: Apache-2.0
"""Finds where Fairlead's own code blocks a running event loop: files, sleeps, name look-ups, processes, SQL.

Python announces such calls to audit hooks, before it makes them, and SQLite each statement to a trace
callback; both run in the calling thread, so a running loop there is one that would stand still. No clock is
asked, so a busy machine changes nothing. It does not see locks, nor reads of what is open already.
"""

from __future__ import annotations

import socket
import sqlite3
import sys
import time
from asyncio import _get_running_loop
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

OURS = str(Path(__file__).parents[1] / "src" / "fairlead")
WATCHED = frozenset(
    {
        "open", "subprocess.Popen", "os.system", "sqlite3.connect", "shutil.copyfile",
        "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename", "os.truncate",
        "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr",
    }
)  # fmt: skip
EXCUSED = ("<frozen importlib", "linecache.py", "traceback.py")
"""Loading a module or printing a traceback reads files, once; that is not worth a thread."""


class BlockedLoopError(AssertionError):
    """A call that blocks was made while an event loop was running in the same thread."""


_seen: list[str] | None = None


def _blame() -> str | None:
    """The line of Fairlead that makes the call, None where it is somebody else's business."""
    frame: FrameType | None = sys._getframe(2)
    culprit = None
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib") or name.endswith(EXCUSED):
            return None
        if culprit is None and name.startswith(OURS):
            culprit = f"{name}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return culprit


def _check(what: str) -> None:
    if _seen is None or _get_running_loop() is None:
        return
    if culprit := _blame():
        _seen.append(f"{what} blocks the event loop: {culprit}")
        raise BlockedLoopError(_seen[-1])


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _seen is None:
        return
    if event in WATCHED:
        first = arguments[0] if arguments else None
        if event == "socket.connect" and isinstance(first, socket.socket) and first.gettimeout() == 0:
            return  # asyncio's own way to connect
        _check(f"{event} {arguments[:2]}")


sys.addaudithook(_hook)
_sleep = time.sleep
_connect = sqlite3.connect


def _watched_sleep(seconds: float) -> None:
    _check(f"time.sleep({seconds})")  # announced to hooks only from Python 3.13 on
    _sleep(seconds)


def _watched_connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
    connection: sqlite3.Connection = _connect(*arguments, **options)
    connection.set_trace_callback(_check)
    return connection


@contextmanager
def guarded() -> Iterator[None]:
    """Raise BlockedLoopError at the call that blocks, and again at the end where that was caught."""
    global _seen  # noqa: PLW0603 -- an audit hook cannot be removed, only told to look away
    before, _seen = _seen, []
    try:
        with patch.object(time, "sleep", _watched_sleep), patch.object(sqlite3, "connect", _watched_connect):
            yield
        found = _seen
    finally:
        _seen = before
    if found:
        raise BlockedLoopError("\n".join(found))
