# SPDX-License-Identifier: Apache-2.0
"""A relay without a bus: nothing of one is imported, installed or not, and whoever asks for it is told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.acceptance.waiting import free_port

WATCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pika":
            raise ModuleNotFoundError("somebody imports pika", name="pika")
sys.meta_path.insert(0, Refuse())
"""

HTTP_ONLY = """
import asyncio
from pathlib import Path
import fairlead, fairlead.cli, fairlead.config, fairlead.embedded, fairlead.wiring
from fairlead import Event, Publisher, Receiver, Relay

async def main():
    got = []
    async with Relay(sys.argv[1]) as relay:
        await relay.subscribe("here", lambda event: got.append(event.id))
        await relay.publish(Event(id="a", source="/s", type="t"))
        while not got:
            await asyncio.sleep(0.01)

asyncio.run(main())
ours = "fairlead.drivers.amqp.session"
loaded = [name for name in sys.modules if name.partition(".")[0] == "pika" or name == ours]
assert not loaded, loaded
print("delivered")
"""


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_relay_that_delivers_without_a_bus_imports_nothing_of_one(tmp_path: Path) -> None:
    assert run("import sys\n" + HTTP_ONLY, str(tmp_path / "f.db")) == "delivered\n"


def test_it_delivers_where_the_library_is_not_installed(tmp_path: Path) -> None:
    assert run(WATCH + HTTP_ONLY, str(tmp_path / "f.db")) == "delivered\n"


def test_serve_imports_nothing_of_a_bus(tmp_path: Path) -> None:
    arguments = [sys.executable, "-X", "importtime", "-m", "fairlead", "serve"]
    with (tmp_path / "imports").open("w") as imports:
        relay = subprocess.Popen(
            [*arguments, "--listen", f"127.0.0.1:{free_port()}"],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")},
            stdout=subprocess.PIPE,
            stderr=imports,
            text=True,
        )
        with relay:
            assert relay.stdout is not None
            assert relay.stdout.readline().startswith("fairlead ready at")
            relay.terminate()
        assert relay.returncode == 0
    imported = re.findall(r"\| *([a-z_][\w.]*)$", (tmp_path / "imports").read_text(), re.MULTILINE)
    assert "fairlead.transports.amqp" in imported, "else this looks at nothing"
    assert not [name for name in imported if name.partition(".")[0] == "pika"]
    assert "fairlead.drivers.amqp.session" not in imported
