# SPDX-License-Identifier: Apache-2.0
"""What a principal may do here, as questions with a `Forbidden` for a no (design, section 8)."""

from __future__ import annotations

from fairlead.core.policy import Action, Principal
from fairlead.errors import Forbidden

ANY = "\0"
"""Stands for "whatever it is": nothing contains it, so only a grant without limits, or `*`, covers it."""


SEEING: tuple[Action, ...] = ("read", "subscribe", "operate")


def require(principal: Principal, *actions: Action, subscription: str) -> None:
    """Leave to do one of `actions` to a subscription.

    Raises:
        Forbidden: no grant says so; nothing tells whether the subscription exists.
    """
    if not any(principal.may(action, subscription=subscription) for action in actions):
        wanted = " or ".join(actions)
        raise Forbidden(
            f"{principal.name!r} may not {wanted} subscription {subscription!r}; "
            f"it needs a key whose grants say so"
        )


def may_see(principal: Principal, subscription: str) -> bool:
    """Whether the subscription itself may be shown: to whoever reads, makes or operates it."""
    return any(principal.may(action, subscription=subscription) for action in SEEING)


def require_sight(principal: Principal, subscription: str) -> None:
    """Raises Forbidden unless `may_see`."""
    if not may_see(principal, subscription):
        require(principal, "read", subscription=subscription)


def reads_all(principal: Principal, subscription: str | None = None) -> bool:
    """Whether reads are not limited to some sources or types (of one subscription)."""
    return principal.may("read", source=ANY, type=ANY, subscription=subscription)
