# SPDX-License-Identifier: Apache-2.0
"""A subscription: who wants which events, where and how (interface, section 4).

These are the parsed values; `fairlead.core.subscription_format` reads and writes the JSON of the API.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from fairlead.core.retry import RetryPolicy

State = Literal["active", "paused", "stopped", "disabled"]
Mode = Literal["structured", "binary", "bare"]
Signature = Literal["v1", "v1a"]
Guarantee = Literal["chained", "first-run-ordered", "at-least-once", "broker-has-it"]


@dataclass(frozen=True, slots=True)
class Target:
    """One place with its credential.

    Attributes:
        method, headers, handshake: of HTTP; the headers' values in the clear.
        settings: of AMQP, every one with its effective value; empty for HTTP.
        credential: `sinkcredential` as given, secret included; None for none.
    """

    sink: str
    protocol: Literal["HTTP", "AMQP"] = "HTTP"
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    mode: Mode = "structured"
    handshake: Literal["none", "required"] = "none"
    settings: Mapping[str, Any] = field(default_factory=dict)
    credential: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class BatchOptions:
    max_events: int = 100
    max_bytes: int = 1024 * 1024
    max_wait_seconds: float = 0.005


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """How to deliver: `config` of the interface but for `route`, `start` and the secrets."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    on_exhausted: Literal["park", "skip", "stop"] = "park"
    rejected_statuses: frozenset[int] = frozenset({400, 413, 415, 422})
    concurrency: int = 64
    rate_per_second: float | None = None
    batch: BatchOptions | None = None
    timeout_seconds: float = 15.0
    ack_persist: Literal["before_next", "lazy"] = "before_next"
    receiver: Literal["plain", "library"] = "plain"
    signature: Signature = "v1"
    settles: Literal["applied", "confirm"] | None = None
    failover: Literal["wait", "switch", "off"] = "wait"
    secret_overlap_seconds: float = 86_400.0

    def read_ahead(self, events: int) -> int:
        """How many events to read ahead: twice as many for batches, so that each has several of a key."""
        return events if self.batch is None else 2 * events


@dataclass(frozen=True, slots=True)
class Predecessor:
    """A signing secret that was rotated away: it signs too until then (Unix seconds)."""

    secret: str
    until: float


@dataclass(frozen=True, slots=True)
class Secrets:
    """The signing secrets, `whsec_…` or `whsk_…`; predecessors, newest first, sign each until its time."""

    current: str
    predecessors: tuple[Predecessor, ...] = ()
    answer: str | None = None

    def in_force(self, now: float) -> tuple[str, ...]:
        """The secrets that sign at `now` (Unix seconds), newest first."""
        return (self.current, *(one.secret for one in self.predecessors if now < one.until))

    def in_force_until(self, now: float) -> float:
        """When the next of those goes out of force; infinity where none does."""
        return min((one.until for one in self.predecessors if now < one.until), default=inf)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a new subscription begins: `now`, `beginning`, or the first event accepted at or after `time`."""

    at: Literal["now", "beginning", "time"] = "now"
    time: float | None = None


@dataclass(frozen=True, slots=True)
class Matching:
    """Which events a revision of a subscription wants: the part of it that a filter revision keeps."""

    source: str | None = None
    types: tuple[str, ...] = ()
    filters: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription as it stands.

    Attributes:
        matching: what it wants now; channels may still match by an earlier one (`FilterRevision`).
        targets: in order of preference; the first is the top-level sink.
        revision: 1 at creation, raised at each PUT that changes something; the ETag.
        generation: the greatest of its channels.
        since: Unix seconds at which `state` was entered.
    """

    id: str
    matching: Matching
    targets: tuple[Target, ...]
    options: DeliveryOptions
    secrets: Secrets
    start: Start = Start()
    state: State = "active"
    reason: str | None = None
    since: float = 0.0
    revision: int = 1
    generation: int = 0
    created_at: float = 0.0

    @property
    def guarantee(self) -> Guarantee:
        """What is promised about order (interface, section 4), without `unauthenticated-answers`."""
        if self.options.receiver == "library":
            return "chained"
        if self.options.settles == "confirm":
            return "broker-has-it"
        # A fail-over may send any event to any target, so the weakest one decides.
        structured = all(target.mode == "structured" for target in self.targets)
        return "first-run-ordered" if structured else "at-least-once"
