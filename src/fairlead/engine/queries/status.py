# SPDX-License-Identifier: Apache-2.0
"""How it goes: the status of subscriptions, readiness, metrics (interface, sections 4 and 6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fairlead.core.durations import format_time
from fairlead.core.policy import Principal
from fairlead.core.signature import public_key
from fairlead.core.subscription import Subscription
from fairlead.engine.log_room import LogRoom
from fairlead.engine.permissions import may_see
from fairlead.engine.queries.lag import Lag, lag_of
from fairlead.engine.queries.routes import route_metrics, routes_of
from fairlead.engine.sending.views import ChannelView
from fairlead.errors import Forbidden, StoreError
from fairlead.ports import Clock, Store
from fairlead.telemetry import Telemetry, family

if TYPE_CHECKING:
    from fairlead.engine.sending.dispatcher import Dispatcher


class StatusQueries:
    """Answers cheap enough to be asked for every few seconds.

    Args:
        phase: `starting`, `ready`, `stopping` or `failed`.
    """

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        clock: Clock,
        telemetry: Telemetry,
        *,
        phase: Callable[[], str],
        log_room: LogRoom,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._telemetry = telemetry
        self._phase = phase
        self._log_room = log_room

    async def status(self, subscription: Subscription) -> dict[str, Any]:
        """The `status` of one subscription; see `fairlead.engine.queries.lag` for what lag counts."""
        return await self._status(subscription, await self._kept())

    async def statuses(self, subscriptions: Sequence[Subscription]) -> list[dict[str, Any]]:
        """The `status` of each."""
        kept = await self._kept()
        return [await self._status(subscription, kept) for subscription in subscriptions]

    async def readiness(self) -> dict[str, Any]:
        """`status` is `ready` (200), or why not (503).

        A store that is `damaged` in places, or `full`, is no reason for 503: it does what it can, and whoever
        mends it needs the relay for that.
        """
        store = await self._store_state()
        phase = self._phase()
        partitions = self._store.log.partitions
        return {
            "status": phase,
            "store": store,
            "partitions_owned": partitions if phase == "ready" else 0,
            "partitions": partitions,
        }

    async def metrics_text(self, principal: Principal) -> str:
        """Every metric in Prometheus' text format; only of subscriptions that the principal may see.

        Raises:
            Forbidden: no grant to `read`.
        """
        if not principal.may("read"):
            raise Forbidden(f"{principal.name!r} may not read metrics; it needs a grant to `read`")
        kept = await self._kept()
        seen = [one for one in await self._store.subscriptions.all() if may_see(principal, one.id)]
        lags, lanes, targets, waiting = [], [], [], []
        every: list[ChannelView] = []
        for subscription in seen:
            counts = await self._store.channels.count_holds(subscription.id)
            label = {"subscription": subscription.id}
            lags.append((label, await self._lag(subscription, kept)))
            lanes += [({**label, "state": state}, counts.get(state, 0)) for state in ("held", "parked")]
            views = self._dispatcher.views(subscription.id)
            every += views
            targets += [
                ({**label, "partition": str(view.channel.partition)}, view.fence.target) for view in views
            ]
            if any(view.route is not None for view in views):
                waiting.append((label, float(await self._dispatcher.at_broker(subscription.id))))
        greatest = max((lag.seconds for _, lag in lags), default=0.0)
        events = [(label, lag.events) for label, lag in lags]
        size = await self._store.log.size_bytes()
        sound = await self._store_state() == "ok"
        return self._telemetry.render(frozenset(one.id for one in seen)) + "".join(
            (
                family("fairlead_lag_events", "gauge", "Events that a subscription has yet to get.", events),
                family(
                    "fairlead_lag_seconds", "gauge", "Age of the oldest of them, of any.", [({}, greatest)]
                ),
                family("fairlead_lanes", "gauge", "Lanes that wait for a retry or an operator.", lanes),
                family("fairlead_log_bytes", "gauge", "Size of the store on disk.", [({}, size)]),
                family(
                    "fairlead_store_ok",
                    "gauge",
                    "1 while /readyz says so of the store.",
                    [({}, float(sound))],
                ),
                family("fairlead_channel_target", "gauge", "The target in use, by its place.", targets),
                route_metrics(every, waiting),
            )
        )

    async def _store_state(self) -> str:
        try:
            room = await self._store.has_room() and await self._log_room.left()
        except StoreError:
            room = True  # it is closing, or it has failed, which the phase says
        if self._phase() == "failed":
            return "failed"
        return "damaged" if self._dispatcher.damage else "ok" if room else "full"

    async def _status(self, subscription: Subscription, kept: Mapping[int, range]) -> dict[str, Any]:
        id = subscription.id
        views = self._dispatcher.views(id)
        counts = await self._store.channels.count_holds(id)
        lag = await self._lag(subscription, kept)
        targets = Counter(str(view.fence.target) for view in views)
        secret = subscription.secrets.current
        status: dict[str, Any] = {
            "state": subscription.state,
            "reason": subscription.reason or self._stalled(subscription),
            "since": format_time(subscription.since),
            "revision": subscription.revision,
            "generation": subscription.generation,
            "guarantee": guarantee_of(subscription),
            "public_key": public_key(secret) if secret.startswith("whsk_") else None,
            "lag_events": lag.events,
            "lag_seconds": round(lag.seconds, 3),
            "rate_per_second": round(self._dispatcher.rate(id), 1),
            "held_lanes": counts.get("held", 0),
            "parked_lanes": counts.get("parked", 0),
            "skipped_events": await self._store.channels.count_skips(id),
            "active_targets": dict(sorted(targets.items())),
            "last_error": await self._last_error(id),
        }
        if routes := routes_of(subscription, views):
            status["routes"] = routes
            status["at_broker"] = await self._dispatcher.at_broker(id)
        if any(view.pending_filter for view in views):
            status["filter_pending"] = True
        damage = self._dispatcher.damage
        if broken := [view.channel for view in views if view.channel in damage]:
            status["damage"] = [{"partition": one.partition, "detail": damage[one]} for one in broken]
        return status

    def _stalled(self, subscription: Subscription) -> str | None:
        refusal = self._dispatcher.refusal if subscription.state == "active" else None
        return None if refusal is None else f"what is delivered cannot be stored: {refusal}"

    async def _kept(self) -> dict[int, range]:
        heads = await self._store.log.heads()
        oldest = await self._store.log.oldest()
        return {partition: range(oldest[partition], head + 1) for partition, head in heads.items()}

    async def _lag(self, subscription: Subscription, kept: Mapping[int, range]) -> Lag:
        views = self._dispatcher.views(subscription.id)
        return await lag_of(self._store, subscription.id, views, kept=kept, now=self._clock.now())

    async def _last_error(self, id: str) -> dict[str, Any] | None:
        last = await self._store.attempts.last_error(id)
        if last is None:
            return None
        at, outcome = last
        return {
            "at": format_time(at),
            "outcome": outcome.kind,
            "status": outcome.status,
            "detail": outcome.detail,
        }


def guarantee_of(subscription: Subscription) -> str:
    """What is promised (interface, section 4), in words parted by a space.

    Over `http://` anybody on the way could have answered: `unauthenticated-answers` stands after it then.
    """
    in_the_clear = any(target.sink.lower().startswith("http://") for target in subscription.targets)
    return f"{subscription.guarantee} unauthenticated-answers" if in_the_clear else subscription.guarantee
