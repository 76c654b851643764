# SPDX-License-Identifier: Apache-2.0
"""A service of OpenStack that notifies through the driver `fairlead` and times each call.

    openstack_service.py threads|eventlet CONFIG CALLERS CALLS PAUSE

Each caller pauses for PAUSE seconds between calls. Prints one JSON object, all sorted and in milliseconds:
`calls`; `commits`, of a bare SQLite file with one row each, fsynced, before anything else runs; and under
eventlet `late`: by how much a greenlet that sleeps for a millisecond at a time was late while calls waited.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from typing import Any

MODE, CONFIG = sys.argv[1:3]
CALLERS, CALLS, PAUSE_SECONDS = int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
if MODE == "eventlet":
    import eventlet

    eventlet.monkey_patch()

import threading  # noqa: E402  # after the patching, as in services

import oslo_messaging  # noqa: E402
from oslo_config import cfg  # noqa: E402

PAYLOAD = {
    "tenant_id": "6f70656e737461636b20342065766572", "user_id": "fred", "user_identity": "u-1",
    "username": "fred", "stack_name": "fred", "state": "CREATE_COMPLETE", "tags": None,
    "state_reason": "Stack CREATE completed successfully", "create_at": "2026-11-22T14:07:50Z",
    "updated_at": None, "description": "x" * 200,
}  # fmt: skip


def timed(notifier: Any) -> list[float]:
    """Every caller's calls, in milliseconds."""
    taken: list[float] = []

    def call(caller: int) -> None:
        for number in range(CALLS):
            payload = {**PAYLOAD, "stack_identity": f"stack-{caller}-{number % 50}"}
            begun = time.perf_counter()
            notifier.info({}, "orchestration.stack.create.end", payload)
            taken.append((time.perf_counter() - begun) * 1000)
            time.sleep(PAUSE_SECONDS)

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(taken)


def bare_commits(path: str) -> list[float]:
    """What the disk alone takes."""
    taken = []
    file = sqlite3.connect(path, isolation_level=None)
    file.execute("PRAGMA journal_mode=WAL").fetchone()
    file.execute("PRAGMA synchronous=FULL")
    file.execute("CREATE TABLE t (body)")
    for _ in range(500):
        begun = time.perf_counter()
        file.execute("INSERT INTO t VALUES (?)", (b"x" * 900,))
        taken.append((time.perf_counter() - begun) * 1000)
    file.close()
    return sorted(taken)


def main() -> None:
    conf = cfg.ConfigOpts()
    conf(args=[], project="heat", default_config_files=[CONFIG])
    transport = oslo_messaging.get_notification_transport(conf)
    late: list[float] = []

    def tick() -> None:
        while True:
            begun = time.perf_counter()
            time.sleep(0.001)
            late.append((time.perf_counter() - begun) * 1000 - 1)

    commits = bare_commits(f"{CONFIG}.bare.db")
    notifier = oslo_messaging.Notifier(transport, "orchestration.host1", driver="fairlead")
    if MODE == "eventlet":
        eventlet.spawn(tick)
    calls = timed(notifier)
    driver = next(each.obj for each in notifier._driver_mgr)
    assert driver._publisher.flush(60) == 0
    assert driver.status().lost == 0
    print(json.dumps({"calls": calls, "commits": commits, "late": sorted(late)}))


if __name__ == "__main__":
    main()
