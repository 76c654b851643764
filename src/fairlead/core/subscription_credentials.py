# SPDX-License-Identifier: Apache-2.0
"""`sinkcredential` in JSON (CloudEvents Subscriptions 3.2.3): its secrets are write-only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairlead.core.durations import parse_time
from fairlead.core.members import Members
from fairlead.core.subscription import Target

_ATTRIBUTES = {
    "PLAIN": ("identifier", "secret"),
    "ACCESSTOKEN": ("accesstoken", "accesstokentype", "accesstokenexpiresutc"),
}
_SECRET = {"PLAIN": "secret", "ACCESSTOKEN": "accesstoken"}


def read_credential(target: Members, before: Target | None, *, moved: bool) -> dict[str, Any] | None:
    """The credential of a target, None for none; faults are noted.

    A secret that is absent is the one that `before` has for the same type and identifier, unless the target
    has `moved` to another host, or one more.
    """
    if "sinkcredential" not in target:
        return None
    known = ("credentialtype", *(name for names in _ATTRIBUTES.values() for name in names))
    given = target.nested("sinkcredential", known)
    kind = _kind(given)
    if kind is None:
        return None
    for name in given.names():
        if name in known and name not in ("credentialtype", *_ATTRIBUTES[kind]):
            given.fault(name, f"does not belong to {kind}", f"it has {' and '.join(_ATTRIBUTES[kind])}")
    credential: dict[str, Any] = {"credentialtype": kind}
    if kind == "PLAIN":
        credential["identifier"] = _identifier(given)
    else:
        credential |= _token_attributes(given)
    credential[_SECRET[kind]] = _secret(given, credential, before, moved)
    return credential


def rendered_credential(credential: Mapping[str, Any]) -> dict[str, Any]:
    """A credential without its secrets."""
    return {name: value for name, value in credential.items() if name not in _SECRET.values()}


def _kind(given: Members) -> str | None:
    if "credentialtype" not in given:
        given.fault("credentialtype", "is missing", '"PLAIN" or "ACCESSTOKEN"')
        return None
    if given.raw("credentialtype") == "REFRESHTOKEN":
        detail = "REFRESHTOKEN comes with a later release"
        given.fault("credentialtype", detail, 'use "PLAIN" or "ACCESSTOKEN"')
        return None
    return given.choice("credentialtype", tuple(_ATTRIBUTES), "") or None


def _identifier(given: Members) -> str:
    identifier = given.required_text("identifier")
    if ":" in identifier:
        given.fault("identifier", "must not hold a colon: Basic authentication ends the name there")
    return identifier


def _token_attributes(given: Members) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    kind = given.text("accesstokentype")
    if kind is not None:
        if kind.lower() != "bearer":
            given.fault("accesstokentype", 'must be "bearer"')
        attributes["accesstokentype"] = kind
    expires = given.text("accesstokenexpiresutc")
    if expires is not None:
        try:
            parse_time(expires)
        except ValueError as error:
            given.fault("accesstokenexpiresutc", str(error))
        attributes["accesstokenexpiresutc"] = expires
    return attributes


def _secret(given: Members, credential: Mapping[str, Any], before: Target | None, moved: bool) -> str:
    name = _SECRET[credential["credentialtype"]]
    if name in given:
        secret = given.required_text(name)
        if name == "accesstoken" and not (secret.isascii() and " " not in secret):
            given.fault(name, "must be ASCII without spaces")
        return secret
    known = before.credential if before is not None else None
    if known is None or any(known.get(at) != credential.get(at) for at in ("credentialtype", "identifier")):
        given.fault(name, "is missing")
    elif moved:
        given.fault(name, "is kept only while the sink stays on its host, with no new one", "give it again")
    else:
        return str(known[name])
    return ""
