# SPDX-License-Identifier: Apache-2.0
"""The JSON of a subscription, as the API takes and shows it (interface, section 4).

`parse` and `render` are inverse but for what is write-only: what was read can be put back. Targets, `config`
and the rules between members have modules of their own: `subscription_targets`, `subscription_config`,
`subscription_secrets`, `subscription_rules`; `subscription_record` is the store's form.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from fairlead.core.filters import check_filters
from fairlead.core.members import Members
from fairlead.core.subscription import Matching, Subscription, Target
from fairlead.core.subscription_config import (
    CONFIG_MEMBERS,
    default_options,
    read_options,
    read_start,
    rendered_options,
    rendered_start,
)
from fairlead.core.subscription_rules import agreed_options
from fairlead.core.subscription_secrets import read_secrets
from fairlead.core.subscription_targets import TARGET_MEMBERS, read_target, rendered_target
from fairlead.errors import Fault, InvalidFilter, InvalidSubscription, Problem

MEMBERS = ("id", "source", "types", "filters", *TARGET_MEMBERS, "config", "status")
ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_MAX_TARGETS = 8
_SURROGATE = re.compile("[\ud800-\udfff]")
_ELSEWHERE = {name: f"/config/{name}" for name in CONFIG_MEMBERS} | {
    name: f"/protocolsettings/{name}" for name in ("method", "headers", "mode", "handshake")
}


def parse(
    document: object,
    *,
    id: str,
    previous: Subscription | None,
    defaults: Mapping[str, Any],
    now: float,
    id_made: bool = False,
) -> Subscription:
    """The subscription that a request body asks for.

    State, revision, generation and times are `previous`'s, or those of a new one; whoever stores it raises
    the revision. Without a secret of its own a new one has `secrets.current == ""`: the engine makes it.

    Args:
        document: the body, decoded from JSON.
        id: the subscription's: the path's or, with `id_made`, the one that the relay made. Then `id` in the
            body is ignored, else it must be the same.
        previous: the subscription there is under that id; its write-only values stay where the body has none,
            and its `start`.
        defaults: the `[delivery]` table: members of `config` in the API's form.
        now: Unix seconds, `since` and `created_at` of a new one.

    Raises:
        InvalidSubscription: with every fault there is, those of filters too.
        InvalidFilter: where the filters alone are wrong.
    """
    faults: list[Fault] = []
    members = Members(document, "", faults, MEMBERS, elsewhere=_ELSEWHERE)
    if not isinstance(document, dict):
        raise _problem(faults, [])
    _check_id(members, id, id_made)
    matching, filter_faults = _matching(members)
    config = members.nested("config", CONFIG_MEMBERS)
    targets = _targets(members, config, id, previous)
    secrets = read_secrets(config, previous.secrets if previous is not None else None)
    options = read_options(config, default_options(defaults))
    options = agreed_options(config, options, targets, secrets, previous)
    start = read_start(config) if previous is None else previous.start
    _check_text(document, faults)
    if faults or filter_faults:
        raise _problem(faults, filter_faults)
    if previous is not None:
        return replace(previous, matching=matching, targets=targets, options=options, secrets=secrets)
    return Subscription(id, matching, targets, options, secrets, start, since=now, created_at=now)


def render(
    subscription: Subscription, status: Mapping[str, object], *, show: Collection[str] = ()
) -> dict[str, Any]:
    """The subscription as the API shows it, `config` whole.

    Args:
        status: the member of that name, as the engine's queries give it.
        show: which secrets to show, `secret` and `answer_secret`: only in the answer that made them.
    """
    matching, (first, *further) = subscription.matching, subscription.targets
    document: dict[str, Any] = {"id": subscription.id}
    if matching.source is not None:
        document["source"] = matching.source
    if matching.types:
        document["types"] = list(matching.types)
    if matching.filters:
        document["filters"] = list(matching.filters)
    document |= rendered_target(first)
    config: dict[str, Any] = {"route": [rendered_target(target) for target in further]}
    config |= rendered_options(subscription.options)
    config["start"] = rendered_start(subscription.start)
    secrets = {"secret": subscription.secrets.current, "answer_secret": subscription.secrets.answer}
    config |= {name: value for name, value in secrets.items() if name in show and value}
    document["config"] = config
    document["status"] = dict(status)
    return document


def _check_id(members: Members, id: str, id_made: bool) -> None:
    if ID.fullmatch(id) is None:
        detail = "must be 1 to 63 lower-case letters, digits and hyphens, no hyphen first"
        members.fault("id", detail, "choose another name in the path")
    elif not id_made and "id" in members and members.raw("id") != id:
        members.fault("id", f"must be {id!r}, as in the path", "or leave it out")


def _matching(members: Members) -> tuple[Matching, list[Fault]]:
    source = members.text("source")
    if source is not None and " " in source:
        members.fault("source", "must be a URI-reference, which holds no space")
    types = members.array("types")
    for at, name in enumerate(types):
        if not isinstance(name, str) or not name:
            pointer = f"{members.at('types')}/{at}"
            members.faults.append(Fault(detail="must be a string that is not empty", pointer=pointer))
    given = members.raw("filters")
    filters = [] if given is None else given
    filter_faults = check_filters(filters, members.at("filters"))
    if filter_faults:
        return Matching(), filter_faults
    kept = dict.fromkeys(name for name in types if isinstance(name, str))
    return Matching(source, tuple(kept), tuple(filters)), []


def _targets(members: Members, config: Members, id: str, previous: Subscription | None) -> tuple[Target, ...]:
    before = previous.targets if previous is not None else ()
    targets = [read_target(members, id=id, previous=before, index=0)]
    route = config.array("route")
    if len(route) >= _MAX_TARGETS:
        config.fault("route", f"must be at most {_MAX_TARGETS - 1} further targets")
    for at, item in enumerate(route[: _MAX_TARGETS - 1]):
        pointer = f"{config.at('route')}/{at}"
        item_members = Members(item, pointer, members.faults, TARGET_MEMBERS)
        targets.append(read_target(item_members, id=id, previous=before, index=at + 1))
    return tuple(targets)


def _check_text(document: object, faults: list[Fault]) -> None:
    """Refuse what some JSON decoders let through and UTF-8 does not: half a surrogate pair."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str) and _SURROGATE.search(value):
            faults.append(Fault(detail="holds half a surrogate pair, which is no Unicode text", pointer=""))
            return


def _problem(faults: list[Fault], filter_faults: list[Fault]) -> Problem:
    """The one problem that tells every fault; only filters at fault have a type of their own."""
    every = [*faults, *filter_faults]
    first = every[0]
    more = f" (and {len(every) - 1} more)" if len(every) > 1 else ""
    detail = f"{first.pointer or 'the body'} {first.detail}{more}"
    kind = InvalidSubscription if faults else InvalidFilter
    return kind(detail, faults=every)
