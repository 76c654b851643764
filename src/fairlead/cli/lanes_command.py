# SPDX-License-Identifier: Apache-2.0
"""`fairlead lanes`: the resources that wait for a retry or for an operator."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from fairlead.cli import output
from fairlead.cli.api import path_of
from fairlead.cli.calling import Caller, calls_api
from fairlead.cli.status_command import outcome

ACTIONS = ("retry", "skip", "release")


class _Lanes(click.Group):
    """`lanes NAME` lists; `lanes retry|skip|release NAME` acts."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            if len(args) > 1 and args[1] in ACTIONS:  # NAME before the verb reads as well
                args[0], args[1] = args[1], args[0]
            else:
                return "list", self.commands["list"], args
        return super().resolve_command(ctx, args)


@click.group("lanes", cls=_Lanes)
def command() -> None:
    """See and settle what is held or parked: `fairlead lanes NAME` lists the lanes of subscription NAME."""


@command.command("list")
@click.argument("name")
@click.option("--state", type=click.Choice(["held", "parked"]), help="only these")
@calls_api
def list_(caller: Caller, name: str, state: str | None) -> None:
    """List the held and parked lanes of subscription NAME."""
    query = {"state": state, "limit": 1000}

    def listed(page: dict[str, Any]) -> None:
        output.table(
            ("key", "state", "head", "waiting", "attempt", "next try", "last outcome"),
            [
                (
                    one["key"],
                    one["state"],
                    f"{one['partition']}:{one['head']['position']}",
                    one["waiting"],
                    one["attempt"],
                    output.when(one["ready_at"]) if one["state"] == "held" else None,
                    outcome(one["last_outcome"]),
                )
                for one in page["items"]
            ],
            empty="no lane is held or parked",
        )
        counts = page.get("counts") or {}
        if page["next"] is not None:
            output.note(f"the first {len(page['items'])} of {sum(counts.values())}")

    caller.show(caller.api.call("GET", path_of("subscriptions", name, "lanes"), query=query), listed)


def _act(verb: str, past: str, doc: str) -> None:
    @command.command(verb, help=doc)
    @click.argument("name")
    @click.option("--key", "keys", multiple=True, help="the lane of this ordering key; may be given again")
    @click.option("--state", type=click.Choice(["held", "parked"]), help="all lanes in this state")
    @calls_api
    def act(caller: Caller, name: str, keys: tuple[str, ...], state: str | None) -> None:
        if bool(keys) == bool(state):
            raise click.UsageError("say which: --key KEY, or --state parked")
        body: dict[str, Any] = {"keys": list(keys)} if keys else {"state": state}
        reply = caller.api.call("POST", path_of("subscriptions", name, "lanes", verb), body)
        caller.show(reply, _affected(past))


def _affected(past: str) -> Callable[[dict[str, Any]], None]:
    return lambda answer: output.say(f"{past} {output.counted(answer['affected'], 'lane')}")


_act("retry", "retried", "Try the head now; state and schedule stay if it fails.")
_act("release", "released", "Start a new schedule from attempt 0, now.")


def _position(_context: click.Context, _option: click.Parameter, text: str) -> int:
    """The N of `P:N`; the key says which partition it is in."""
    if not re.fullmatch(r"([0-9]+:)?(?=[0-9]*[1-9])[0-9]{1,19}", text):
        raise click.BadParameter(f"{text!r} is not P:N or N such as 5:17 or 17", param_hint="--position")
    return int(text.rpartition(":")[2])


@command.command("skip", short_help="Drop the head of a lane, on record.")
@click.argument("name")
@click.option("--key", required=True, help="the lane's ordering key")
@click.option(
    "--position",
    required=True,
    metavar="P:N",
    callback=_position,
    help="the head's place as `lanes` shows it, or its position N alone",
)
@click.option("--reason", default="", help="why; kept on record")
@calls_api
def skip(caller: Caller, name: str, key: str, position: int, reason: str) -> None:
    """Drop the head of a lane, on record, and go on with the next event."""
    body = {"key": key, "position": position, **({"reason": reason} if reason else {})}
    reply = caller.api.call("POST", path_of("subscriptions", name, "lanes", "skip"), body)
    caller.show(reply, _affected("skipped the head of"))
