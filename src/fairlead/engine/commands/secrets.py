# SPDX-License-Identifier: Apache-2.0
"""Making and rotating signing secrets (interface, section 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from fairlead.core.signature import new_secret, new_signing_key
from fairlead.core.subscription import DeliveryOptions, Predecessor, Secrets, Signature
from fairlead.core.subscription_secrets import secret_fault
from fairlead.errors import Fault, InvalidRequest

Silenced = Literal["earlier", "oldest"]
SECRET_BYTES = 32
MOST_PREDECESSORS = 16


def complete(
    secrets: Secrets, signature: Signature, random_bytes: Callable[[int], bytes]
) -> tuple[Secrets, frozenset[str]]:
    """The secrets with those made that are missing, and the members to show because they were made here.

    Answers are signed with `v1`, so who verifies deliveries by a public key needs an answer secret too.
    """
    shown = set()
    if not secrets.current:
        make = new_signing_key if signature == "v1a" else new_secret
        secrets = replace(secrets, current=make(random_bytes(SECRET_BYTES)))
        shown.add("secret")
    if secrets.answer is None and secrets.current.startswith("whsk_"):
        secrets = replace(secrets, answer=new_secret(random_bytes(SECRET_BYTES)))
        shown.add("answer_secret")
    return secrets, frozenset(shown)


def succeed(
    secrets: Secrets, successor: str, *, now: float, overlap_seconds: float, answer: str | None = None
) -> Secrets:
    """The secrets after a rotation at `now`: the one before signs too for `overlap_seconds`.

    Earlier ones sign on until the time that was promised for them: a receiver may have got none of their
    successors yet, because the answer that showed it was lost, say. Not without an overlap: then they are to
    be worth nothing from now on; nor beyond what receivers take of signatures: then the oldest goes.
    """
    if successor == secrets.current:
        return secrets
    if not overlap_seconds:
        return Secrets(successor, (), answer)
    before = Predecessor(secrets.current, now + overlap_seconds)
    earlier = [one for one in secrets.predecessors if now < one.until and one.secret != successor]
    return Secrets(successor, (before, *earlier[: MOST_PREDECESSORS - 1]), answer)


def silenced(before: Secrets, after: Secrets, now: float) -> Silenced | None:
    """Which secrets a rotation at `now` lets sign no more: every earlier one, or only the oldest, or none."""
    signing = after.in_force(now)
    if signing == (after.current,):
        return "earlier"
    return None if set(before.in_force(now)) <= set(signing) else "oldest"


def signed_as(options: DeliveryOptions, secret: str) -> DeliveryOptions:
    """The options with the kind of signature that a secret makes."""
    return replace(options, signature="v1a" if secret.startswith("whsk_") else "v1")


def check_secret(secret: str) -> None:
    """Raises InvalidRequest for what is no signing secret; the secret itself is never told."""
    if (detail := secret_fault(secret)) is not None:
        raise InvalidRequest(f"secret {detail}", faults=[Fault(detail=detail, pointer="/secret")])
