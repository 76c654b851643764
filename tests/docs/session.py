# SPDX-License-Identifier: Apache-2.0
"""A reader who does what a page says, in a folder of their own, against a relay of their own.

The addresses that pages name, 127.0.0.1:3247 and :3248, are replaced by free ports, so that pages can be read
at the same time. In expected output `…` stands for anything.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.pages import NOT_RUN, ROOT, Block

DEADLINE_SECONDS = 60.0
SERVERS = re.compile(r"(\S*/)?(make run|fairlead (serve|listen)|python receiver\.py)\b(?!.*--count)")
STOPPED = (0, 130, -signal.SIGINT)
"""What a program ends with that was stopped by Ctrl-C."""
ELLIPSIS = re.compile(r" ?… ?")
RELAY = re.compile(r"^\$ (make run|fairlead serve)", re.MULTILINE)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Running:
    """A program that goes on while the page is read."""

    command: str
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            self.lines.extend(iter(stream.readline, ""))

    def wait_for(self, expected: Sequence[str]) -> None:
        """Wait until it has said all of `expected`, in this order."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not seen_in_order(expected, self.lines):
            ended = self.process.poll() is not None and not self._reader.is_alive()
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"$ {self.command}\nexpected {expected}\nsaid {self.lines}")
            self._reader.join(0.02)

    def end(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def stop(self) -> int:
        """Ctrl-C; return what it exits with."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(DEADLINE_SECONDS)
        finally:
            self.end()


class Session:
    """One reader of one page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = {"3247": str(free_port()), "3248": str(free_port())}
        self._running: list[Running] = []
        self._acts: dict[str, Callable[[], object]] = {}
        programs = Path(sys.executable).parent
        (folder / ".venv").symlink_to(programs.parent)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}
        self._environment = kept | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "FAIRLEAD_URL": f"http://127.0.0.1:{self._ports['3247']}",
            "FAIRLEAD_LISTEN": f"127.0.0.1:{self._ports['3247']}",
            "FAIRLEAD_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "NO_COLOR": "1",
            "COLUMNS": "200",
            "PYTHONWARNINGS": "error",
            "PYTHONUNBUFFERED": "1",
        }

    def lend(self, address: str, port: int) -> None:
        """Have what a page says of a server's usual address go to one on this port."""
        self._ports[address] = f"127.0.0.1:{port}"

    def act(self, command: str, doing: Callable[[], object]) -> None:
        """Have a command that would change the system do the same to a server of the test's own."""
        self._acts[command] = doing

    def start_relay(self) -> None:
        """What a page takes for granted that does not start a relay itself."""
        self._serve("fairlead serve", ["fairlead ready at …"])

    def do(self, block: Block) -> None:
        """Do what a block says; AssertionError where it does not come out as the page says."""
        if block.info.startswith(NOT_RUN) or block.language in ("text", "mermaid", "json"):
            return
        doing = {"console": self._console, "bash": self._bash, "python": self._python, "toml": self._toml}
        doing[block.language](self._local(block.text))

    def close(self) -> list[str]:
        """Stop everything; the programs that did not end well, each as a line."""
        ends = [(one.command, one.stop(), one.lines) for one in reversed(self._running)]
        return [f"{command} exited {code}: {lines}" for command, code, lines in ends if code not in STOPPED]

    def _local(self, text: str) -> str:
        for port, mine in self._ports.items():
            text = text.replace(port, mine)
        return text

    def _console(self, text: str) -> None:
        for step in re.split(r"^(?=\$ |\^C)", text, flags=re.MULTILINE):
            first, *expected = step.rstrip("\n").split("\n")
            if first == "^C":
                stopped = self._running.pop()
                assert stopped.stop() in STOPPED, stopped.lines
                assert seen_in_order(expected, stopped.lines), stopped.lines
            elif first.startswith("$ "):
                command = first.removeprefix("$ ")
                if command in self._acts:
                    self._acts[command]()
                elif SERVERS.match(command):
                    self._serve(command.replace("make run", "fairlead serve"), expected)
                else:
                    said = self._run(["bash", "-e", "-o", "pipefail", "-c", command]).splitlines()
                    assert seen_in_order(expected, said), f"$ {command}\nexpected {expected}\nsaid {said}"

    def _serve(self, command: str, expected: Sequence[str]) -> None:
        if " listen" in command:
            command += f" --port {self._ports['3248']}"
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running = Running(command, process)
        self._running.append(running)
        running.wait_for(expected)

    def _bash(self, text: str) -> None:
        self._run(["bash", "-e", "-o", "pipefail", "-c", text])

    def _python(self, text: str) -> None:
        named = re.match(r"# (\w+\.py)\n", text)
        path = self.folder / (named[1] if named else "block.py")
        path.write_text(text)
        if "serve_forever" in text:
            self._serve(f"python {path.name} 0", ["listening on …"])
            self._running.pop().end()
        else:
            self._run([sys.executable, path.name])

    def _toml(self, text: str) -> None:
        (self.folder / "block.toml").write_text(text)
        # as the environment of a service gives it, which a file that others may read does not
        login = f"FAIRLEAD_AUTH_BOOTSTRAP_KEY=flk_{'k' * 32}"
        self._run(["env", login, "fairlead", "config", "check", "--config", "block.toml"])

    def _run(self, command: Sequence[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS * 2,
            check=False,
        )
        assert done.returncode == 0, f"$ {command[-1]}\nexited {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr


def seen_in_order(expected: Sequence[str], said: Sequence[str]) -> bool:
    """Whether each expected line is matched by a line, in this order; `…` matches anything."""
    lines = iter([" ".join(line.split()) for line in said])
    plain = [" ".join(one.split()) for one in expected if one]
    wanted = [re.compile(".*".join(map(re.escape, ELLIPSIS.split(one)))) for one in plain]
    return all(any(one.fullmatch(line) for line in lines) for one in wanted)


def starts_relay(blocks: Sequence[Block]) -> bool:
    """Whether a page starts a relay itself."""
    return any(block.language == "console" and RELAY.search(block.text) for block in blocks)


__all__ = ["DEADLINE_SECONDS", "ROOT", "Session", "seen_in_order", "starts_relay"]
