# SPDX-License-Identifier: Apache-2.0
"""Working under eventlet, which many services of OpenStack run in.

After `eventlet.monkey_patch()` the threads and locks of the standard library are greenlets of one thread of
the system, the hub's: who blocks it holds up the whole service, and a green lock must not be touched from
another thread. What has to block (a commit) therefore runs in a thread of the system while only its greenlet
waits. Without eventlet all of this is what the standard library does; eventlet itself is never imported here.
"""

from __future__ import annotations

import os
import posix
import sys
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def _eventlet() -> Any:
    """`eventlet.patcher` where it has replaced the threads of this process, else None."""
    patcher: Any = sys.modules.get("eventlet.patcher")
    return patcher if patcher is not None and patcher.is_monkey_patched("thread") else None


def system_lock() -> threading.Lock:
    """A lock between threads of the system; no greenlet may switch while it holds it."""
    patcher = _eventlet()
    lock: threading.Lock = threading.Lock() if patcher is None else patcher.original("threading").Lock()
    return lock


def outside_greenlets() -> bool:
    """Whether, under eventlet, the caller is no greenlet that could wait for others.

    It is in a thread of the system other than the hub's, or the hub itself in a timer's callback. It may
    block, and must not touch what greenlets share: no green lock, condition or event.
    """
    patcher = _eventlet()
    if patcher is None:
        return False
    main: int | None = patcher.original("threading").main_thread().ident
    if patcher.original("_thread").get_ident() != main:
        return True
    hub: Any = sys.modules["eventlet.hubs"].get_hub()
    return bool(hub.greenlet is sys.modules["greenlet"].getcurrent())


def off_hub(call: Callable[P, R]) -> Callable[P, R]:
    """Let a function that blocks run in a thread of the system where its caller is a greenlet.

    The function must not log, nor use any green lock. It runs to its end: if its caller is killed meanwhile,
    that is raised then.
    """

    @wraps(call)
    def wherever(*args: P.args, **kwargs: P.kwargs) -> R:
        patcher = _eventlet()
        if patcher is None or outside_greenlets():
            return call(*args, **kwargs)
        outcome: list[tuple[R | None, BaseException | None]] = []

        def run() -> None:
            try:
                outcome.append((call(*args, **kwargs), None))
            except BaseException as error:  # the caller's, wherever it was raised
                outcome.append((None, error))

        _wait_for(patcher.original("_thread").start_new_thread, run)
        value, error = outcome.pop()  # no cycle keeps what it holds
        if error is not None:
            raise error
        return value  # type: ignore[return-value]  # without an error it is the call's

    return wherever


def _wait_for(
    start_thread: Callable[[Callable[[], None], tuple[()]], object], run: Callable[[], None]
) -> None:
    """Run in a new thread of the system; the greenlet waits for a byte in a pipe of its own.

    A byte, for the end of the pipe would not be seen while the child of a fork holds a copy of it.
    """
    reading, writing = os.pipe()

    def run_and_tell() -> None:
        run()
        posix.write(writing, b"\0")  # os.write may be a green one
        os.close(writing)

    try:
        try:
            start_thread(run_and_tell, ())
        except RuntimeError:  # no thread can be had
            os.close(writing)
            raise
        try:
            sys.modules["eventlet.hubs"].trampoline(reading, read=True)
        except BaseException:  # killed: what is under way ends first, for somebody has to learn of its end
            posix.read(reading, 1)
            raise
    finally:
        os.close(reading)
