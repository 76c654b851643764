# SPDX-License-Identifier: Apache-2.0
"""The settings of `[delivery]`: what a subscription's `config` means where it says nothing (interface, 9)."""

from __future__ import annotations

from dataclasses import dataclass, field

from fairlead.config.declaring import setting
from fairlead.config.kinds import (
    as_written,
    at_least,
    choice,
    duration,
    integer,
    integers,
    number,
    optional,
    size,
    table,
)


@dataclass(frozen=True, slots=True)
class Retry:
    """When a held lane is tried again, unless its subscription says otherwise."""

    first: str = setting(as_written(at_least(duration, "1ms")), "1s", "The wait after the first failure.")
    factor: float = setting(number("", least=1), 2, "By how much each wait is longer than the one before.")
    max: str = setting(as_written(duration), "5m", "The longest wait.")
    give_up_after: str | None = setting(
        as_written(optional(duration)),
        "3d",
        "The time from an event's first failure after which its lane is exhausted (see `on_exhausted`).",
    )
    max_attempts: int | None = setting(
        optional(integer("attempts", least=1, most=1_000_000)),
        None,
        "The number of failed attempts after which a lane is exhausted.",
    )
    jitter: str = setting(
        choice("full", "none"),
        "full",
        "`full` spreads each wait evenly from nothing to its length, so that"
        " many lanes do not come back at once.",
    )
    max_retry_after: str = setting(as_written(duration), "1d", "The longest `Retry-After` that is obeyed.")


@dataclass(frozen=True, slots=True)
class Delivery:
    """The defaults of a subscription's `config`. Values are kept as the API writes them."""

    on_exhausted: str = setting(
        choice("park", "skip", "stop"),
        "park",
        "What happens when the retries of an event are used up: `park` keeps its lane for an operator,"
        " `skip` drops the event on record, `stop` stops the subscription.",
    )
    rejected_statuses: tuple[int, ...] = setting(
        integers("HTTP statuses", least=400, most=499),
        [400, 413, 415, 422],
        "The answers that mean: never again. They exhaust the event at once.",
    )
    concurrency: int = setting(
        integer("requests", least=1, most=10_000), 64, "The most requests in flight per subscription."
    )
    rate: float | None = setting(
        optional(number("requests per second", least=0.001)),
        None,
        "The most requests per second per subscription.",
    )
    batch: dict[str, object] | None = setting(
        optional(
            table(
                "table",
                "",
                '{ max_events = 100, max_bytes = "1MiB", max_wait = "5ms" }',
                {
                    "max_events": integer("events", least=1, most=10_000),
                    "max_bytes": size,
                    "max_wait": duration,
                },
            )
        ),
        None,
        "Deliver CloudEvents batches: a table of `max_events` (100), `max_bytes` (`1MiB`) and"
        " `max_wait` (`5ms`).",
    )
    timeout: str = setting(
        as_written(at_least(duration, "1ms")), "15s", "How long one delivery may take, answer included."
    )
    ack_persist: str = setting(
        choice("before_next", "lazy"),
        "before_next",
        "Whether the next event of a resource waits until the"
        " settlement of the one before is on disk. `lazy` is faster; after a crash it repeats a run instead"
        " of one event.",
    )
    receiver: str = setting(
        choice("plain", "library"),
        "plain",
        "Whether receivers answer as the receiver library does. Never guessed.",
    )
    signature: str = setting(
        choice("v1", "v1a"),
        "v1",
        "Which kind of secret the relay makes: `v1` (HMAC-SHA256) or `v1a` (Ed25519).",
    )
    settles: str | None = setting(
        optional(choice("applied", "confirm")),
        None,
        "On a bus: whether the receiver's answer or the broker's confirm settles.",
    )
    failover: str = setting(
        choice("wait", "switch", "off"),
        "wait",
        "With `confirm`, what happens when the bus fails: `wait` until the queue is seen empty (what a "
        "consumer has been handed does not count), `switch` at once, or `off`: never.",
    )
    secret_overlap: str = setting(
        as_written(duration), "1d", "How long the previous secret goes on signing after a rotation."
    )
    retry: Retry = field(default_factory=Retry)
