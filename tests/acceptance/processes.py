# SPDX-License-Identifier: Apache-2.0
"""Relays and receivers as real processes: direct children, each in a session of its own."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from tests.acceptance.api import Api
from tests.acceptance.waiting import free_port, refused, until

ROOT = Path(__file__).parents[2]
KILLED = -signal.SIGKILL
STOP_SECONDS = 60.0
PROGRAM = (sys.executable, "-m", "fairlead")

QUICK = """
[breaker]
probe_every = "100ms"
probe_max = "400ms"

[delivery]
timeout = "5s"

[delivery.retry]
first = "50ms"
max = "400ms"
"""
"""What tests want of a relay: to try again soon."""


IMPATIENT = '[store_options]\nbusy_timeout = "50ms"\n'
"""Of one that gives up soon where its store is locked."""


class Child:
    """One process at a time, started again and again with the same command; its output goes to a file.

    Args:
        name: of its output in `place`.
        ready: what its output holds when it can be used.
    """

    def __init__(
        self,
        place: Path,
        name: str,
        command: Sequence[str],
        *,
        ready: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.place = place
        self.command = list(command)
        self.environment = dict(environment or {})
        self.output = place / f"{name}.log"
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it has not been started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self) -> Self:
        """Start it; does not wait for anything."""
        assert not self.alive
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.place,
                env={**_environment(), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def start(self) -> Self:
        """Start it and wait until it can be used."""
        self.launch()
        until(lambda: self.is_ready or not self.alive, f"{self.output.name} is ready")
        assert self.is_ready, f"it ended with {self.process.poll()}: {self.said}"
        return self

    @property
    def is_ready(self) -> bool:
        return self._ready in self.said

    @property
    def said(self) -> str:
        """What it has printed since its start."""
        return self.output.read_text(errors="replace")

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone; nothing if it has ended already."""
        self.process.kill()
        self.process.wait()

    def ended(self) -> int:
        """Wait until it has ended by itself; its exit status."""
        until(lambda: not self.alive, lambda: f"{self.output.name} ends; it said {self.said[-2000:]}")
        return self.process.wait()

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        self.process.terminate()
        return self.process.wait(STOP_SECONDS)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.kill()


class RelayProcess(Child):
    """`fairlead serve` on a store and a port of its own.

    Args:
        config: the text of its `fairlead.toml`.
        store: where the store's file is, if not in `place`.
    """

    def __init__(
        self,
        place: Path,
        config: str = QUICK,
        *,
        store: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.store = store or place / "fairlead.db"
        (place / "fairlead.toml").write_text(config)
        command = [
            *PROGRAM, "serve",
            "--listen", f"127.0.0.1:{self.port}", "--store", f"sqlite:///{self.store}",
        ]  # fmt: skip
        super().__init__(place, "relay", command, ready="fairlead ready at", environment=environment)
        self.api = Api(self.port)

    def launch(self) -> Self:
        """See `Child.launch`; the port of one that was killed is free first."""
        until(lambda: refused(self.port), "the port is free")
        return super().launch()

    def restart(self) -> Self:
        """`kill -9` and start again."""
        self.kill()
        return self.start()


@contextmanager
def locked(relay: RelayProcess) -> Iterator[None]:
    """Nothing can be stored meanwhile."""
    with closing(sqlite3.connect(relay.store, isolation_level=None, timeout=60)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


class ReceiverProcess(Child):
    """A receiver with an application history of its own, which it answers for only when it is on disk.

    Args:
        secret: the subscription's; a receiver with the library if given, else a plain one.
        fail: which share of its deliveries it refuses, or takes without the answer getting through.
        dies_in, dies_of: at the first delivery of the event with that id it kills itself, in the `handler`
            after it has written, or before the `answer` is sent.
        bus, queue: with the library: it consumes there too. `relay_url` takes answers that the bus does not.
    """

    def __init__(
        self,
        place: Path,
        name: str,
        *,
        secret: str | None = None,
        fail: float = 0.0,
        dies_in: str | None = None,
        dies_of: str | None = None,
        bus: Sequence[str] = (),
        queue: str = "",
        relay_url: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.history = place / f"{name}.db"
        options = {
            "port": self.port, "history": str(self.history), "secret": secret, "fail": fail,
            "dies_in": dies_in, "dies_of": dies_of, "bus": list(bus), "queue": queue, "relay_url": relay_url,
        }  # fmt: skip
        command = [sys.executable, "-m", "tests.acceptance.receiver_process", json.dumps(options)]
        super().__init__(place, name, command, ready="receiver ready", environment=environment)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def launch(self) -> Self:
        """See `RelayProcess.launch`."""
        until(lambda: refused(self.port), "the port is free")
        return super().launch()


def _environment() -> dict[str, str]:
    """Ours, without what configures a relay or a client; this project's tests can be imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}
    path = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    return {**kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}


def fairlead(*arguments: str, place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command of the command line to its end."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=place,
        env={**_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def serve_once(place: Path, *arguments: str, **environment: Any) -> subprocess.CompletedProcess[str]:
    """`fairlead serve` where it must end by itself, soon."""
    return fairlead("serve", *arguments, place=place, **environment)
