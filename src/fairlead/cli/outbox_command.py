# SPDX-License-Identifier: Apache-2.0
"""`fairlead outbox FILE`: what waits in a publisher's outbox, an OpenStack service's for example."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import click

from fairlead.cli import output
from fairlead.core.durations import format_size, format_time
from fairlead.errors import StoreForeign
from fairlead.sdk.publishing.outbox import Outbox
from fairlead.sdk.publishing.records import OutboxStatus, RefusedEvent


@click.command("outbox")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='one JSON document: {"outbox":…, "waiting":…, "oldest":…, "size_bytes":…, "refused":[…], "lost":…}',
)
def command(file: Path, as_json: bool) -> None:
    """Show what waits in an outbox, what the relay refused, and what was lost because it was full.

    The publisher or service may be running. Run it as the user that the file belongs to.
    """
    _check(file)
    outbox = Outbox(file, 0)
    try:
        status, refused = outbox.status(), outbox.refused()
    finally:
        outbox.close()
    if as_json:
        output.document(_document(file, status, refused))
        return
    for line in _lines(status):
        output.say(line)
    for one in refused:
        output.say(f"refused {one.id}: {one.event.id} of {one.event.source}: {_why(one.problem)}")


def _check(file: Path) -> None:
    """Refuse to make an outbox, or to leave files beside it that its publisher cannot write."""
    try:
        owner = file.stat().st_uid
    except OSError as error:
        raise StoreForeign(f"{file}: {error.strerror}; give the outbox of a publisher") from None
    if owner != os.geteuid():
        raise StoreForeign(f"{file} belongs to user {owner}; run this as that user: sudo -u '#{owner}' …")


def _lines(status: OutboxStatus) -> list[str]:
    waiting = f"waiting: {status.waiting}"
    if status.oldest is not None:
        waiting += f", the oldest for {max(0.0, time.time() - status.oldest.timestamp()):.0f} s"
    lines = [waiting, f"refused: {status.refused}", f"size: {format_size(status.size_bytes)}"]
    if status.lost is not None:
        at = format_time(status.lost.last_at.timestamp())
        lines.append(f"lost: {status.lost.count}, the last at {at}: {status.lost.reason}")
    return lines


def _document(file: Path, status: OutboxStatus, refused: list[RefusedEvent]) -> dict[str, Any]:
    lost = status.lost
    return {
        "outbox": str(file),
        "waiting": status.waiting,
        "oldest": None if status.oldest is None else format_time(status.oldest.timestamp()),
        "size_bytes": status.size_bytes,
        "refused": [
            {
                "refused_id": one.id,
                "id": one.event.id,
                "source": one.event.source,
                "at": format_time(one.refused_at.timestamp()),
                "problem": one.problem,
            }
            for one in refused
        ],
        "lost": None
        if lost is None
        else {"count": lost.count, "last_at": format_time(lost.last_at.timestamp()), "reason": lost.reason},
    }


def _why(problem: dict[str, Any]) -> str:
    return str(problem.get("detail") or problem.get("title") or problem.get("type"))
