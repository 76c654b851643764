# SPDX-License-Identifier: Apache-2.0
"""`fairlead store`: what is done to a store file from outside."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import click

from fairlead import wiring
from fairlead.cli import output
from fairlead.cli.configured import reads_config
from fairlead.config import Loaded
from fairlead.core.durations import format_size


@click.group("store")
def command() -> None:
    """Check, compact or bring back the store."""


@command.command("check", short_help="Read the whole store and report every damage.")
@click.option("--json", "as_json", is_flag=True, help='one JSON document: {"store":…,"ok":…,"damage":[…]}')
@partial(reads_config, listens=False)
def check(loaded: Loaded, as_json: bool) -> int:
    """Read the whole store and report every damage; changes nothing, the relay may be running."""
    tools = wiring.store_tools(loaded.config)
    with output.err().status("reading the store"):
        damage = tools.check()
    if as_json:
        output.document({"store": loaded.config.store, "ok": not damage, "damage": damage})
    else:
        for line in damage:
            output.say(line)
        output.note(
            f"{loaded.config.store}: {output.counted(len(damage), 'damage')}; restore a backup"
            if damage
            else f"{loaded.config.store} is sound"
        )
    return 1 if damage else 0


@command.command("compact", short_help="Give the room of deleted events back to the disk.")
@click.option(
    "--json", "as_json", is_flag=True, help='one JSON document: {"store":…,"before_bytes":…,"after_bytes":…}'
)
@partial(reads_config, listens=False)
def compact(loaded: Loaded, as_json: bool) -> None:
    """Give the room of deleted events back to the disk; the relay must be stopped."""
    tools = wiring.store_tools(loaded.config)
    with output.err().status("compacting the store"):
        before, after = tools.compact()
    if as_json:
        output.document({"store": loaded.config.store, "before_bytes": before, "after_bytes": after})
    else:
        output.say(f"{Path(tools.path).name}: {format_size(before)} before, {format_size(after)} now")


@command.command("restored", short_help="Run this after a backup was put back, before `serve`.")
@click.option("--with-wal", is_flag=True, help="the `-wal` beside the store was copied with it")
@click.option("--json", "as_json", is_flag=True, help='one JSON document: {"store":…,"subscriptions":…}')
@partial(reads_config, listens=False)
def restored(loaded: Loaded, with_wal: bool, as_json: bool) -> None:
    """Say that the store was restored from a backup; run it before `serve`.

    Every subscription begins a new generation, so that receivers do not take new events for old ones. Remove
    the `-wal` and `-shm` of the store before, first of all: what they hold would be added to the backup.
    """
    count = wiring.store_tools(loaded.config).restored(int(time.time() * 1000), with_wal=with_wal)
    if as_json:
        output.document({"store": loaded.config.store, "subscriptions": count})
    else:
        output.say(f"{output.counted(count, 'subscription')} in a new generation")
