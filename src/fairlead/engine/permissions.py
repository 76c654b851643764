# SPDX-License-Identifier: Apache-2.0
"""What a principal may do here, as questions with a `Forbidden` for a no (design, section 8)."""

from __future__ import annotations

from fairlead.core.filters import needs
from fairlead.core.policy import Action, Principal
from fairlead.core.subscription import Subscription
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


def require_coverage(principal: Principal, subscription: Subscription) -> None:
    """Everything that the subscription can be sent is covered by the principal's grants to subscribe.

    Only what its `source`, `types` and exact filters say for certain counts: of a prefix or `sql` filter it
    is not known which sources it lets pass.

    Raises:
        Forbidden: it could be sent events of a source or type that no grant covers.
    """
    if principal.may("subscribe", source=ANY, type=ANY, subscription=subscription.id):
        return
    types, sources = needs(subscription.matching)
    for source in sorted(sources) if sources is not None else [ANY]:
        for type in sorted(types) if types is not None else [ANY]:
            if not principal.may("subscribe", source=source, type=type, subscription=subscription.id):
                raise Forbidden(
                    f"{principal.name!r} may not subscribe to {_what('type', type)} "
                    f"from {_what('source', source)}; name a `source` and `types` that its grants cover"
                )


def _what(noun: str, value: str) -> str:
    return f"any {noun}" if value == ANY else f"{noun} {value!r}"
