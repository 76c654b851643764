# SPDX-License-Identifier: Apache-2.0
"""`fairlead send`: publish one event, a file of events, or NDJSON from standard input."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fairlead.cli import output
from fairlead.cli.api import Api, RefusedError, UnreachableError
from fairlead.cli.calling import Caller, calls_api

BATCH_EVENTS = 500
BATCH_BYTES = 4 * 1024 * 1024
TRIES = 8
LONGEST_WAIT_SECONDS = 30.0
_BATCH_TYPE = {"content-type": "application/cloudevents-batch+json"}


@click.command("send")
@click.argument("file", required=False)
@click.option("--source", help="the event's source; for a file, of the events that name none")
@click.option("--type", "type_", help="the event's type; for a file, of the events that name none")
@click.option("--subject", help="the resource it is about: events of one source and subject stay in order")
@click.option("--data", help="JSON, or @FILE")
@click.option(
    "--id", "id_", help="the event's id; the same id again is not a second event (default: made up)"
)
@calls_api
def command(
    caller: Caller,
    *,
    file: str | None,
    source: str | None,
    type_: str | None,
    subject: str | None,
    data: str | None,
    id_: str | None,
) -> None:
    """Publish events; return when the relay has them on disk.

    One event from the options, or those of FILE: a JSON event, an array of them, or one a line (NDJSON);
    `-` is standard input. Events without id or specversion are given one.
    """
    given = {"source": source, "type": type_, "subject": subject}
    defaults = {name: value for name, value in given.items() if value is not None}
    if file is not None:
        if data is not None or id_ is not None:
            raise click.UsageError("--data and --id describe one event; leave them out with a file")
        _send_all(caller, _numbered(file, defaults), lines=_lines(file))
        return
    missing = [f"--{name}" for name in ("source", "type") if name not in defaults]
    if missing:
        raise click.UsageError(f"one event needs {' and '.join(missing)} (or name a file, or - for input)")
    event: dict[str, Any] = {"specversion": "1.0", "id": id_ or str(uuid.uuid4()), **defaults}
    if data is not None:
        event["datacontenttype"] = "application/json"
    body = json.dumps(event).encode()
    if data is not None:
        body = body[:-1] + b', "data": ' + _data(data) + b"}"  # the bytes as given: nothing is respelt
    headers = {"content-type": "application/cloudevents+json"}
    caller.show(_patiently(caller.api, body, headers), lambda answer: _report(answer["accepted"]))


def _data(text: str) -> bytes:
    try:
        raw = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
        json.loads(raw)
    except OSError as error:
        raise click.BadParameter(f"{text[1:]}: {error.strerror}", param_hint="--data") from None
    except ValueError as error:
        hint = """quote texts as in --data '"text"'"""
        raise click.BadParameter(f"not JSON: {error}; {hint}", param_hint="--data") from None
    return raw.strip()


def _lines(file: str) -> int | None:
    """How many lines a file has, for the progress bar; None where that cannot be told beforehand."""
    if file == "-" or not Path(file).is_file():
        return None
    with Path(file).open("rb") as stream:
        return sum(1 for _ in stream)


def _numbered(file: str, defaults: dict[str, str]) -> Iterator[tuple[int, bytes]]:
    """Each event with its line (its place in an array), completed, as JSON."""
    for number, event in _events(file):
        if not isinstance(event, dict):
            raise click.ClickException(f"{_named(file)}:{number}: an event is a JSON object")
        whole = {"specversion": "1.0", "id": str(uuid.uuid4()), **defaults, **event}
        yield number, json.dumps(whole, ensure_ascii=False).encode()


def _events(file: str) -> Iterator[tuple[int, object]]:
    try:
        with sys.stdin if file == "-" else Path(file).open(encoding="utf-8") as stream:
            if file != "-":
                text = stream.read(1 << 20) if stream.seekable() else ""
                stream.seek(0)
                if _is_one_document(text):
                    whole = json.load(stream)
                    yield from enumerate(whole if isinstance(whole, list) else [whole], start=1)
                    return
                stream.seek(0)
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, _read_line(file, number, line)
    except OSError as error:
        raise click.BadParameter(f"{file}: {error.strerror}", param_hint="FILE") from None
    except ValueError as error:
        raise click.ClickException(f"{_named(file)}: not JSON: {error}") from None


def _is_one_document(beginning: str) -> bool:
    """An array, or an object whose first line is not whole: not NDJSON."""
    if beginning.lstrip().startswith("["):
        return True
    try:
        json.loads(beginning.lstrip().split("\n", 1)[0])
    except ValueError:
        return True
    return False


def _read_line(file: str, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except ValueError as error:
        raise click.ClickException(f"{_named(file)}:{number}: not JSON: {error}") from None


def _named(file: str) -> str:
    return "standard input" if file == "-" else file


def _send_all(caller: Caller, events: Iterable[tuple[int, bytes]], *, lines: int | None) -> None:
    accepted: list[dict[str, Any]] = []
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = output.err()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("sending", total=lines)
        for numbers, body in _batches(events):
            try:
                answer = _patiently(caller.api, body, _BATCH_TYPE).document()
            except (RefusedError, UnreachableError) as error:
                if isinstance(error, RefusedError):
                    _point_at_lines(error, numbers)
                output.note(
                    f"{output.counted(len(accepted), 'event')} before line {numbers[0]} accepted; to send "
                    "all again does no harm where each has its own id"
                )
                raise
            accepted += answer["accepted"]
            progress.advance(task, len(numbers))
    if caller.as_json:
        output.document({"accepted": accepted})
    else:
        duplicates = sum(one["duplicate"] for one in accepted)
        output.say(
            f"accepted {output.counted(len(accepted), 'event')} ({duplicates} of them the relay had already)"
        )


def _batches(events: Iterable[tuple[int, bytes]]) -> Iterator[tuple[list[int], bytes]]:
    lines: list[int] = []
    bodies: list[bytes] = []
    room = BATCH_BYTES
    for number, body in events:
        if bodies and (len(bodies) == BATCH_EVENTS or len(body) > room):
            yield lines, b"[" + b",".join(bodies) + b"]"
            lines, bodies, room = [], [], BATCH_BYTES
        lines.append(number)
        bodies.append(body)
        room -= len(body) + 1
    if bodies:
        yield lines, b"[" + b",".join(bodies) + b"]"


def _point_at_lines(refused: RefusedError, lines: list[int]) -> None:
    """Name lines of the file for places in a batch, which nobody has seen."""
    for fault in refused.problem.get("errors") or ():
        if isinstance(fault.get("index"), int) and fault["index"] < len(lines):
            fault["line"] = lines[fault.pop("index")]
            refused.problem = {**refused.problem, "detail": ""}  # it names places in the batch


def _patiently(api: Api, body: bytes, headers: dict[str, str]) -> Any:
    """Publish; where the relay asks to wait, wait and send the same again (it is no second event)."""
    for tries_left in reversed(range(TRIES)):
        try:
            return api.call("POST", "/events", body, headers=headers)
        except RefusedError as refused:
            wait = _seconds(refused.retry_after)
            if refused.status not in (429, 503, 507) or not tries_left or wait is None:
                raise
            output.note(f"the relay asks to wait {wait:g} s: {refused}")
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None or not retry_after.isdigit() or float(retry_after) > LONGEST_WAIT_SECONDS:
        return None
    return float(retry_after)


def _report(accepted: list[dict[str, Any]]) -> None:
    for one in accepted:
        known = " (the relay had it already)" if one["duplicate"] else ""
        output.say(f"accepted {one['id']} at partition {one['partition']} position {one['position']}{known}")
