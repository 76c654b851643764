# SPDX-License-Identifier: Apache-2.0
"""`fairlead config`: what the relay would run with."""

from __future__ import annotations

import click

from fairlead import wiring
from fairlead.cli import output
from fairlead.cli.configured import reads_config
from fairlead.config import Config, Loaded
from fairlead.config.rendering import to_json, to_toml
from fairlead.errors import StoreError


@click.group("config")
def command() -> None:
    """Show or check the configuration that `serve` would use here."""


@command.command("show", short_help="Show the effective configuration, with what each key means.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='one JSON document: {"file":…, "settings":[…], "sources":[…], "warnings":[…]}',
)
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
    """Check the configuration; ends 5 and names file, line and key where it cannot be used.

    Where others can reach the relay it looks for a login as `serve` would: [auth] bootstrap_key, of the file
    or of the environment, or a key in the store.
    """
    doubts = [*loaded.warnings, *wiring.check_files(loaded.config), *_login_doubts(loaded.config)]
    if as_json:
        output.document({"ok": True, "file": loaded.file, "warnings": doubts})
        return
    for line in doubts:
        output.note(f"warning: {line}")
    output.say(f"{loaded.file or 'the configuration (no file)'} is in order")


def _login_doubts(config: Config) -> list[str]:
    """That it cannot be told whether there is a login where one is needed; ConfigError if there is none."""
    if config.listen.is_loopback or config.auth.bootstrap_key is not None:
        return []
    try:
        if wiring.store_tools(config).has_keys():  # one key in the store is a login as well
            return []
    except StoreError as error:
        return [f"listen: {config.listen} needs a login; whether the store has a key cannot be told: {error}"]
    raise wiring.open_to_all(config)
