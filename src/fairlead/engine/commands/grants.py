# SPDX-License-Identifier: Apache-2.0
"""Whether a login that is limited to some events may subscribe to what it asks for (design, section 8)."""

from __future__ import annotations

from fairlead.core.filters import needs
from fairlead.core.policy import Principal
from fairlead.core.subscription import Subscription
from fairlead.engine.permissions import ANY
from fairlead.errors import Forbidden


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
