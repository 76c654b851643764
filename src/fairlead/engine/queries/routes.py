# SPDX-License-Identifier: Apache-2.0
"""Over which of its targets each channel delivers, since when and why (interface, section 6, channels)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fairlead.core.durations import format_time
from fairlead.core.subscription import Subscription
from fairlead.engine.sending.views import ChannelView, RouteView
from fairlead.telemetry import family

Sample = tuple[Mapping[str, str], float]


def transport_of(subscription: Subscription, target: int) -> str:
    """`http` or `amqp`; of a target that a change has just taken away, the last one's."""
    return subscription.targets[min(target, len(subscription.targets) - 1)].protocol.lower()


def routes_of(subscription: Subscription, views: Sequence[ChannelView]) -> list[dict[str, Any]]:
    """The channels of a subscription that have a choice, those in one situation together: for `status`."""
    found: dict[tuple[int, str, str, str], dict[str, Any]] = {}
    for view in views:
        if (route := view.route) is None:
            continue
        target = view.fence.target
        one = found.setdefault(
            (target, route.state, route.reason, route.obstacle),
            {
                "target": target,
                "transport": transport_of(subscription, target),
                "state": route.state,
                "reason": route.reason or None,
                "obstacle": route.obstacle or None,
                "since": route.since,
                "channels": 0,
                "switches": 0,
                "unanswered": 0,
            },
        )
        one["since"] = min(one["since"], route.since)
        one["channels"] += 1
        one["switches"] += route.switches
        one["unanswered"] += route.unanswered
    return [one | {"since": format_time(one["since"])} for _, one in sorted(found.items())]


def route_metrics(views: Sequence[ChannelView], at_broker: Sequence[Sample]) -> str:
    """The metrics of channels that have a choice, as Prometheus text."""
    with_route = [(view, view.route) for view in views if view.route is not None]
    states = [({**_labels(view), "state": route.state}, 1.0) for view, route in with_route]
    return "".join(
        (
            family("fairlead_channel_state", "gauge", "1 for the state a channel's route is in.", states),
            family(
                "fairlead_channel_state_since_seconds",
                "gauge",
                "Unix time at which it entered that state.",
                _samples(with_route, "since"),
            ),
            family(
                "fairlead_channel_switches_total",
                "counter",
                "How often a channel has changed its target.",
                _samples(with_route, "switches"),
            ),
            family(
                "fairlead_channel_unanswered",
                "gauge",
                "Events on a bus that no receiver has answered for.",
                _samples(with_route, "unanswered"),
            ),
            family("fairlead_broker_messages", "gauge", "Messages that wait at a broker.", at_broker),
        )
    )


def _samples(with_route: Sequence[tuple[ChannelView, RouteView]], name: str) -> Iterator[Sample]:
    return ((_labels(view), float(getattr(route, name))) for view, route in with_route)


def _labels(view: ChannelView) -> dict[str, str]:
    return {"subscription": view.channel.subscription, "partition": str(view.channel.partition)}
