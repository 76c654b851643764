# SPDX-License-Identifier: Apache-2.0
"""The engine's numbers as a configuration has them."""

from __future__ import annotations

from fairlead.config.settings import Config
from fairlead.core.failover import FailoverRules
from fairlead.engine.settings import BreakerRules, EngineSettings, Limits, RetentionRules


def engine_settings(config: Config) -> EngineSettings:
    """The engine's numbers as `config` has them."""
    limits, retention, breaker, failover = config.limits, config.retention, config.breaker, config.failover
    return EngineSettings(
        limits=Limits(
            event_bytes=limits.event_bytes,
            batch_events=limits.batch_events,
            log_bytes=limits.log_bytes,
            request_timeout_seconds=limits.request_timeout_seconds,
        ),
        retention=RetentionRules(
            keep_seconds=retention.keep_seconds,
            max_age_seconds=retention.max_age_seconds,
            max_bytes=retention.max_bytes,
            attempts_seconds=retention.attempts_seconds,
        ),
        breaker=BreakerRules(
            failures=breaker.failures,
            probe_every_seconds=breaker.probe_every_seconds,
            probe_max_seconds=breaker.probe_max_seconds,
        ),
        failover=FailoverRules(
            confirm_late_seconds=failover.confirm_late_seconds,
            suspect_seconds=failover.suspect_seconds,
            return_after_seconds=failover.return_after_seconds,
            return_max_seconds=failover.return_max_seconds,
            probe_every_seconds=failover.probe_every_seconds,
        ),
        grace_seconds=config.shutdown.grace_seconds,
    )
