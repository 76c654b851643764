# SPDX-License-Identifier: Apache-2.0
"""A service of OpenStack in small, run as a program: real oslo libraries, its notifications, its ways to run.

    openstack_service.py MODE CONFIG [ARGUMENT…]

It says what it has done line by line on stdout; its log is stderr. It is a process of its own because
eventlet patches the whole of one, and because these libraries warn when they are imported.
"""

from __future__ import annotations

import logging
import os
import posix
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

MODE = sys.argv[1]
EVENTLET = MODE.startswith("eventlet")
if EVENTLET:
    import eventlet

    eventlet.monkey_patch()

import threading  # noqa: E402  # after the patching, as in services

import oslo_messaging  # noqa: E402
from oslo_config import cfg  # noqa: E402


def tell(*words: object) -> None:
    """One line, at once and whole: another process may read it before we are killed.

    `os.write` is green under eventlet, and this must work wherever it is called.
    """
    posix.write(1, (" ".join(map(str, words)) + "\n").encode())


def wait_for_line() -> None:
    """One line of stdin; other greenlets go on."""
    if EVENTLET:
        eventlet.hubs.trampoline(0, read=True)
    posix.read(0, 1)


def notifier_of(path: str) -> Any:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    conf = cfg.ConfigOpts()
    conf(args=[], project="heat", default_config_files=[path])
    transport = oslo_messaging.get_notification_transport(conf)
    return oslo_messaging.Notifier(transport, "orchestration.host1")


def stack(stack: str, number: int) -> dict[str, Any]:
    return {"stack_identity": stack, "stack_name": stack, "number": number}


def send(notifier: Any, name: str, count: int, start: int = 0) -> None:
    """As Heat does: `start` and `end` at INFO, every third an `error`."""
    for number in range(start, start + count):
        if number % 3 == 2:
            notifier.error({}, "orchestration.stack.update.error", stack(name, number))
        else:
            notifier.info({}, "orchestration.stack.update.start", stack(name, number))
        tell(name, number)


def driver_of(notifier: Any) -> Any:
    return next(each.obj for each in notifier._driver_mgr if each.name == "fairlead")


def drained(notifier: Any) -> None:
    """Wait until the outbox is empty."""
    left = driver_of(notifier)._publisher.flush(30)
    tell("left", left)


# -- ways to run -----------------------------------------------------------------------------------------


def plain(notifier: Any, name: str, count: str) -> None:
    send(notifier, name, int(count))
    drained(notifier)


def leave(notifier: Any, name: str, count: str) -> None:
    """Notify and end, whatever has been forwarded."""
    send(notifier, name, int(count))


def endless(notifier: Any, name: str) -> None:
    send(notifier, name, 1_000_000)


def steps(notifier: Any, name: str, *counts: str) -> None:
    """Notify so often, and again after each line on stdin."""
    start = 0
    for count in counts:
        send(notifier, name, int(count), start)
        start += int(count)
        tell("step", start)
        wait_for_line()


def side_by_side(notifier: Any, names: str, count: str) -> None:
    """In threads; under eventlet they are greenlets."""
    threads = [threading.Thread(target=send, args=(notifier, name, int(count))) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    drained(notifier)


def forks(notifier: Any, count: str) -> None:
    send(notifier, "parent", 3)
    children = []
    for number in range(3):
        pid = os.fork()
        if pid == 0:
            if EVENTLET:
                eventlet.hubs.use_hub()  # as oslo.service does it in its workers
            send(notifier, f"child{number}", int(count))
            drained(notifier)
            os._exit(0)
        children.append(pid)
    send(notifier, "parent", int(count), start=3)
    for pid in children:
        tell("ended", os.waitpid(pid, 0)[1])
    drained(notifier)


def forks_that_lose(notifier: Any, count: str) -> None:
    """Lose a burst, and a burst in a child, and wait for a line."""
    send(notifier, "parent", int(count))
    pid = os.fork()
    if pid == 0:
        send(notifier, "child", int(count))
    wait_for_line()
    if pid != 0:
        os.waitpid(pid, 0)


def status(notifier: Any, *counts: str) -> None:
    """Notify so often, and say how the driver stands; again after each line on stdin."""
    for number, count in enumerate(counts):
        send(notifier, f"round{number}", int(count))
        now = driver_of(notifier).status()
        tell(
            "status",
            now.lost,
            None if now.outbox is None else now.outbox.lost and now.outbox.lost.count,
            now.error,
        )
        wait_for_line()


def unusual(notifier: Any) -> None:
    """What a payload may hold that JSON does not."""
    import datetime
    import uuid

    at = datetime.datetime(2026, 11, 22, 14, 7, 50)
    ring: list[Any] = []
    ring.append(ring)
    for payload in (
        {"stack_identity": "k", "at": at, "id": uuid.UUID(int=7), "raw": b"bytes", "set": {1}},
        {"stack_identity": "k", "rate": float("nan"), "name": "half \ud800"},
        {"stack_identity": "k", "ring": ring},
        {"stack_identity": "k", "last": True},
    ):
        notifier.info({}, "orchestration.stack.update.start", payload)
    drained(notifier)


def context(notifier: Any) -> None:
    """A context with a login; the driver beside messagingv2 sees it in the message too."""
    from oslo_context.context import RequestContext

    request = RequestContext(auth_token="gAAAAA-token", user_id="u-1", request_id="req-1")
    notifier.info(request, "orchestration.stack.create.start", stack("k", 0))
    drained(notifier)


# -- what only eventlet has ------------------------------------------------------------------------------


def eventlet_waits(notifier: Any, outbox: str) -> None:
    """While another holds the file, who notifies waits, and nobody else."""
    file = sqlite3.connect(outbox, isolation_level=None)
    file.execute("BEGIN IMMEDIATE")
    notifying = eventlet.spawn(send, notifier, "k", 3)
    for _ in range(30):
        eventlet.sleep(0.01)
    tell("waiting", not notifying.dead)
    file.execute("ROLLBACK")
    notifying.wait()
    drained(notifier)


def eventlet_shares(notifier: Any, outbox: str) -> None:
    """Greenlets that wait for a commit share the next one."""
    file = sqlite3.connect(outbox, isolation_level=None)
    file.execute("BEGIN IMMEDIATE")
    publisher = driver_of(notifier)._publisher
    append, sizes = publisher._process().outbox.append, []

    def counted(events: Any) -> Any:
        sizes.append(len(events))
        return append(events)

    publisher._process().outbox.append = counted
    notifying = [eventlet.spawn(send, notifier, f"k{number}", 1) for number in range(50)]
    eventlet.sleep(0)
    file.execute("ROLLBACK")
    for each in notifying:
        each.wait()
    tell("commits", *sizes)
    drained(notifier)


def eventlet_foreign(notifier: Any, count: str) -> None:
    """From eventlet's pool of real threads, and from greenlets at the same time."""
    from eventlet import tpool

    def foreign(name: str) -> None:
        tpool.execute(send, notifier, name, int(count))

    threads = [eventlet.spawn(foreign, name) for name in ("t1", "t2", "t3")]
    threads += [eventlet.spawn(send, notifier, name, int(count)) for name in ("g1", "g2", "g3")]
    for thread in threads:
        thread.wait()
    drained(notifier)


def eventlet_hub(notifier: Any) -> None:
    """From a timer of the hub, which cannot wait for itself."""
    done = eventlet.event.Event()

    def call() -> None:
        send(notifier, "hub", 1)
        done.send(True)

    eventlet.hubs.get_hub().schedule_call_global(0, call)
    done.wait()
    drained(notifier)


def eventlet_killed(notifier: Any, outbox: str) -> None:
    """A greenlet that is killed while it waits for its turn, or while it stores for others, harms nobody."""
    file = sqlite3.connect(outbox, isolation_level=None, check_same_thread=False)
    for victim in range(2):
        file.execute("BEGIN IMMEDIATE")
        notifying = [eventlet.spawn(send, notifier, f"round{victim}-{number}", 3) for number in range(5)]
        eventlet.sleep(0)  # the first one leads, the others wait
        ends = eventlet.patcher.original("threading").Timer(0.2, file.execute, ["ROLLBACK"])
        ends.start()
        notifying[1 - victim].kill()
        for each in notifying:
            if each is not notifying[1 - victim]:
                each.wait()
        ends.join()
    send(notifier, "after", 20)
    drained(notifier)


def eventlet_launched(notifier: Any, workers: str, count: str) -> None:
    """Workers forked by oslo.service's launcher, after this process has notified; until SIGTERM."""
    from oslo_service import service

    class Worker(service.ServiceBase):  # type: ignore[misc]  # it ships no types
        def start(self) -> None:
            eventlet.spawn(send, notifier, f"worker-{os.getpid()}", int(count))

        def stop(self) -> None:
            return

        def wait(self) -> None:
            return

        def reset(self) -> None:
            return

    send(notifier, "parent", 3)
    launcher = service.ProcessLauncher(notifier.transport.conf)
    launcher.launch_service(Worker(), workers=int(workers))
    launcher.wait()


WAYS: dict[str, Callable[..., None]] = {
    name: way for name, way in list(globals().items()) if callable(way) and not name.startswith("_")
}

if __name__ == "__main__":
    way = MODE.removeprefix("eventlet-") if MODE.removeprefix("eventlet-") in WAYS else MODE.replace("-", "_")
    WAYS[way](notifier_of(sys.argv[2]), *sys.argv[3:])
