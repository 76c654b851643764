# SPDX-License-Identifier: Apache-2.0
"""What the command line prints: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fairlead.cli.api import RefusedError


def out() -> Console:
    """The console of standard output; plain unless it is a terminal and NO_COLOR is not set."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=True)


def err() -> Console:
    """The console of standard error, for what is not a result."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """A line of the result, as it is."""
    click.echo(line)


def note(line: str) -> None:
    """A line that is not the result."""
    err().print(escape(line))


def document(body: bytes | object) -> None:
    """One JSON document on standard output; bytes as the API sent them."""
    if isinstance(body, bytes):
        text = body.decode()
    else:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    click.echo(text)
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """A table on standard output, or `empty` on standard error where there are no rows."""
    lines = [[_cell(value) for value in row] for row in rows]
    if not lines:
        note(empty)
        return
    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for at, column in enumerate(columns):
        numeric = all(_is_number(row[at]) for row in lines)
        made.add_column(column, justify="right" if numeric else "left", no_wrap=True)
    for line in lines:
        made.add_row(*(escape(cell) for cell in line))
    # As wide as it is: a cell that is cut short cannot be copied; the terminal wraps what it cannot show.
    console = out()
    console.width = sum(
        max(len(column), *(len(row[at]) for row in lines)) + 2 for at, column in enumerate(columns)
    )
    console.print(made)


def problem(refused: RefusedError) -> None:
    """A problem document as lines: what, where, what to do."""
    document_, console = refused.problem, err()
    title, detail = document_.get("title", ""), document_.get("detail", "")
    console.print(f"[bold red]refused:[/] {escape(str(title))} ({refused.status})")
    if detail:
        console.print(escape(f"  {detail}"))
    for fault in document_.get("errors") or ():
        console.print(escape("  " + fault_line(fault)))
    if refused.retry_after:
        console.print(escape(f"  try again in {refused.retry_after} s"))


def fault_line(fault: Mapping[str, Any]) -> str:
    """One fault: `[2] /specversion: must be "1.0" (set specversion to 1.0)`."""
    index = f"[{fault['index']}] " if "index" in fault else ""
    where = next((str(fault[name]) for name in ("pointer", "header", "query") if fault.get(name)), "")
    hint = f" ({fault['hint']})" if fault.get("hint") else ""
    return f"{index}{where}{': ' if where else ''}{fault.get('detail', '')}{hint}"


def counted(number: int, noun: str) -> str:
    """`1 event`, `2 events`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1f}"
    return str(value)


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(".", "", 1).isdigit()
