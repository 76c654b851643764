# SPDX-License-Identifier: Apache-2.0
"""`fairlead bench`: what this machine and its disk can do, in a few seconds."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import click

from fairlead import Event, Relay
from fairlead.cli import output
from fairlead.drivers.http_server.server import new_event_loop

KEYS = 1000
PUBLISHERS = 64
DATA = {"state": "ACTIVE", "note": "x" * 480}


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured; rates per second, times in milliseconds."""

    seconds: float
    fsyncs_per_second: float
    accepted_per_second: float
    delivered_per_second: float
    latency_p50_ms: float
    latency_p99_ms: float
    in_order: bool


MEMBERS = ", ".join(f'"{figure.name}":…' for figure in fields(Figures))


@click.command("bench")
@click.option("--seconds", type=click.FloatRange(0.2, 600), default=5.0, show_default=True, help="how long")
@click.option(
    "--folder", type=click.Path(exists=True, file_okay=False), help="measure the disk of this folder"
)
@click.option("--json", "as_json", is_flag=True, help=f"one JSON document: {{{MEMBERS}}}")
def command(seconds: float, folder: str | None, as_json: bool) -> int:
    """Publish and deliver in this process, every event fsynced, on a store that is thrown away.

    No network takes part: it shows what disk and processor allow. benchmarks/ has the whole path.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="fairlead-bench-") as place:
        fsyncs = _fsyncs(Path(place) / "probe", min(seconds, 1.0))
        runner = asyncio.Runner(loop_factory=new_event_loop)
        with runner, output.err().status(f"measuring for {seconds:g} s"):
            figures = runner.run(_measure(str(Path(place) / "bench.db"), seconds, fsyncs))
    if as_json:
        output.document(asdict(figures))
    else:
        rows = [(name.replace("_", " "), value) for name, value in asdict(figures).items()]
        output.table(("measure", "value"), rows, empty="")
    return 0 if figures.in_order else 1


def _fsyncs(path: Path, seconds: float) -> float:
    """How often a second this disk says that something is on it."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    count, begun = 0, time.monotonic()
    try:
        while time.monotonic() - begun < seconds:
            os.write(descriptor, b"x" * 4096)
            os.fsync(descriptor)
            count += 1
    finally:
        os.close(descriptor)
    return round(count / (time.monotonic() - begun), 1)


async def _measure(path: str, seconds: float, fsyncs: float) -> Figures:
    published: dict[str, float] = {}
    latencies: list[float] = []
    last: dict[str, int] = {}
    in_order = True
    all_published = False
    emptied = asyncio.Event()

    async def take(event: Event) -> None:
        nonlocal in_order
        latencies.append(time.monotonic() - published.pop(event.id))
        number = int(event.id)
        in_order = in_order and last.get(event.key, -1) < number
        last[event.key] = number
        if all_published and not published:
            emptied.set()

    async with Relay(path) as relay:
        await relay.subscribe("bench", take, concurrency=256)
        begun = time.monotonic()
        numbers = iter(range(1 << 60))

        async def publish(share: int) -> None:
            keys = range(share, KEYS, PUBLISHERS)  # one publisher per key, or the order would not be its own
            for at in iter(lambda: next(numbers), -1):
                if time.monotonic() - begun >= seconds:
                    return
                published[str(at)] = time.monotonic()
                subject = f"k{keys[at % len(keys)]}"
                await relay.publish(Event(str(at), "/bench", "fairlead.bench", subject, data=DATA))

        await asyncio.gather(*(publish(share) for share in range(PUBLISHERS)))
        accepted = len(latencies) + len(published)
        accepted_in = time.monotonic() - begun
        all_published = True
        if published:
            with suppress(TimeoutError):
                await asyncio.wait_for(emptied.wait(), timeout=60)
        delivered_in = time.monotonic() - begun
    latencies.sort()
    return Figures(
        seconds=round(delivered_in, 2),
        fsyncs_per_second=fsyncs,
        accepted_per_second=round(accepted / accepted_in, 1),
        delivered_per_second=round(len(latencies) / delivered_in, 1),
        latency_p50_ms=round(_quantile(latencies, 0.5) * 1000, 2),
        latency_p99_ms=round(_quantile(latencies, 0.99) * 1000, 2),
        in_order=in_order and not published,
    )


def _quantile(ascending: list[float], share: float) -> float:
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))] if ascending else 0.0
