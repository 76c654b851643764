# SPDX-License-Identifier: Apache-2.0
"""A receiver's program: with the library, or plain. Both keep a history that is on disk before they answer.

Some of the deliveries fail (the handler raises, before or after it wrote; a 503) or are taken without the
answer getting through (the connection ends), as often as asked.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import sqlite3
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop

from fairlead import Event, Receiver
from fairlead.sdk.inbox.sqlite_inbox import SqliteInbox, SqliteTransaction
from tests.acceptance.history import Applied
from tests.acceptance.small_server import Answer, serve

TABLE = """
CREATE TABLE IF NOT EXISTS history (
    number INTEGER PRIMARY KEY AUTOINCREMENT, subscription, generation, partition, key, position, id)
"""
INSERT = "INSERT INTO history (subscription, generation, partition, key, position, id) VALUES (?,?,?,?,?,?)"
SELECT = "SELECT subscription, generation, partition, key, position, id FROM history ORDER BY number"


def read_history(file: Path) -> list[Applied]:
    """What a receiver has applied, in order; also while it runs."""
    connection = sqlite3.connect(file, timeout=60)
    try:
        return [Applied(*row) for row in connection.execute(SELECT)]
    finally:
        connection.close()


def _open(file: str) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None, timeout=60)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(TABLE)
    return connection


def _row(stamps: Mapping[str, Any], key: str) -> tuple[Any, ...]:
    return (
        stamps["flsubscription"], int(stamps["flgeneration"]), int(stamps["flpartition"]), key,
        int(stamps["flpos"]), stamps["id"],
    )  # fmt: skip


class Faults:
    """How often what goes wrong; half of it fails, half loses the answer."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._share: float = options["fail"]
        self._dies_in, self._dies_of = options["dies_in"], options["dies_of"]
        self._died = Path(options["history"] + ".died")

    def dies(self, point: str, id: str) -> None:
        """Once, if this is the point."""
        if (point, id) == (self._dies_in, self._dies_of) and not self._died.exists():
            self._died.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def fails(self) -> bool:
        return random.random() < self._share / 2

    def loses(self) -> bool:
        return random.random() < self._share / 2


class Gates:
    """A handler stands before `<id>.shut` as long as there is such a file; it leaves `<id>.waits` there."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def pass_through(self, id: str) -> None:
        shut, pause = self._place / f"{id}.shut", threading.Event()
        while shut.exists():
            (self._place / f"{id}.waits").touch()
            pause.wait(0.02)


class WithLibrary:
    """`Receiver` on an inbox file, the history in the same transaction; on a bus too if there is one."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        _open(options["history"]).close()
        self._faults = Faults(options)
        inbox = SqliteInbox(options["history"], lease_seconds=3.0)  # soon free again after a kill
        relay_url = options["relay_url"]
        self._receiver = Receiver(self._take, secrets=[options["secret"]], inbox=inbox, relay_url=relay_url)
        self._gates = Gates(Path(options["history"]).parent)
        if options["bus"]:
            arguments = (options["bus"], options["queue"])
            threading.Thread(target=self._receiver.consume, args=arguments, daemon=True).start()

    def _take(self, event: Event, transaction: SqliteTransaction) -> None:
        if self._faults.fails():
            raise RuntimeError("before it wrote")
        self._gates.pass_through(event.id)
        transaction.execute(INSERT, _row(event.attributes, event.key))
        self._faults.dies("handler", event.id)
        if self._faults.fails():
            raise RuntimeError("after it wrote")

    async def handle(self, method: str, headers: dict[str, str], body: bytes) -> Answer | None:
        reply = await self._receiver.handle_async(method, headers, body)
        if reply.status == 200 and "fence" not in headers["content-type"]:
            self._faults.dies("answer", json.loads(body)["id"])
        return None if self._faults.loses() else (reply.status, reply.headers, reply.body)


class Plain:
    """Takes whatever comes, without looking whether it came before."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._history = _open(options["history"])
        self._faults = Faults(options)

    async def handle(self, method: str, headers: dict[str, str], body: bytes) -> Answer | None:
        if self._faults.fails():
            return 503, {}, b""
        stamps = json.loads(body)
        self._history.execute(INSERT, _row(stamps, f"{stamps['source']} {stamps['subject']}"))
        return None if self._faults.loses() else (204, {}, b"")


async def main(options: Mapping[str, Any]) -> None:
    """Serve until killed."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    receiver = WithLibrary(options) if options["secret"] else Plain(options)
    server = await serve(options["port"], receiver.handle)
    print("receiver ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(json.loads(sys.argv[1])))
