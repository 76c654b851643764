# SPDX-License-Identifier: Apache-2.0
"""`config.secret` and `config.answer_secret` in JSON (interface, section 4): they are write-only."""

from __future__ import annotations

from dataclasses import replace

from fairlead.core.members import Members
from fairlead.core.signature import check_secret
from fairlead.core.subscription import Secrets
from fairlead.errors import InvalidSecret

_SHARED = '"whsec_" and base64 of 24 to 64 bytes'
_FAULTS = {
    "secret": f'must be {_SHARED}, or "whsk_" and base64 of an Ed25519 key',
    "answer_secret": f"must be {_SHARED}: answers are signed with v1",
}


def read_secrets(config: Members, previous: Secrets | None) -> Secrets:
    """The secrets that `config` gives; the others are `previous`'s, or still to be made (`""`)."""
    given, answer = _secret(config, "secret"), _secret(config, "answer_secret")
    if previous is None:
        return Secrets(given or "", answer=answer)
    if answer is not None:
        previous = replace(previous, answer=answer)
    return previous if given in (None, previous.current) else Secrets(given, answer=previous.answer)


def secret_fault(secret: object, name: str = "secret") -> str | None:
    """What is wrong with the secret of that name (Standard Webhooks), or None; itself it is never told."""
    if not isinstance(secret, str) or (name == "answer_secret" and not secret.startswith("whsec_")):
        return _FAULTS[name]
    try:
        check_secret(secret)
    except InvalidSecret:
        return _FAULTS[name]
    return None


def _secret(config: Members, name: str) -> str | None:
    """A secret of `config`, None where there is none or a wrong one."""
    if name not in config:
        return None
    secret: str = config.raw(name)
    if (wrong := secret_fault(secret, name)) is None:
        return secret
    config.fault(name, wrong)
    return None
