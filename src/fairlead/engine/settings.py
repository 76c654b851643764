# SPDX-License-Identifier: Apache-2.0
"""The numbers the engine works by: the interface's section 9 with its defaults, units in the names."""

from __future__ import annotations

from dataclasses import dataclass, field

from fairlead.core.failover import FailoverRules

DAY_SECONDS = 86_400.0
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What intake takes (`[limits]`).

    Attributes:
        event_bytes: the greatest event: its attributes as JSON and its data.
        batch_events: the greatest number of events of one call.
        log_bytes: the log's greatest size on disk, None for none; beyond it intake answers `store-full`.
        request_timeout_seconds: how long a call may wait for its effect (a changed filter, say).
        waiting_bytes, waiting_requests: what may wait for a commit before intake answers `overloaded`.
    """

    event_bytes: int = MEBIBYTE
    batch_events: int = 1000
    log_bytes: int | None = None
    request_timeout_seconds: float = 30.0
    waiting_bytes: int = 64 * MEBIBYTE
    waiting_requests: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRules:
    """How long the log keeps events (`[retention]`).

    Attributes:
        keep_seconds: how long an event that everybody has is kept for duplicates, replay and `start`.
        max_age_seconds, max_bytes: limits at which even unsettled events go, each with a skip on record; None
            for never.
        attempts_seconds: how long attempts and rejects can be looked at.
        sweep_seconds: the time from one sweep of the janitor to the next.
    """

    keep_seconds: float = 7 * DAY_SECONDS
    max_age_seconds: float | None = None
    max_bytes: int | None = None
    attempts_seconds: float = 7 * DAY_SECONDS
    sweep_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRules:
    """When a target counts as down, and how often it is probed then (`[breaker]`)."""

    failures: int = 10
    probe_every_seconds: float = 5.0
    probe_max_seconds: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Everything the engine is told at its start.

    Attributes:
        slow_after_seconds: from then on a lane in flight no longer keeps `low_water` back.
        read_ahead: at most so many unsettled events of one channel are kept in memory.
        window: at most so many of them are under way on a bus.
        failover: when a channel changes its target (`[failover]`).
        handshake_seconds: how long a sink's consent holds (interface, section 7).
        grace_seconds: how long a stop waits for what is in flight (`[shutdown]`).
    """

    limits: Limits = field(default_factory=Limits)
    retention: RetentionRules = field(default_factory=RetentionRules)
    breaker: BreakerRules = field(default_factory=BreakerRules)
    slow_after_seconds: float = 2.0
    read_ahead: int = 512
    window: int = 256
    failover: FailoverRules = field(default_factory=FailoverRules)
    handshake_seconds: float = DAY_SECONDS
    grace_seconds: float = 20.0
