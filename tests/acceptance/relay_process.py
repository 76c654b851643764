# SPDX-License-Identifier: Apache-2.0
"""A real relay in a real process, and the command line against it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
DEADLINE_SECONDS = 60.0
PROGRAM = str(Path(sys.executable).with_name("fairlead"))
READY = re.compile(r"fairlead ready at (http://\S+) \(store (\S+), (\d+) subscriptions\)")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would configure Fairlead."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}
    return kept | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"} | dict(extra or {})


def eventually(look: Callable[[], T | None], what: str = "") -> T:
    """What `look` returns as soon as it is neither None nor False; AssertionError after a minute."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    pause = threading.Event()
    while True:
        seen = look()
        if seen is not None and seen is not False:
            return seen
        assert time.monotonic() < deadline, f"it never came to be: {what or look}"
        pause.wait(0.02)


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as the one JSON document that it is."""
        return json.loads(self.out)


@dataclass
class Program:
    """A `fairlead` process that goes on."""

    arguments: Sequence[str]
    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    stdout: int = subprocess.PIPE
    stderr: int = subprocess.PIPE
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [PROGRAM, *self.arguments],
            cwd=self.folder,
            env=environment(self.variables),
            stdin=subprocess.DEVNULL,
            stdout=self.stdout,
            stderr=self.stderr,
            text=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err))
            if stream is not None
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, lines: list[str]) -> None:
        with stream:
            lines.extend(line.rstrip("\n") for line in iter(stream.readline, ""))

    def expect(self, pattern: str) -> re.Match[str]:
        """The first line, on either stream, that matches; AssertionError if it ends without one."""

        def look() -> re.Match[str] | None:
            ended = self.process.poll() is not None and not any(one.is_alive() for one in self._readers)
            for line in (*self.out, *self.err):
                if found := re.search(pattern, line):
                    return found
            assert not ended, f"it ended {self.process.returncode} without {pattern!r}: {self.out} {self.err}"
            return None

        return eventually(look, pattern)

    def end(self, signal_: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal_)
        return self.wait()

    def wait(self) -> int:
        """Wait until it ends by itself."""
        try:
            code = self.process.wait(DEADLINE_SECONDS)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        for reader in self._readers:
            reader.join()
        return code


class RelayProcess(Program):
    """A relay on a free port with its store in `folder`."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        **variables: str,
    ) -> None:
        listen = [] if "--listen" in arguments else ["--listen", "127.0.0.1:0"]
        super().__init__(["serve", *listen, *arguments], folder, variables, stdout, stderr)
        self.url = ""

    def ready(self) -> RelayProcess:
        """Wait for the ready line."""
        self.url = self.expect(READY.pattern)[1]
        return self

    def __enter__(self) -> RelayProcess:
        return self.ready()

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)

    def run(self, *arguments: str, stdin: str = "", **variables: str) -> Done:
        """The command line against this relay, to its end."""
        return run(*arguments, folder=self.folder, stdin=stdin, FAIRLEAD_URL=self.url, **variables)

    def document(self, *arguments: str) -> Any:
        """What a command prints with `--json`; it must succeed."""
        done = self.run(*arguments, "--json")
        assert done.code == 0, done
        return done.document


def run(*arguments: str, folder: Path, stdin: str = "", **variables: str) -> Done:
    """The command line, to its end."""
    done = subprocess.run(
        [PROGRAM, *arguments],
        cwd=folder,
        env=environment(variables),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS * 2,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
