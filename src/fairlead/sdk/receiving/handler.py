# SPDX-License-Identifier: Apache-2.0
"""Calling a user's handler, sync or async, from the thread that carries a delivery."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from fairlead.core.event import Event
from fairlead.drivers.this_process import Process, this_process

# The second argument is whatever the inbox's `begin` returned.
Handler = Callable[[Event, Any], Awaitable[None] | None]
Call = Callable[[Event, Any], None]


def is_async(handler: Handler) -> bool:
    """Whether a handler is a coroutine function, or an object whose `__call__` is one."""
    call = getattr(handler, "__call__", None)  # noqa: B004  # wanted is the method itself
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)


def caller(handler: Handler, loop: asyncio.AbstractEventLoop | None, background: BackgroundLoop) -> Call:
    """How to run a handler to its end from a worker thread.

    A sync handler runs in that thread. An async one runs on `loop`, the server's own, or where there is none
    (WSGI) on one that lives in the background; the worker thread waits for it.
    """
    if not is_async(handler):
        return _plain(handler)

    def call(event: Event, transaction: Any) -> None:
        running = loop or background.loop()
        coroutine = _awaited(handler, event, transaction)
        asyncio.run_coroutine_threadsafe(coroutine, running).result()

    return call


def _plain(handler: Handler) -> Call:
    def call(event: Event, transaction: Any) -> None:
        result = handler(event, transaction)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise TypeError(
                f"{handler!r} returned an awaitable but is no coroutine function; declare it with `async def`"
            )

    return call


async def _awaited(handler: Handler, event: Event, transaction: Any) -> None:
    result = handler(event, transaction)
    if result is not None:
        await result


class BackgroundLoop:
    """One event loop in a daemon thread, started at its first use, anew after a fork."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._process: Process = (0, 0)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        if self._process != this_process():
            self._guard = threading.Lock()  # the inherited one may be held by a thread that is not here
            self._process, self._loop = this_process(), None
        with self._guard:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="fairlead-loop", daemon=True
                )
                self._thread.start()
            return self._loop

    def close(self) -> None:
        """Stop the loop, if it runs in this process."""
        if self._loop is None or self._thread is None or self._process != this_process():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None
