# SPDX-License-Identifier: Apache-2.0
"""`fairlead doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import email.utils
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click
from rich.markup import escape

from fairlead import wiring
from fairlead.cli import output
from fairlead.cli.api import RefusedError, UnreachableError, path_of
from fairlead.cli.calling import Caller, calls_api
from fairlead.cli.configured import read_config
from fairlead.cli.status_command import age, last_error, since_and_why
from fairlead.config import Config, store_path
from fairlead.core.durations import format_duration, format_size
from fairlead.core.failover import LOGIN_REFUSED
from fairlead.core.target_health import REFUSED, SILENCE, UNCONFIRMED
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
@partial(calls_api, json_help='one JSON document: {"ok":…,"findings":[…]}')
def command(caller: Caller, file: str | None) -> int:
    """Look at configuration, disk, relay, clock, store, subscriptions and lanes; say what is wrong and what
    to do. Give the --config of the relay, on its own machine, to have its configuration and disk looked at.

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
    open_to_all = False
    try:
        loaded = read_config(file)
        doubts = [*loaded.warnings, *wiring.check_files(loaded.config)]
    except ConfigError as error:
        for line in (str(error), *error.hints):
            yield Finding("configuration", "wrong", line, "mend that line; fairlead config check tries again")
    else:
        config = loaded.config
        open_to_all = not config.listen.is_loopback and config.auth.bootstrap_key is None
        yield Finding("configuration", "ok", loaded.file or "defaults (no fairlead.toml here)")
        for line in doubts:
            yield Finding("configuration", "warning", line)
        yield from _disk(config, configured=loaded.file is not None)
    try:
        yield from _relay(caller)
    except UnreachableError as error:
        yield Finding("relay", "wrong", str(error), error.remedy)
        if open_to_all:  # asked only now: one key in the store is a login as well
            listens = f"listen = {str(config.listen)!r} is refused while no login is configured"
            remedy = "set [auth] bootstrap_key, or listen on 127.0.0.1 and make a key: fairlead keys add"
            yield Finding("configuration", "warning", listens, remedy)
    except RefusedError as error:
        yield _refusal(error)


def _refusal(error: RefusedError) -> Finding:
    if error.status in (401, 403):
        return Finding(
            "login", "wrong", str(error), "give a key that may read, by --key-file or FAIRLEAD_API_KEY"
        )
    return Finding("relay", "wrong", f"{error.problem.get('title')}: {error}", "see the relay's log")


def _disk(config: Config, *, configured: bool) -> Iterator[Finding]:
    """The room where the store is; nothing where no store is, and nobody has said that it is to be there."""
    path = Path(store_path(config.store)).absolute()
    if not configured and not path.exists():
        return
    folder = next((one for one in path.parents if one.exists()), Path("/"))
    free, reserve = shutil.disk_usage(folder).free, config.store_options.disk_reserve_bytes
    detail = f"{_room(free)} free at {folder}"
    if free <= reserve:
        remedy = "free some room; until then publishers get 507, and deliveries go on within the reserve"
        yield Finding("disk", "wrong", f"{detail}, the reserve is {format_size(reserve)}", remedy)
    elif free <= ROOM_IN_RESERVES * reserve:
        yield Finding(
            "disk", "warning", detail, "free some room, or set [limits] log_bytes or [retention] keep"
        )
    else:
        yield Finding("disk", "ok", detail)


def _room(size_bytes: int) -> str:
    """A size for people."""
    unit, name = (2**30, "GiB") if size_bytes >= 2**30 else (2**20, "MiB")
    return f"{size_bytes / unit:.1f}{name}"


def _relay(caller: Caller) -> Iterator[Finding]:
    reply = caller.api.call("GET", "/healthz")
    yield Finding("relay", "ok", f"answers at {caller.api.url}")
    yield _clock(reply.headers.get("date"))
    try:
        ready = caller.api.call("GET", "/readyz").document()
        if ready.get("store", "ok") == "ok":
            yield Finding("store", "ok", "ready")
        elif ready["store"] == "full":
            what = "full: publishers get 507, deliveries go on as far as the disk's reserve goes"
            remedy = (
                "free room on its disk; if it has some, raise [limits] log_bytes or lower [retention] keep"
            )
            yield Finding("store", "wrong", what, remedy)
        else:
            what = f"{ready['store']}: what cannot be read is not delivered, nor what stands behind it"
            yield Finding("store", "wrong", what, "fairlead store check says where; restore a backup")
        yield from _sources(ready.get("sources", ()))
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
        found = [*_standing(caller, item), *_lanes(item)]
        status = item["status"]
        behind = f"{status['state']}, {output.counted(status['lag_events'], 'event')} behind"
        yield from found or [Finding(f"subscription {item['id']}", "ok", behind)]


def _sources(sources: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """The queues that events are taken from; a relay tells them on its own machine only."""
    for one in sources:
        check = f"source {one['name']}"
        counts = f"{output.counted(one['accepted'], 'event')} taken, {one['rejected']} rejected"
        if one["state"] == "up":
            yield Finding(check, "ok", f"up, {counts}")
        else:
            why = f"{one['state']} since {output.when(one['since'])}: {one['detail']}"
            yield Finding(check, "wrong", why, "nothing is lost, and it goes on trying; mend what it says")
        if one["rejected"]:
            remedy = "see GET /rejects; mend the sender or the mapping, then replay or delete each"
            yield Finding(check, "warning", f"{one['rejected']} rejected since the start", remedy)


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


def _standing(caller: Caller, item: dict[str, Any]) -> Iterator[Finding]:
    """What keeps a whole subscription, or one of its channels, from going on."""
    name, status = item["id"], item["status"]
    check, because = f"subscription {name}", _because(status)
    if status["state"] in ("stopped", "disabled"):
        why = f"{status['state']} since {output.when(status['since'])}: {status.get('reason') or because}"
        remedy = f"mend the receiver, then: fairlead subscriptions resume {name}"
        yield Finding(check, "wrong", f"{why}; events are kept", remedy)
    elif status["state"] == "paused":
        yield Finding(
            check, "warning", "paused; its events are kept", f"fairlead subscriptions resume {name}"
        )
    for damage in status.get("damage", ()):
        what = f"partition {damage['partition']} stands still: {damage['detail']}"
        yield Finding(check, "wrong", what, "stop the relay, then: fairlead store check; restore a backup")
    yield from _routes(item)
    if status["state"] != "active" or not status["lag_events"]:
        return
    channels = caller.api.call("GET", path_of("subscriptions", name, "channels")).document()["items"]
    if broken := [str(one["partition"]) for one in channels if one["state"] == "open"]:
        what = f"the breaker is open on {output.counted(len(broken), 'partition')} of it: {because}"
        remedy = f"is {item['sink']} up? It is tried again by itself; at once: "
        yield Finding(check, "wrong", what, f"{remedy}fairlead lanes retry {name} --state held")
    if status["lag_seconds"] > LAG_SECONDS:
        events, oldest = output.counted(status["lag_events"], "event"), age(status["lag_seconds"])
        remedy = "is the receiver up, and fast enough? see: fairlead status"
        yield Finding(check, "warning", f"{events} behind, the oldest {oldest} old; {because}", remedy)


def _routes(item: dict[str, Any]) -> Iterator[Finding]:
    """Its channels that do not deliver over their first target, or over none."""
    name, status = item["id"], item["status"]
    for route in status.get("routes") or ():
        channels = output.counted(route["channels"], "channel")
        since = f"since {since_and_why(route)}"
        check = f"subscription {name}"
        if route["state"] in ("suspect", "waiting"):
            what = _advice(route, item) or "mend that"
            remedy = f"{what}; it is tried again by itself, events are kept; see: fairlead status {name}"
            yield Finding(check, "wrong", f"{channels} {route['state']} {since}", remedy)
        elif route["target"] > 0:
            over = f"{channels} of it on target {route['target']} ({route['transport']}) {since}"
            returns = f"it returns by itself once {item['sink']} is well; see: fairlead status {name}"
            remedy = "; ".join(filter(None, (_advice(route, item), returns)))
            yield Finding(check, "warning", over, remedy)


def _advice(route: Mapping[str, Any], item: Mapping[str, Any]) -> str:
    """What to mend where it is not the broker, and where to look when its queue is of no use, or nobody
    answers on a bus, by what waits there; "" where the reason says all."""
    why = route["obstacle"] or route["reason"] or ""
    if LOGIN_REFUSED in why:
        return "mend the login: sinkcredential of the subscription, or the user at the broker"
    if why == UNCONFIRMED or REFUSED in why:
        return _advice_on_queue(item)
    silence, _, cause = why.partition("; ")
    if not silence.startswith(SILENCE):
        return ""
    if waiting := item["status"].get("at_broker"):
        return f"see whether a receiver runs and consumes: {output.counted(waiting, 'message')} at the broker"
    if cause:
        return ""
    return (
        "nothing is known to wait at the broker: see the receiver's log for what keeps its answers, and at"
        " the broker whether somebody else consumes from its queue"
    )


def _advice_on_queue(item: Mapping[str, Any]) -> str:
    """What to do about a queue that is there and takes nothing."""
    settings = item.get("protocolsettings") or {}
    queue = settings.get("queue") or f"fairlead.{item['id']}.…"
    anew = "is made anew" if settings.get("declare", True) else "made anew there"
    lost = "; what is in it is lost with it" if item["config"].get("settles") == "confirm" else ""
    return (
        f"see the broker's log for the queue {queue}: has it a majority of its nodes, and room on the disk?"
        f" One that is damaged can be deleted, and {anew}{lost}; if that does not help, restart its node"
    )


def _lanes(item: dict[str, Any]) -> Iterator[Finding]:
    """Its resources that wait for an operator, or for a retry."""
    name, status = item["id"], item["status"]
    check, because = f"subscription {name}", _because(status)
    if parked := status["parked_lanes"]:
        remedy = (
            f"see: fairlead lanes {name}; mend the receiver, then: fairlead lanes release {name}"
            " --state parked; or drop what can never be taken:"
            f" fairlead lanes skip {name} --key KEY --position N"
        )
        yield Finding(check, "wrong", f"{output.counted(parked, 'resource')} parked; {because}", remedy)
    if held := status["held_lanes"]:
        remedy = f"tried again without your doing; see: fairlead lanes {name}"
        what = f"{output.counted(held, 'resource')} waiting for a retry; {because}"
        yield Finding(check, "warning", what, remedy)


def _because(status: dict[str, Any]) -> str:
    last = last_error(status.get("last_error"))
    return f"last error {last}" if last else "no error on record"
