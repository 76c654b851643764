# SPDX-License-Identifier: Apache-2.0
"""`fairlead status`: how every subscription is doing, one line each."""

from __future__ import annotations

import json
from typing import Any

import click

from fairlead.cli import output
from fairlead.cli.api import path_of
from fairlead.cli.calling import PAGE, Caller, calls_api

COLUMNS = ("subscription", "state", "rate/s", "lag", "oldest", "held", "parked", "skipped", "last error")


ROUTE_COLUMNS = ("partition", "target", "transport", "state", "since", "switches", "unanswered", "at broker")


@click.command("status")
@click.argument("name", required=False)
@calls_api
def command(caller: Caller, name: str | None) -> None:
    """Show per subscription its state, rate, lag, held and parked lanes and its last error; of one that is
    NAMEd, each channel: over which target it delivers, since when and why."""
    if name is not None:
        _channels(caller, name)
        return
    reply = caller.api.call("GET", "/subscriptions", query={"limit": PAGE})
    page = reply.document()
    if caller.as_json and page["next"] is None:
        output.document(reply.body)
        return
    if caller.as_json:
        output.document({"items": list(caller.items("/subscriptions")), "next": None})
        return
    items = page["items"] if page["next"] is None else list(caller.items("/subscriptions"))
    routed = any(item["status"].get("routes") for item in items)
    output.table(
        (*COLUMNS, "route") if routed else COLUMNS,
        [[*row(item), route(item)] if routed else row(item) for item in items],
        empty="no subscription yet; add one with: fairlead subscriptions add NAME --sink URL",
    )


def row(item: dict[str, Any]) -> list[object]:
    """The status line of one subscription."""
    status = item["status"]
    reason = "the store is damaged; see fairlead doctor" if status.get("damage") else status.get("reason")
    state = status["state"] + (f" ({reason})" if reason else "")
    return [
        item["id"],
        state,
        status["rate_per_second"],
        status["lag_events"],
        age(status["lag_seconds"]) if status["lag_events"] else None,
        status["held_lanes"],
        status["parked_lanes"],
        status["skipped_events"],
        last_error(status.get("last_error")),
    ]


def _channels(caller: Caller, name: str) -> None:
    reply = caller.api.call("GET", path_of("subscriptions", name, "channels"))
    if caller.as_json:
        output.document(reply.body)
        return
    rows = [
        [
            one["partition"],
            one["target"],
            one["transport"],
            one["state"] + (f" ({why(one)})" if one["reason"] else ""),
            output.when(one["since"]) if one["since"] else None,
            one["switches"],
            one["unanswered"],
            one["at_broker"],
        ]
        for one in reply.document()["items"]
    ]
    output.table(ROUTE_COLUMNS, rows, empty="no channel")


def route(item: dict[str, Any]) -> str | None:
    """Over what a subscription's channels deliver, and why where that is not their first target."""
    told = []
    for one in item["status"].get("routes") or ():
        usual = one["target"] == 0 and one["state"] in ("bus", "rest")
        because = "" if usual else f" since {since_and_why(one)}"
        told.append(f"{one['channels']} {one['state']}{because}")
    return ", ".join(told) or None


def since_and_why(route: dict[str, Any]) -> str:
    """Since when a route is what it is, and why where that is known."""
    because = f": {why(route)}" if route["reason"] else ""
    return f"{output.when(route['since'])}{because}"


def why(route: dict[str, Any]) -> str:
    """Why a route is what it is, and what keeps it so by now where that is something else."""
    return "; now: ".join(filter(None, (route["reason"], route["obstacle"])))


def last_error(error: dict[str, Any] | None) -> str | None:
    """When an attempt failed, and how."""
    return None if error is None else f"{output.when(error['at'])} {outcome(error)}"


def outcome(attempt: dict[str, Any] | None) -> str | None:
    """What came of an attempt in a few words: `unavailable 503: answered 503 Service Unavailable`."""
    if attempt is None:
        return None
    status = f" {attempt['status']}" if attempt.get("status") else ""
    detail = f": {attempt['detail']}" if attempt.get("detail") else ""
    return f"{attempt['outcome']}{status}{detail}"


def age(seconds: float) -> str:
    """How long something has been waiting, to two units at most: `12s`, `3m 20s`, `2d 4h`."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def compact(value: object) -> str:
    """JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
