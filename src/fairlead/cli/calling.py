# SPDX-License-Identifier: Apache-2.0
"""What every subcommand that calls the API takes: `--url`, `--key-file`, `--json`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fairlead.cli import output
from fairlead.cli.api import DEFAULT_URL, Api, Reply

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Caller:
    """A relay to call and the way to show what it answers."""

    api: Api
    as_json: bool

    def show(self, reply: Reply, otherwise: Callable[[Any], None]) -> None:
        """The answer: with `--json` its body as it came, else what `otherwise` prints of it."""
        if self.as_json:
            if reply.body:
                output.document(reply.body)
        else:
            otherwise(reply.document())

    def items(self, path: str, query: Mapping[str, object] | None = None) -> Iterator[dict[str, Any]]:
        """Every item of a list, page after page."""
        after: str | None = None
        while True:
            page = self.api.call(
                "GET", path, query={**(query or {}), "limit": PAGE, "after": after}
            ).document()
            yield from page["items"]
            after = page["next"]
            if after is None:
                return


JSON_HELP = "print exactly what the API answers"


def calls_api(function: Callable[..., Any], json_help: str = JSON_HELP) -> Callable[..., Any]:
    """A command that gets a `Caller` first."""

    @click.option("--url", metavar="URL", help="the relay (FAIRLEAD_URL; http://127.0.0.1:3247)")
    @click.option("--key-file", metavar="FILE", help="a file that holds an API key (or FAIRLEAD_API_KEY)")
    @click.option("--json", "as_json", is_flag=True, help=json_help)
    @functools.wraps(function)
    def command(*args: Any, url: str | None, key_file: str | None, as_json: bool, **kwargs: Any) -> Any:
        above = click.get_current_context().find_root().obj or {}
        api = Api(
            url or above.get("url") or os.environ.get("FAIRLEAD_URL") or DEFAULT_URL,
            _key(key_file or above.get("key_file")),
        )
        try:
            return function(Caller(api, as_json), *args, **kwargs)
        finally:
            api.close()

    return command


def _key(file: str | None) -> str | None:
    if file is None:
        return os.environ.get("FAIRLEAD_API_KEY") or None
    try:
        key = Path(file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not ASCII text"
        raise click.BadParameter(f"{file}: {reason}", param_hint="--key-file") from None
    if not key or any(character.isspace() for character in key):
        raise click.BadParameter(f"{file}: expected one API key and nothing else", param_hint="--key-file")
    return key
