# SPDX-License-Identifier: Apache-2.0
"""What the command line prints: results on standard output, everything else on standard error."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, TextIO

import click
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from fairlead.cli.api import RefusedError


def out() -> Console:
    """The console of standard output; plain unless it is a terminal and NO_COLOR is not set."""
    return _console(_Results, sys.stdout)


def err() -> Console:
    """The console of standard error, for what is not a result."""
    return _console(_Notes, sys.stderr)


def _console(kind: type[Console], file: TextIO) -> Console:
    # By itself rich leaves out with NO_COLOR nothing but colours: bold letters, bars and spinners stay.
    plain = False if os.environ.get("NO_COLOR") else None
    return kind(file=file, highlight=False, soft_wrap=True, force_terminal=plain)


class _Results(Console):
    def on_broken_pipe(self) -> None:
        """Tell whoever prints: rich would end the thread that does, in the process with 1."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class _Notes(Console):
    def on_broken_pipe(self) -> None:
        """Go on: what is asked for is done, and ends as it does, whether or not somebody reads the notes."""
        give_up(sys.stderr)


def say(line: str) -> None:
    """A line of the result, as it is."""
    click.echo(line)


def say_unbuffered(line: str) -> None:
    """A line past `sys.stdout`, whose lock a thread that is stuck would keep from the end of the process."""
    data = f"{line}\n".encode(sys.stdout.encoding, "backslashreplace")
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


def open_closed() -> None:
    """Let each standard stream that was closed lead nowhere.

    What is opened next would get its descriptor: the store would be where others write their messages, and
    libuv aborts when it closes a descriptor below 3.
    """
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(descriptor)
        except OSError:
            lowest_free = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(lowest_free, mode, closefd=False))


def give_up(stream: TextIO) -> None:
    """A standard stream cannot be written: keep Python from trying it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def note(line: str) -> None:
    """A line that is not the result."""
    err().print(escape(visible(line)))


def document(body: bytes | object) -> None:
    """One JSON document on standard output; bytes as the API sent them."""
    if isinstance(body, bytes):
        text = body.decode()
    else:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    click.echo(text)
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """A table on standard output, or `empty` on standard error where there are no rows.

    Nothing is cut short. Where a terminal is narrower than the table, wide cells go on in the next line, and
    a last one, a long error say, stands below its row; elsewhere each row is one line, as wide as it is.
    """
    lines = [[_cell(value) for value in row] for row in rows]
    if not lines:
        note(empty)
        return
    numeric = [_numeric(cells) for cells in zip(*lines, strict=True)]
    widths = [max(map(cell_len, cells)) for cells in zip(columns, *lines, strict=True)]
    console = out()
    beside: int | None = None  # the room for a last cell in its row; None where there is no end of it
    if sys.stdout.isatty():
        widths = _narrowed(widths, console.width - cell_len(columns[-1]))
        beside = console.width - _taken(widths[:-1])
        if beside < cell_len(columns[-1]):
            beside = 0  # not one here and another there
    styles = [["bold"] * len(columns), *([*map(_style, columns, line)] for line in lines)]
    for line, looks in zip([list(columns), *lines], styles, strict=True):
        cells = [Text(text, look) for text, look in zip(line, looks, strict=True)]
        for printed in _row(console, cells, widths, numeric, beside):
            console.print(printed)


def problem(refused: RefusedError) -> None:
    """A problem document as lines: what, where, what to do; nothing twice."""
    document_, console = refused.problem, err()
    title, detail = document_.get("title", ""), str(document_.get("detail", ""))
    faults = document_.get("errors") or ()
    console.print(f"[bold red]refused:[/] {escape(visible(str(title)))} ({refused.status})")
    for line in _told(detail, faults):
        console.print(escape(visible(f"  {line}")))
    if refused.status == 401:
        console.print("  an API key is given by --key-file FILE or FAIRLEAD_API_KEY")
    if refused.retry_after:
        console.print(escape(f"  try again in {refused.retry_after} s"))


def wrong_usage(error: click.UsageError) -> None:
    """One line: which command, what is wrong, where its help is."""
    path = error.ctx.command_path if error.ctx is not None else "fairlead"
    message = error.format_message()
    line = f"{path}: {message[:1].lower()}{message[1:].rstrip('.')}"
    err().print(f"{escape(line)} [dim](see: {escape(path)} --help)[/]")


def visible(text: str) -> str:
    """Text with its control characters spelt out: what others have sent must not drive the terminal."""
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


def when(time: str | None) -> str | None:
    """An RFC 3339 time of the API for people: to the second, which still sorts and can be given back."""
    return None if time is None else re.sub(r"\.\d+", "", time)


def fault_line(fault: Mapping[str, Any]) -> str:
    """One fault: `[2] /specversion: must be "1.0" (set specversion to 1.0)`, or `line 3: /specversion: …`."""
    index = f"[{fault['index']}] " if "index" in fault else ""
    if "line" in fault:
        index = f"line {fault['line']}: "
    where = next((str(fault[name]) for name in ("pointer", "header", "query") if fault.get(name)), "")
    hint = f" ({fault['hint']})" if fault.get("hint") else ""
    return f"{index}{where}{': ' if where else ''}{fault.get('detail', '')}{hint}"


def counted(number: int, noun: str) -> str:
    """`1 event`, `2 events`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _told(detail: str, faults: Sequence[Mapping[str, Any]]) -> list[str]:
    """The detail and a line for each fault; of a single fault only what says more."""
    lines = [fault_line(fault) for fault in faults]
    if len(faults) == 1 and str(faults[0].get("detail", "")) in detail:
        return [detail] if (faults[0].get("hint") or "") in detail else lines
    return [detail, *lines] if detail else lines


def _narrowed(widths: Sequence[int], room: int) -> list[int]:
    """Narrower columns, the widest first, until all but the last fit into so many cells."""
    *narrowed, last = widths
    while _taken(narrowed) > room:
        widest = narrowed.index(max(narrowed))
        if narrowed[widest] <= _LEAST_CELLS:
            break
        narrowed[widest] -= 1
    return [*narrowed, last]


def _taken(widths: Sequence[int]) -> int:
    """How many cells columns take, each with the gap behind it."""
    return sum(widths) + len(_GAP) * len(widths)


def _row(
    console: Console, cells: list[Text], widths: Sequence[int], numeric: Sequence[bool], beside: int | None
) -> Iterator[Text]:
    """The lines of one row."""
    below: Iterable[Text] = ()
    if beside is not None and cells[-1].cell_len > beside:
        below = cells[-1].wrap(console, max(console.width - len(_INDENT), _LEAST_CELLS))
        cells = [*cells[:-1], Text()]
    folded = [
        cell.wrap(console, width) if cell.cell_len > width else [cell]
        for cell, width in zip(cells, widths, strict=True)
    ]
    for parts in zip_longest(*folded, fillvalue=Text()):
        padded = []
        for part, width, right in zip(parts, widths, numeric, strict=True):
            space = " " * (width - part.cell_len)
            padded.append(Text.assemble(space if right else "", part, "" if right else space))
        whole = Text(_GAP).join(padded)
        whole.rstrip()  # the spaces after a short last cell would wrap, and show as empty lines
        yield whole
    for part in below:
        part.rstrip()
        yield Text.assemble(_INDENT, part)


_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # all but the line end
_GAP, _INDENT = "  ", "    "
_LEAST_CELLS = 20  # a time, which is not to be folded
_COLOURS = {"active": "green", "paused": "yellow", "stopped": "bold red", "disabled": "bold red"}
_COUNTS = {"held": "yellow", "parked": "bold red", "skipped": "yellow"}


def _style(column: str, cell: str) -> str:
    """What a person should see first: states, and counts that ought to be 0."""
    if column == "state":
        if "damaged" in cell:
            return "bold red"
        return _COLOURS.get(cell.partition(" ")[0], _COUNTS.get(cell, ""))
    return _COUNTS.get(column, "") if cell != "0" else ""


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1f}"
    return visible(str(value)).replace("\n", "\\n")  # a row is one line


def _numeric(cells: Sequence[str]) -> bool:
    return all(map(_is_number, cells)) and set(cells) != {"-"}


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(".", "", 1).isdigit()
