# SPDX-License-Identifier: Apache-2.0
"""Targets in JSON: `sink`, `protocol`, `protocolsettings`, `sinkcredential` (interface, section 4).

Which addresses may be called is the egress policy's matter; here a sink is only read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from fairlead.core.address import parse_url
from fairlead.core.members import Members
from fairlead.core.subscription import Mode, Target
from fairlead.core.subscription_credentials import read_credential, rendered_credential
from fairlead.errors import Fault

TARGET_MEMBERS = ("sink", "protocol", "protocolsettings", "sinkcredential")
PROTOCOLS = {"HTTP": ("http", "https"), "AMQP": ("amqp", "amqps")}
METHODS = ("POST", "PUT", "PATCH")
MODES = ("structured", "binary", "bare")
KEPT = "***"
"""What stands for a header's value that is not shown."""

_HTTP_SETTINGS = ("method", "headers", "mode", "handshake")
_AMQP_SETTINGS = ("exchange", "routing_key", "queue", "address", "addresses", "shards", "mode", "declare")
_REFUSED = frozenset({"host", "connection", "transfer-encoding", "te", "upgrade", "expect", "user-agent"})
_REFUSED_PREFIXES = ("content-", "webhook-", "ce-")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_MAX_HEADERS, _MAX_VALUE = 64, 8192
_MAX_AMQP_NAME_BYTES = 250
_MAX_ADDRESSES = 16


def read_target(members: Members, *, id: str, previous: Sequence[Target], index: int) -> Target:
    """The target that `members` describe; its faults are noted there.

    Args:
        id: the subscription's, the default of `routing_key`.
        previous: the targets there were: write-only values that are absent or `***` are theirs.
        index: the target's place; targets are told apart by sink, then by place.
    """
    protocol = _protocol(members)
    sink = _sink(members, protocol)
    before, moved = _before(sink, previous, index)
    if protocol == "AMQP":
        settings = _amqp_settings(members, id, before if before is not None and before.sink == sink else None)
        moved = moved or (before is not None and not _hosts(sink, settings) <= _hosts(sink, before.settings))
        credential = read_credential(members, before, moved=moved)
        if credential is not None and credential["credentialtype"] != "PLAIN":
            members.fault("sinkcredential", 'must have the credentialtype "PLAIN" where protocol is AMQP')
        return Target(
            sink, "AMQP", mode=cast(Mode, settings["mode"]), settings=settings, credential=credential
        )
    settings_members = members.nested("protocolsettings", _HTTP_SETTINGS)
    target = Target(
        sink,
        method=settings_members.choice("method", METHODS, "POST"),
        headers=_headers(settings_members, before, moved),
        mode=cast(Mode, settings_members.choice("mode", MODES, "structured")),
        handshake="required" if _handshake(settings_members) else "none",
        credential=read_credential(members, before, moved=moved),
    )
    if target.credential is not None and any(name.lower() == "authorization" for name in target.headers):
        detail = "name Authorization, which sinkcredential sets too"
        settings_members.fault("headers", detail, "keep one of the two")
    return target


def rendered_target(target: Target) -> dict[str, Any]:
    """The JSON members of a target without its secrets; `read_target` reads them back."""
    if target.protocol == "AMQP":
        settings = dict(target.settings)
    else:
        settings = {
            "method": target.method,
            "headers": dict.fromkeys(target.headers, KEPT),
            "mode": target.mode,
            "handshake": target.handshake,
        }
    document = {"sink": target.sink, "protocol": target.protocol, "protocolsettings": settings}
    if target.credential is not None:
        document["sinkcredential"] = rendered_credential(target.credential)
    return document


def _protocol(members: Members) -> str:
    if "protocol" not in members:
        members.fault("protocol", "is missing", 'add "protocol": "HTTP"')
    return members.choice("protocol", tuple(PROTOCOLS), "HTTP")


def _sink(members: Members, protocol: str) -> str:
    sink = members.required_text("sink")
    if not sink:
        return ""
    authority = re.split(r"[/?#\\]", sink.partition("://")[2])[0]
    if "@" in authority:
        members.fault("sink", "must not hold user information", "put it in sinkcredential")
        return sink
    try:
        scheme = parse_url(sink).scheme
    except ValueError as error:
        members.fault("sink", str(error))
        return sink
    if "#" in sink:
        members.fault("sink", "must not have a fragment: it never leaves a client")
    if protocol == "AMQP" and "?" in sink:
        members.fault("sink", "must not have a query: a broker's address has none", "end it with the path")
    if scheme not in PROTOCOLS[protocol]:
        schemes = " or ".join(f"{known}://" for known in PROTOCOLS[protocol])
        members.fault("sink", f"must begin with {schemes} where protocol is {protocol}")
    return sink


def _handshake(settings: Members) -> bool:
    return settings.choice("handshake", ("none", "required"), "none") == "required"


def _before(sink: str, previous: Sequence[Target], index: int) -> tuple[Target | None, bool]:
    """The target that this one was, and whether it has moved to another host.

    What is write-only does not follow to another host: whoever may change a subscription could otherwise have
    its credentials sent to a host of their own.
    """
    same = next((target for target in (*previous[index : index + 1], *previous) if target.sink == sink), None)
    if same is not None or index >= len(previous):
        return same, False
    return previous[index], _host(sink) != _host(previous[index].sink)


def _host(sink: str) -> str | None:
    try:
        return parse_url(sink).endpoint.host
    except ValueError:
        return None


def _hosts(sink: str, settings: Mapping[str, Any]) -> set[str | None]:
    """Where the login of a broker goes: every address gets it, not the sink alone."""
    addresses = (one for one in settings.get("addresses", ()) if isinstance(one, str))
    return {_host(one) for one in (sink, *addresses)}


# -- settings -----------------------------------------------------------------------------------------------


def _headers(settings: Members, before: Target | None, moved: bool) -> dict[str, str]:
    raw = settings.raw("headers")
    given = settings.nested("headers", raw if isinstance(raw, dict) else ())
    kept = {name.lower(): value for name, value in before.headers.items()} if before is not None else {}
    headers: dict[str, str] = {}
    for name in given.names():
        value = given.raw(name)
        if value == KEPT and name.lower() in kept:
            if moved:
                given.fault(name, "is kept only while the sink stays on its host", "give the value again")
            value = kept[name.lower()]
        elif value == KEPT:
            given.fault(name, '"***" stands for a value that is kept, and there is none', "give the value")
        if _header_is_fine(given, name, value, headers):
            headers[name] = value
    if len(headers) > _MAX_HEADERS:
        settings.fault("headers", f"must be at most {_MAX_HEADERS}")
    return headers


def _header_is_fine(given: Members, name: str, value: object, others: Mapping[str, str]) -> bool:
    lower = name.lower()
    if _TOKEN.fullmatch(name) is None:
        given.fault(name, "is no header name: letters, digits and !#$%&'*+-.^_`|~")
    elif lower in _REFUSED or lower.startswith(_REFUSED_PREFIXES):
        given.fault(name, "is set by the relay and cannot be set here")
    elif any(lower == other.lower() for other in others):
        given.fault(name, "is there twice; header names are the same in any case")
    elif not isinstance(value, str) or not _is_header_value(value):
        given.fault(name, f"must be at most {_MAX_VALUE} characters of Latin-1, no control characters")
    else:
        return True
    return False


def _is_header_value(value: str) -> bool:
    return (
        len(value) <= _MAX_VALUE
        and value == value.strip()
        and all(32 <= ord(character) <= 255 and not 127 <= ord(character) < 160 for character in value)
    )


def _amqp_settings(members: Members, id: str, before: Target | None) -> dict[str, Any]:
    given = members.nested("protocolsettings", _AMQP_SETTINGS)
    addresses = given.array("addresses")
    if len(addresses) > _MAX_ADDRESSES:
        given.fault("addresses", f"must be at most {_MAX_ADDRESSES}: they are the nodes of one cluster")
        addresses = []
    faults: list[Fault] = []
    for at, address in enumerate(addresses):
        one = Members({"sink": address}, f"{given.at('addresses')}/{at}", faults, ("sink",))
        _sink(one, "AMQP")
    given.faults.extend(
        Fault(detail=fault.detail, pointer=(fault.pointer or "").removesuffix("/sink"), hint=fault.hint)
        for fault in faults
    )
    declare = given.flag("declare", True)
    for name in ("exchange", "routing_key", "queue"):
        _check_amqp_name(given, name, declare=declare)
    shards = given.integer("shards", 1, 1, 64)
    if before is not None and before.settings.get("shards", 1) != shards:
        detail = f"is {before.settings.get('shards', 1)} and fixed: what waits would be in another queue"
        given.fault("shards", detail, "make another subscription with it")
    return {
        "exchange": given.text("exchange", "fairlead"),
        "routing_key": given.text("routing_key", id),
        "queue": given.text("queue"),
        "address": given.text("address"),
        "addresses": addresses,
        "shards": shards,
        "mode": given.choice("mode", MODES[:2], "structured"),
        "declare": declare,
    }


def _check_amqp_name(given: Members, name: str, *, declare: bool) -> None:
    """What a broker would refuse later is refused now."""
    value = given.raw(name)
    if not isinstance(value, str):
        return
    if len(value.encode("utf-8", "replace")) > _MAX_AMQP_NAME_BYTES:
        given.fault(name, f"must be at most {_MAX_AMQP_NAME_BYTES} bytes, with the shard's ending")
    elif not value and name != "routing_key":
        given.fault(name, "must not be empty", "leave it out for the default")
    elif declare and name != "routing_key" and value.startswith("amq."):
        given.fault(name, "begins with amq., which brokers keep for themselves", "choose another name")
