# SPDX-License-Identifier: Apache-2.0
"""Which events a channel wants, by the filter in force at each position (design, section 5, "Filters")."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import attrgetter

from fairlead.core.channel import ChannelState, FilterRevision
from fairlead.core.filters import Predicate, anything, compile_matching
from fairlead.core.log import Entry
from fairlead.core.subscription import Subscription
from fairlead.ports import Subscriptions

Wants = Callable[[Entry], bool]

_from_pos = attrgetter("from_pos")


def revision_at(filters: Sequence[FilterRevision], position: int, default: int) -> int:
    """The revision in force at a position; below the first one, the first; `default` where there is none."""
    if not filters:
        return default
    return filters[max(bisect_right(filters, position, key=_from_pos) - 1, 0)].revision


def every_entry(entry: Entry) -> bool:
    """What a subscription without filters wants."""
    return True


class Revisions:
    """Compiled filters of the subscriptions, by revision."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions
        self._compiled: dict[str, tuple[float, dict[int, Predicate]]] = {}

    async def of(self, subscription: Subscription, state: ChannelState) -> Wants:
        """Whether the channel wants an entry of its partition.

        Raises:
            NotFound: the subscription was deleted meanwhile.
        """
        predicates = self._predicates(subscription)
        filters = state.filters
        for revision in {one.revision for one in filters} or {subscription.revision}:
            if revision not in predicates:
                matching = (
                    subscription.matching
                    if revision == subscription.revision
                    else await self._subscriptions.matching(subscription.id, revision)
                )
                predicates[revision] = compile_matching(matching)

        if len(predicates) == 1:
            (only,) = predicates.values()
            if only is anything:
                return every_entry
            return lambda entry: only(entry.event.attributes)

        def wants(entry: Entry) -> bool:
            revision = revision_at(filters, entry.position, subscription.revision)
            return predicates[revision](entry.event.attributes)

        return wants

    def _predicates(self, subscription: Subscription) -> dict[int, Predicate]:
        """What was compiled for it; a subscription made anew under the same id begins with nothing."""
        made_at, predicates = self._compiled.get(subscription.id, (None, {}))
        if made_at != subscription.created_at:
            predicates = {}
            self._compiled[subscription.id] = (subscription.created_at, predicates)
        return predicates
