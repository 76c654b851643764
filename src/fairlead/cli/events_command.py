# SPDX-License-Identifier: Apache-2.0
"""`fairlead events`: look at the log, or follow it."""

from __future__ import annotations

from typing import Any

import click

from fairlead.cli import output
from fairlead.cli.calling import PAGE, Caller, calls_api


@click.command("events")
@click.option("--key", help="only of this ordering key: partitionkey, or source, one space and subject")
@click.option("--source", help="only of this source")
@click.option("--id", "id_", help="only with this id; with --source also shows who got it")
@click.option("--subject", help="only about this subject")
@click.option("--type", "type_", help="only of this type")
@click.option("--accepted-after", metavar="TIME", help="only accepted after this RFC 3339 time")
@click.option("--limit", type=click.IntRange(1), help="at most so many (default 100)")
@click.option("--after", metavar="NEXT", help="go on where an earlier answer's `next` says")
@click.option("--follow", is_flag=True, help="wait for new ones and print them as they come")
@calls_api
def command(
    caller: Caller, follow: bool, limit: int | None, after: str | None, **filters: str | None
) -> None:
    """List events by partition and position."""
    query: dict[str, Any] = {name.rstrip("_"): value for name, value in filters.items()}
    if follow:
        _follow(caller, query, after)
        return
    limit = limit or 100
    if limit <= PAGE:
        query |= {"limit": limit, "after": after}
        reply = caller.api.call("GET", "/events", query=query)
        caller.show(reply, lambda page: _show(page["items"], query, page["next"]))
        return
    items: list[dict[str, Any]] = []
    while len(items) < limit:
        asked = {**query, "limit": min(PAGE, limit - len(items)), "after": after}
        page = caller.api.call("GET", "/events", query=asked).document()
        items += page["items"]
        after = page["next"]
        if after is None:
            break
    if caller.as_json:
        output.document({"items": items, "next": after})
    else:
        _show(items, query, after)


def _follow(caller: Caller, query: dict[str, Any], after: str | None) -> None:
    while True:
        page = caller.api.call("GET", "/events", query={**query, "follow": "true", "after": after}).document()
        after = page["next"]
        for item in page["items"]:
            if caller.as_json:
                output.document(item)
            else:
                output.say(_line(item))


def _show(items: list[dict[str, Any]], query: dict[str, Any], following: str | None) -> None:
    asked = any(value for name, value in query.items() if name not in ("limit", "after"))
    if not items and asked:
        output.note("no such event")
    elif not items:
        output.note("no event; send one with: fairlead send --source /demo --type example --data '{}'")
    for item in items:
        output.say(_line(item))
        for delivery in item.get("deliveries") or ():
            output.say(f"    {delivery['subscription']}: {delivery['state']}")
    if following is not None:
        output.note(f"there are more: --limit N, or --after {following}")


def _line(item: dict[str, Any]) -> str:
    event = item["event"]
    subject = f" {event['subject']}" if "subject" in event else ""
    place = f"{item['partition']}:{item['position']}"
    what = f"{event['type']}  {event['source']}{subject}  id {event['id']}"
    return f"{output.when(item['accepted_at'])}  {place:>8}  {what}"
