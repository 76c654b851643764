# SPDX-License-Identifier: Apache-2.0
"""`fairlead replay`: deliver again from an earlier place."""

from __future__ import annotations

import re
from typing import Any

import click

from fairlead.cli import output
from fairlead.cli.api import path_of
from fairlead.cli.calling import Caller, calls_api


@click.command("replay")
@click.argument("name")
@click.option("--position", metavar="P:N", help="from position N of partition P")
@click.option(
    "--time", "time_", metavar="TIME", help="from the first event accepted at this RFC 3339 time or later"
)
@click.option("--event", nargs=2, metavar="SOURCE ID", help="from this event")
@click.option("--key", help="only the events of this ordering key")
@calls_api
def command(
    caller: Caller,
    *,
    name: str,
    position: str | None,
    time_: str | None,
    event: tuple[str, str] | None,
    key: str | None,
) -> None:
    """Deliver to subscription NAME again what it had, in order, from a place on."""
    body: dict[str, Any] = {}
    if position is not None:
        place = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,19})", position)
        if place is None:
            raise click.BadParameter(f"{position!r} is not P:N such as 5:17", param_hint="--position")
        body["position"] = {"partition": int(place[1]), "position": int(place[2])}
    if time_ is not None:
        body["time"] = time_
    if event is not None:
        body["event"] = {"source": event[0], "id": event[1]}
    if len(body) != 1:
        raise click.UsageError("say from where: exactly one of --position, --time and --event")
    if key is not None:
        body["key"] = key

    def replayed(answer: dict[str, Any]) -> None:
        events = output.counted(answer["events"], "event")
        output.say(f"replaying {events} to {name} in generation {answer['generation']}")
        for channel in answer["channels"]:
            output.say(f"  partition {channel['partition']}: {channel['from']} to {channel['to']}")

    caller.show(caller.api.call("POST", path_of("subscriptions", name, "replay"), body), replayed)
