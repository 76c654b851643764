# SPDX-License-Identifier: Apache-2.0
"""A service of OpenStack as tests start it: its configuration, and processes that run with it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.contract.publishing import DEADLINE_SECONDS

PROGRAM = Path(__file__).with_name("openstack_service.py")


@dataclass
class Service:
    """A configuration, and the programs that run with it."""

    place: Path

    @property
    def outbox(self) -> Path:
        return self.place / "outbox.db"

    def configure(
        self, *, drivers: str = "fairlead", transport: str = "fake://", more: str = "", **options: str
    ) -> None:
        """Write `heat.conf`: `options` are those of `[fairlead]`, `drivers` are named with spaces between."""
        named = "".join(f"driver = {driver}\n" for driver in drivers.split())
        ours = "".join(f"{name} = {value}\n" for name, value in options.items())
        (self.place / "heat.conf").write_text(
            f"[DEFAULT]\ntransport_url = {transport}\n"
            f"[oslo_messaging_notifications]\n{named}\n[fairlead]\n{ours}\n{more}"
        )

    def start(self, mode: str, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", PROGRAM, mode, self.place / "heat.conf", *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, mode: str, *arguments: object) -> tuple[list[str], str]:
        """What it said, and its log."""
        with self.start(mode, *arguments) as process:
            try:
                out, log = process.communicate(timeout=2 * DEADLINE_SECONDS)
            finally:
                process.kill()
        assert process.returncode == 0, log
        return out.splitlines(), log
