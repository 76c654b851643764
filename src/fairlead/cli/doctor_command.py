# SPDX-License-Identifier: Apache-2.0
"""`fairlead doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import email.utils
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import click
from rich.markup import escape

from fairlead.cli import output
from fairlead.cli.api import RefusedError, UnreachableError
from fairlead.cli.calling import Caller, calls_api
from fairlead.cli.configured import read_config
from fairlead.cli.status_command import last_error
from fairlead.config import Config, store_path
from fairlead.core.durations import format_duration, format_size
from fairlead.errors import ConfigError

CLOCK_TOLERANCE_SECONDS = 30.0
LAG_SECONDS = 300.0
ROOM_IN_RESERVES = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `ok`, or what is wrong and what to do."""

    check: str
    state: Literal["ok", "warning", "wrong"]
    detail: str
    remedy: str = ""


@click.command("doctor")
@click.option("--config", "file", metavar="FILE", help="the configuration (FAIRLEAD_CONFIG; fairlead.toml)")
@calls_api
def command(caller: Caller, file: str | None) -> int:
    """Look at configuration, disk, relay, clock, subscriptions and lanes; say what is wrong and what to do.

    Ends 1 where something is wrong. With --json one document:
    {"ok":…,"findings":[{"check","state","detail","remedy"}]}.
    """
    findings = list(_findings(caller, file))
    wrong = [one for one in findings if one.state == "wrong"]
    if caller.as_json:
        output.document({"ok": not wrong, "findings": [asdict(one) for one in findings]})
    else:
        for one in findings:
            _show(one)
    return 1 if wrong else 0


def _show(finding: Finding) -> None:
    mark = {"ok": "[green]ok[/]     ", "warning": "[yellow]look[/]   ", "wrong": "[bold red]wrong[/]  "}
    console = output.out()
    console.print(f"{mark[finding.state]} {escape(finding.check)}: {escape(finding.detail)}")
    if finding.remedy:
        console.print(f"         -> {escape(finding.remedy)}")


def _findings(caller: Caller, file: str | None) -> Iterator[Finding]:
    try:
        loaded = read_config(file)
    except ConfigError as error:
        yield Finding(
            "configuration", "wrong", str(error), "mend that line; fairlead config check tries again"
        )
    else:
        yield Finding("configuration", "ok", loaded.file or "defaults (no fairlead.toml here)")
        for line in loaded.warnings:
            yield Finding("configuration", "warning", line)
        yield _disk(loaded.config)
    try:
        yield from _relay(caller)
    except UnreachableError as error:
        yield Finding("relay", "wrong", str(error), "start it with fairlead serve, or name it with --url")
    except RefusedError as error:
        yield _refusal(error)


def _refusal(error: RefusedError) -> Finding:
    if error.status in (401, 403):
        return Finding(
            "login", "wrong", str(error), "give a key that may read, by --key-file or FAIRLEAD_API_KEY"
        )
    return Finding("relay", "wrong", f"{error.problem.get('title')}: {error}", "see the relay's log")


def _disk(config: Config) -> Finding:
    path = Path(store_path(config.store)).absolute()
    folder = next((one for one in path.parents if one.exists()), Path("/"))
    free, reserve = shutil.disk_usage(folder).free, config.store_options.disk_reserve_bytes
    detail = f"{format_size(free // 2**20 * 2**20)} free at {folder}"
    if free <= reserve:
        remedy = "free some room; until then publishers get 507, and deliveries go on within the reserve"
        return Finding("disk", "wrong", f"{detail}, the reserve is {format_size(reserve)}", remedy)
    if free <= ROOM_IN_RESERVES * reserve:
        return Finding(
            "disk", "warning", detail, "free some room, or set [limits] log_bytes or [retention] keep"
        )
    return Finding("disk", "ok", detail)


def _relay(caller: Caller) -> Iterator[Finding]:
    reply = caller.api.call("GET", "/healthz")
    yield Finding("relay", "ok", f"answers at {caller.api.url}")
    yield _clock(reply.headers.get("date"))
    try:
        caller.api.call("GET", "/readyz")
        yield Finding("store", "ok", "ready")
    except RefusedError as refused:
        yield Finding(
            "store", "wrong", f"not ready: {refused.body.decode(errors='replace')}", "see the relay's log"
        )
    subscriptions = list(caller.items("/subscriptions"))
    if not subscriptions:
        yield Finding(
            "subscriptions", "warning", "there is none", "fairlead subscriptions add NAME --sink URL"
        )
    for item in subscriptions:
        yield from _subscription(item)


def _clock(date: str | None) -> Finding:
    told = email.utils.parsedate_to_datetime(date).timestamp() if date else None
    if told is None:
        return Finding("clock", "ok", "not compared: the relay's answer has no date")
    skew = time.time() - told
    if abs(skew) > CLOCK_TOLERANCE_SECONDS:
        remedy = "set both clocks by NTP; receivers refuse signatures that are 5 minutes off"
        return Finding(
            "clock", "wrong", f"the relay's clock differs by {format_duration(round(abs(skew)))}", remedy
        )
    return Finding("clock", "ok", "the relay's clock agrees with this one")


def _subscription(item: dict[str, Any]) -> Iterator[Finding]:
    name, status = item["id"], item["status"]
    check = f"subscription {name}"
    because = last_error(status.get("last_error")) or status.get("reason") or "no error on record"
    found = False
    if status["state"] in ("stopped", "disabled"):
        found = True
        why = f"{status['state']} since {status['since']}: {status.get('reason') or because}; events are kept"
        yield Finding(check, "wrong", why, f"mend the receiver, then: fairlead subscriptions resume {name}")
    elif status["state"] == "paused":
        found = True
        yield Finding(
            check, "warning", "paused; its events are kept", f"fairlead subscriptions resume {name}"
        )
    for damage in status.get("damage", ()):
        found = True
        what = f"partition {damage['partition']} stands still: {damage['detail']}"
        yield Finding(check, "wrong", what, "stop the relay, then: fairlead store check; restore a backup")
    if status["parked_lanes"]:
        found = True
        remedy = f"mend the receiver, then: fairlead lanes release {name} --state parked (or skip the head)"
        yield Finding(check, "wrong", f"{status['parked_lanes']} resources are parked; {because}", remedy)
    if status["held_lanes"]:
        found = True
        remedy = f"they are tried again by themselves; see: fairlead lanes {name}"
        yield Finding(
            check, "warning", f"{status['held_lanes']} resources wait for a retry; {because}", remedy
        )
    lag = status["lag_seconds"] or 0.0
    if lag > LAG_SECONDS and status["state"] == "active":
        found = True
        detail = f"{status['lag_events']} events, the oldest {format_duration(round(lag))} old; {because}"
        yield Finding(check, "warning", detail, "is the receiver up, and fast enough? see: fairlead status")
    if not found:
        yield Finding(check, "ok", f"{status['state']}, {status['lag_events']} events behind")
