# SPDX-License-Identifier: Apache-2.0
"""`fairlead status`: how every subscription is doing, one line each."""

from __future__ import annotations

import json
from typing import Any

import click

from fairlead.cli import output
from fairlead.cli.calling import PAGE, Caller, calls_api

COLUMNS = ("subscription", "state", "rate/s", "lag", "oldest", "held", "parked", "skipped", "last error")


@click.command("status")
@calls_api
def command(caller: Caller) -> None:
    """Show per subscription its state, rate, lag, held and parked lanes and its last error."""
    reply = caller.api.call("GET", "/subscriptions", query={"limit": PAGE})
    page = reply.document()
    if caller.as_json and page["next"] is None:
        output.document(reply.body)
        return
    if caller.as_json:
        output.document({"items": list(caller.items("/subscriptions")), "next": None})
        return
    items = page["items"] if page["next"] is None else list(caller.items("/subscriptions"))
    output.table(
        COLUMNS,
        [row(item) for item in items],
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


def last_error(error: dict[str, Any] | None) -> str | None:
    """An attempt's failure in a few words."""
    if error is None:
        return None
    status = f" {error['status']}" if error.get("status") else ""
    detail = f": {error['detail']}" if error.get("detail") else ""
    return f"{output.when(error['at'])} {error['outcome']}{status}{detail}"


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
