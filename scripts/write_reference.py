# SPDX-License-Identifier: Apache-2.0
"""Write the reference pages that are made from the code: configuration and command line.

    .venv/bin/python scripts/write_reference.py          # make docs

`tests/docs` fails where a page is not what this writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from fairlead.cli.program import EXITS, program
from fairlead.config.rendering import reference

PAGES = Path(__file__).parents[1] / "docs" / "reference"
MADE = "<!-- Made by `make docs`; do not edit. -->\n\n"
CONFIGURATION = """# Configuration

One TOML file (`--config`, `FAIRLEAD_CONFIG`, else `fairlead.toml` in the working directory), environment variables, and flags. Flags come before variables, variables before the file, the file before defaults. No key is needed.

```toml
listen = "127.0.0.1:3247"

[retention]
keep = "14d"

[delivery]
timeout = "5s"

[delivery.retry]
max = "1m"
```

A variable is `FAIRLEAD_`, the table, the key: `FAIRLEAD_DELIVERY_RETRY_MAX=1m`. Lists are separated by commas, tables are JSON, and `none` takes a value away. A variable `FAIRLEAD_…` that names no key is a warning; an unknown key or a wrong type in the file ends with 5 and says where it is and what was probably meant:

```text
fairlead.toml:12: [limits] event_byte: unknown key; did you mean event_bytes?
```

`fairlead config show` prints what is in force, with the meaning and the origin of each value; `fairlead config check` only checks.

"""  # noqa: E501 -- a paragraph of Markdown is one line
COMMAND_LINE = """# Command line

Results on standard output, everything else on standard error. Colour and bars only on a terminal, never with `NO_COLOR`. `--json` prints exactly what the API answers, one document; streams (`listen`, `events --follow`) one document per line. Where no call is made (`config`, `store`, `outbox`, `doctor`, `bench`) the help says what the document holds.

`FAIRLEAD_URL` and `FAIRLEAD_API_KEY`, or `--url` and `--key-file`, say which relay and with which key.

"""  # noqa: E501


def configuration() -> str:
    """The whole page `configuration.md`."""
    return MADE + CONFIGURATION + reference().rstrip() + "\n"


def command_line() -> str:
    """The whole page `cli.md`."""
    exits = "\n".join(f"| {code} | {meaning} |" for code, meaning in EXITS.items())
    parts = [f"{MADE}{COMMAND_LINE}## Exit codes\n\n| code | meaning |\n|---|---|\n{exits}\n"]
    context = click.Context(program, info_name="fairlead", terminal_width=100, max_content_width=100)
    parts += [_section(command, context_) for command, context_ in commands(program, context)]
    return "\n".join(parts)


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """A command and everything below it, each with its context."""
    yield command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                inner = click.Context(
                    below, context, info_name=name, terminal_width=100, max_content_width=100
                )
                yield from commands(below, inner)


def _section(command: click.Command, context: click.Context) -> str:
    return f"## `{context.command_path}`\n\n```text\n{command.get_help(context).rstrip()}\n```\n"


PAGE_MAKERS = {"configuration.md": configuration, "cli.md": command_line}

if __name__ == "__main__":
    for name, make in PAGE_MAKERS.items():
        (PAGES / name).write_text(make(), encoding="utf-8")
