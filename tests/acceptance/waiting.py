# SPDX-License-Identifier: Apache-2.0
"""Waiting for something that other processes bring about: by its condition, never by the clock."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar

DEADLINE_SECONDS = 120.0
"""How long a test waits for what must happen; reached only when it does not."""

PAUSE_SECONDS = 0.02

T = TypeVar("T")


def until(
    condition: Callable[[], T], what: str | Callable[[], str], deadline_seconds: float = DEADLINE_SECONDS
) -> T:
    """Poll until `condition` is true, and return it.

    Args:
        what: said when it did not come about; called then if it is a function.
    """
    deadline = time.monotonic() + deadline_seconds
    pause = threading.Event()
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what if isinstance(what, str) else what()}: it did not come about")
        pause.wait(PAUSE_SECONDS)
    return found


def free_port() -> int:
    """A port that nobody listens on, out of the range from which outgoing connections get theirs."""
    while True:
        port = random.randrange(15_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def refused(port: int) -> bool:
    """Whether nobody takes connections there (any more)."""
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(("127.0.0.1", port)) != 0
