# SPDX-License-Identifier: Apache-2.0
"""How long oslo.messaging's `notify` takes with the driver `fairlead`, threaded and under eventlet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from benchmarks.machine import relay

SERVICE = Path(__file__).parents[1] / "openstack_service.py"
CALLS = 2000
SHAPES = (("one caller, without a pause", 1, 0.0), ("16 callers, each 20/s", 16, 0.05))


def run(folder: Path, url: str, mode: str, callers: int, pause_seconds: float) -> dict[str, Any]:
    """What one service measured."""
    place = folder / f"{mode}{callers}"
    place.mkdir(parents=True)
    (place / "heat.conf").write_text(
        f"[DEFAULT]\ntransport_url = fake://\n[fairlead]\nurl = {url}\noutbox = {place}/outbox.db\n"
    )
    arguments = [mode, str(place / "heat.conf"), str(callers), str(CALLS // callers), str(pause_seconds)]
    command = [sys.executable, "-W", "ignore", str(SERVICE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def at(values: list[float], share: float) -> float:
    return values[int(len(values) * share)]


def measure(folder: Path) -> list[Figure]:
    figures = []
    with relay(folder) as process:
        for mode in ("threads", "eventlet"):
            for shape, callers, pause_seconds in SHAPES:
                seen = run(folder, process.url, mode, callers, pause_seconds)
                calls, commits, late = seen["calls"], seen["commits"], seen["late"]
                detail = f"{len(calls)} calls, p99 {at(calls, 0.99):.2f} ms, worst {calls[-1]:.1f} ms"
                detail += (
                    f"; a bare fsynced commit p50 {at(commits, 0.5):.2f}, p99 {at(commits, 0.99):.2f} ms"
                )
                if late:
                    detail += (
                        f"; another greenlet late by p50 {at(late, 0.5):.2f}, p99 {at(late, 0.99):.2f} ms"
                    )
                figures.append(
                    Figure(f"OpenStack notify, {mode}, {shape}, p50", at(calls, 0.5), 5.0, "ms", True, detail)
                )
    return figures
