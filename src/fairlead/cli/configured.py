# SPDX-License-Identifier: Apache-2.0
"""What every subcommand that reads the configuration takes: `--config`, `--store`, mostly `--listen`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import click

from fairlead.config import Loaded, load

_OPTIONS = (
    click.option(
        "--config", "file", metavar="FILE", help="the configuration (FAIRLEAD_CONFIG; fairlead.toml)"
    ),
    click.option("--store", metavar="URL", help="the store (FAIRLEAD_STORE; sqlite:///fairlead.db)"),
    click.option("--listen", metavar="HOST:PORT", help="where to serve (FAIRLEAD_LISTEN; 127.0.0.1:3247)"),
)


def reads_config(function: Callable[..., Any], *, listens: bool = True) -> Callable[..., Any]:
    """A command that gets the `Loaded` configuration first; where it serves is asked if it `listens`."""

    @functools.wraps(function)
    def command(
        *args: Any, file: str | None, store: str | None, listen: str | None = None, **kwargs: Any
    ) -> Any:
        return function(read_config(file, store=store, listen=listen), *args, **kwargs)

    for option in reversed(_OPTIONS if listens else _OPTIONS[:2]):
        command = option(command)
    return command


def read_config(file: str | None = None, *, store: str | None = None, listen: str | None = None) -> Loaded:
    """The configuration of flags, environment and file. Raises ConfigError."""
    flags = {"--store": store, "--listen": listen}
    given = {flag: value for flag, value in flags.items() if value is not None}
    return load(file=file, flags=given, environment=os.environ)
