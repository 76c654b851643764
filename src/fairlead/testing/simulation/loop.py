# SPDX-License-Identifier: Apache-2.0
"""An event loop without a world: seeded, its time virtual, its processes mortal.

Nothing waits: where nothing is ready the clock jumps to the next timer. Callbacks belong to the process in
whose context they were made; a killed process runs no further step, not even a `finally`, as after `kill -9`.
What is ready runs in an order that the seed decides; in half of the seeds callbacks of one process keep
theirs, as asyncio promises.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")
MOST_STEPS = 400_000


class Process:
    """Something that can be killed.

    Attributes:
        alive: False once it was killed.
        calls: futures of others who wait for it; they get `ConnectionError` when it dies.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.calls: dict[asyncio.Future[Any], None] = {}
        self.ready: deque[asyncio.Handle] = deque()
        self.listed = False
        self.context = copy_context()
        self.context.run(_current.set, self)


_current: ContextVar[Process] = ContextVar("process")


class SimulatedLoop(asyncio.AbstractEventLoop):
    """Runs one simulation.

    Args:
        orderly: callbacks of one process keep their order; None: the seed decides.

    Attributes:
        defects: what ended in an exception that nobody took.
        steps: how many callbacks have run.
        over: what still runs only ends.
    """

    def __init__(self, random: Random, *, orderly: bool | None = None) -> None:
        self.defects: list[str] = []
        self.steps = 0
        self._random = random
        self._orderly = random.random() < 0.5 if orderly is None else orderly
        self._now = 0.0
        self._world = Process("world")
        self._busy: list[Process] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Process]] = []
        self._timer_number = 0
        self._tasks: dict[asyncio.Task[Any], None] = {}  # until they end, however dead their process
        self._limbo: list[tuple[asyncio.Handle, Process]] = []
        self.over = False

    # -- running -------------------------------------------------------------------------------------------

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end; then end whatever else there is, the dead included.

        Raises:
            RuntimeError: nothing is left that could happen, or too much happened.
            Whatever `main` raises.
        """
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(main)
            try:
                while not task.done():
                    self._step()
            finally:
                self._bury()
            return task.result()
        finally:
            asyncio._set_running_loop(before)

    def spawn(self, process: Process, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine as part of a process."""
        context = copy_context()
        context.run(_current.set, process)
        return self.create_task(work, context=context)

    def later(self, process: Process, seconds: float, work: Callable[..., object], *arguments: Any) -> None:
        """Have a process do something after a while, if it lives by then; 0: as soon as it can."""
        if seconds > 0.0:
            self.call_later(seconds, work, *arguments, context=process.context)
        else:
            self.call_soon(work, *arguments, context=process.context)

    def kill(self, process: Process) -> None:
        """End a process between two of its steps: nothing of it runs any more."""
        process.alive = False
        self._limbo += [(handle, process) for handle in process.ready]
        process.ready.clear()
        calls, process.calls = process.calls, {}
        for call in calls:
            if not call.done():
                call.set_exception(ConnectionError(f"{process.name} died"))

    def _step(self) -> None:
        while not self._busy:
            self._jump()
        index = self._random.randrange(len(self._busy)) if len(self._busy) > 1 else 0
        process = self._busy[index]
        if not process.ready:
            self._busy[index] = self._busy[-1]
            self._busy.pop()
            process.listed = False
            return
        if not self._orderly and len(process.ready) > 1:
            process.ready.rotate(self._random.randrange(len(process.ready)))
        handle = process.ready.popleft()
        if not handle.cancelled():
            self.steps += 1
            if self.steps > MOST_STEPS and not self.over:
                raise RuntimeError(f"more than {MOST_STEPS} steps at {self._now:.3f} s: something spins")
            handle._run()

    def _jump(self) -> None:
        """To the next timer; every timer of that moment is ready then."""
        if not self._timers:
            raise RuntimeError("nothing is ready and nothing waits for a time: a deadlock")
        self._now = max(self._now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now:
            _, _, handle, process = heapq.heappop(self._timers)
            if not handle.cancelled():
                self._make_ready(handle, process)

    def _make_ready(self, handle: asyncio.Handle, process: Process) -> None:
        if not process.alive and not self.over:
            self._limbo.append((handle, process))
        else:
            if not process.listed:
                process.listed = True
                self._busy.append(process)
            process.ready.append(handle)

    def _bury(self) -> None:
        """End every task, so that none is destroyed half-way; what they do then changes nothing any more."""
        self.over = True
        self._timers.clear()
        for handle, process in self._limbo:  # what the dead would have done next: their tasks hang on it
            self._make_ready(handle, process)
        for _ in range(20):
            living = [task for task in self._tasks if not task.done()]
            if not living:
                return
            for task in living:
                task.cancel()
            while self._busy:
                self._step()
            self._timers.clear()
        names = ", ".join(task.get_coro().__qualname__ for task in living[:3])  # type: ignore[union-attr]
        self.defects.append(f"cannot be cancelled: {names}")

    # -- what asyncio asks of a loop -----------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        context = copy_context() if context is None else context  # an empty one is false
        handle = asyncio.Handle(callback, args, self, context)
        self._make_ready(handle, context.get(_current, self._world))
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # there are no threads

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        context = copy_context() if context is None else context  # an empty one is false
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._timer_number += 1
        process = context.get(_current, self._world)
        heapq.heappush(self._timers, (when, self._timer_number, handle, process))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override,unused-ignore]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        task = asyncio.Task(coro, loop=self, name=name or "task", context=context)
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        if self.over:
            task.cancel()  # before its first step
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if self.over or isinstance(error, ConnectionError):
            return
        self.defects.append(f"{context['message']}: {error!r}{where(error)}")


def where(error: object) -> str:
    """The places of an error within Fairlead, the innermost last."""
    trace = error.__traceback__ if isinstance(error, BaseException) else None
    places = []
    while trace is not None:
        code = trace.tb_frame.f_code
        if "fairlead" in code.co_filename:
            places.append(f"{code.co_filename.rpartition('fairlead/')[2]}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " by " + " > ".join(places) if places else ""
