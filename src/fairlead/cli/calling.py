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
from fairlead.cli.api import DEFAULT_URL, Api, RefusedError, Reply, check_url

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
        api = Api(_url(url or above.get("url")), _key(key_file or above.get("key_file")))
        try:
            return function(Caller(api, as_json), *args, **kwargs)
        except RefusedError as refused:
            if as_json and refused.body:
                output.document(refused.body)
            raise
        finally:
            api.close()

    return command


def _url(given: str | None) -> str:
    url = given or os.environ.get("FAIRLEAD_URL") or DEFAULT_URL
    try:
        check_url(url)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url" if given else "FAIRLEAD_URL") from None
    return url


def _key(file: str | None) -> str | None:
    """The API key of a file or of the environment; what refuses it never shows it."""
    where, text = "FAIRLEAD_API_KEY", os.environ.get("FAIRLEAD_API_KEY", "")
    if file is not None:
        where = "--key-file"
        try:
            text = Path(file).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not ASCII text"
            raise click.BadParameter(f"{file}: {reason}", param_hint=where) from None
    key = text.strip()  # a line of a file ends with something, on Windows with two
    if not key and file is None:
        return None
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        place = "" if file is None else f"{file}: "
        raise click.BadParameter(f"{place}expected one API key and nothing else", param_hint=where)
    return key
