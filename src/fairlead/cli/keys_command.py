# SPDX-License-Identifier: Apache-2.0
"""`fairlead keys`: who may call."""

from __future__ import annotations

import time
from typing import Any

import click

from fairlead.cli import output
from fairlead.cli.api import path_of
from fairlead.cli.calling import Caller, calls_api
from fairlead.core.durations import format_time, parse_duration, parse_time

ACTIONS = ("publish", "subscribe", "read", "operate", "admin")


@click.group("keys")
def command() -> None:
    """Make, list and revoke API keys. As soon as one exists, every call needs a login."""


@command.command("add")
@click.argument("name")
@click.option(
    "--may",
    multiple=True,
    required=True,
    metavar="ACTION",
    help=f"one of {', '.join(ACTIONS)}; may be given again",
)
@click.option("--source", "sources", multiple=True, help="only these sources (may end in *)")
@click.option("--type", "types", multiple=True, help="only these types (may end in *)")
@click.option(
    "--subscription", "subscriptions", multiple=True, help="only these subscriptions (may end in *)"
)
@click.option("--expires", metavar="WHEN", help="a duration such as 90d, or an RFC 3339 time")
@calls_api
def add(
    caller: Caller, name: str, may: tuple[str, ...], expires: str | None, **patterns: tuple[str, ...]
) -> None:
    """Make a key and print it, this once."""
    actions = [action for text in may for action in text.split(",") if action]
    for action in actions:
        if action not in ACTIONS:
            raise click.BadParameter(f"{action!r} is not one of {', '.join(ACTIONS)}", param_hint="--may")
    grant = {"may": actions, **{what: list(names) for what, names in patterns.items() if names}}
    body = {"name": name, "grants": [grant], "expires_at": _expiry(expires)}

    def added(key: dict[str, Any]) -> None:
        output.say(key["key"])
        output.note(f"key {key['id']} for {name}; it is not shown again")
        if caller.api.key is None:
            output.note(
                "it is the first: from now on every call needs one, by --key-file or FAIRLEAD_API_KEY"
            )
            if "admin" not in actions:
                output.note("it cannot make other keys: for these start the relay with [auth] bootstrap_key")

    caller.show(caller.api.call("POST", "/keys", body), added)


def _expiry(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return format_time(int(time.time() + parse_duration(text)))
    except ValueError:
        pass
    try:
        return format_time(parse_time(text))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither a duration such as 90d nor an RFC 3339 time", param_hint="--expires"
        ) from None


@command.command("list")
@calls_api
def list_(caller: Caller) -> None:
    """List the keys, without the keys themselves."""
    caller.show(
        caller.api.call("GET", "/keys", query={"limit": 1000}),
        lambda page: output.table(
            ("id", "name", "may", "created", "expires", "last used"),
            [
                (
                    one["id"],
                    one["name"],
                    " + ".join(",".join(grant["may"]) for grant in one["grants"]),
                    output.when(one["created_at"]),
                    output.when(one["expires_at"]),
                    output.when(one["last_used_at"]),
                )
                for one in page["items"]
            ],
            empty="no key; without one and without [auth] bootstrap_key, calls need no login",
        ),
    )


@command.command("revoke", short_help="Revoke the key with this id.")
@click.argument("id_", metavar="ID")
@calls_api
def revoke(caller: Caller, id_: str) -> None:
    """Revoke the key with this id; calls with it are refused from now on."""
    caller.show(caller.api.call("DELETE", path_of("keys", id_)), lambda _: output.say(f"revoked {id_}"))
