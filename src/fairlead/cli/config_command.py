# SPDX-License-Identifier: Apache-2.0
"""`fairlead config`: what the relay would run with."""

from __future__ import annotations

import click

from fairlead import wiring
from fairlead.cli import output
from fairlead.cli.configured import reads_config
from fairlead.config import Loaded
from fairlead.config.rendering import to_json, to_toml


@click.group("config")
def command() -> None:
    """Show or check the configuration that `serve` would use here."""


@command.command("show", short_help="Show the effective configuration, with what each key means.")
@click.option("--json", "as_json", is_flag=True, help="one JSON document: file, settings, warnings")
@reads_config
def show(loaded: Loaded, as_json: bool) -> None:
    """Show the effective configuration with what each key means and where it came from; secrets masked."""
    if as_json:
        output.document(to_json(loaded))
    else:
        click.echo(to_toml(loaded), nl=False)
    for line in loaded.warnings:
        output.note(f"warning: {line}")


@command.command("check", short_help="Check the configuration; ends 5 where it cannot be used.")
@click.option(
    "--json", "as_json", is_flag=True, help='one JSON document: {"ok":true,"file":…,"warnings":[…]}'
)
@reads_config
def check(loaded: Loaded, as_json: bool) -> None:
    """Check the configuration; ends 5 and names file, line and key where it cannot be used."""
    doubts = [*loaded.warnings, *wiring.check_files(loaded.config)]
    if as_json:
        output.document({"ok": True, "file": loaded.file, "warnings": doubts})
        return
    for line in doubts:
        output.note(f"warning: {line}")
    output.say(f"{loaded.file or 'the configuration (no file)'} is in order")
