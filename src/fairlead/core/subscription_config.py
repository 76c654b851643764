# SPDX-License-Identifier: Apache-2.0
"""`config` in JSON: how to deliver (interface, section 4), and what `[delivery]` makes of its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from fairlead.core.durations import format_duration, format_size, format_time, nearest, parse_time
from fairlead.core.members import Members
from fairlead.core.retry import RetryPolicy
from fairlead.core.subscription import BatchOptions, DeliveryOptions, Start
from fairlead.errors import Fault

DEFAULT_MEMBERS = (
    "retry", "on_exhausted", "rejected_statuses", "concurrency", "rate", "batch", "timeout", "ack_persist",
    "secret_overlap", "receiver", "signature", "settles", "failover",
)  # fmt: skip
"""The members that `[delivery]` may give a default."""
CONFIG_MEMBERS = ("route", "start", *DEFAULT_MEMBERS, "secret", "answer_secret")

_RETRY = ("first", "factor", "max", "give_up_after", "max_attempts", "jitter", "max_retry_after")
_BATCH = ("max_events", "max_bytes", "max_wait")
_MILLISECOND, _HOUR, _MONTH, _YEAR = 0.001, 3600.0, 30 * 86_400.0, 365 * 86_400.0
_FIXED_STATUSES = {410: "the sink is gone", 429: "the sink is throttling"}


def check_defaults(defaults: Mapping[str, Any]) -> list[Fault]:
    """Everything wrong with a `[delivery]` table, each with a pointer below it; never raises."""
    faults: list[Fault] = []
    read_options(Members(defaults, "", faults, DEFAULT_MEMBERS), DeliveryOptions())
    return faults


def default_options(defaults: Mapping[str, Any]) -> DeliveryOptions:
    """The options of a subscription that says nothing; faults in `defaults` are told by `check_defaults`."""
    return read_options(Members(dict(defaults), "", [], DEFAULT_MEMBERS), DeliveryOptions())


def read_options(config: Members, base: DeliveryOptions) -> DeliveryOptions:
    """The options that `config` asks for on top of `base`; each member's own faults are noted.

    What members demand of each other, and of the targets, is `subscription_rules`' matter.
    """
    return DeliveryOptions(
        retry=_retry(config.nested("retry", _RETRY), base.retry),
        on_exhausted=cast(Any, config.choice("on_exhausted", ("park", "skip", "stop"), base.on_exhausted)),
        rejected_statuses=_statuses(config, base.rejected_statuses),
        concurrency=config.integer("concurrency", base.concurrency, 1, 10_000),
        rate_per_second=_rate(config, base.rate_per_second),
        batch=_batch(config, base.batch),
        timeout_seconds=config.duration("timeout", base.timeout_seconds, least=_MILLISECOND, most=_HOUR),
        ack_persist=cast(Any, config.choice("ack_persist", ("before_next", "lazy"), base.ack_persist)),
        receiver=cast(Any, config.choice("receiver", ("plain", "library"), base.receiver)),
        signature=cast(Any, config.choice("signature", ("v1", "v1a"), base.signature)),
        settles=_settles(config, base),
        failover=cast(Any, config.choice("failover", ("wait", "switch", "off"), base.failover)),
        secret_overlap_seconds=config.duration("secret_overlap", base.secret_overlap_seconds, most=_YEAR),
    )


def rendered_options(options: DeliveryOptions) -> dict[str, Any]:
    """The members of `config` but for `route`, `start` and the secrets, whole."""
    retry, batch = options.retry, options.batch
    give_up = retry.give_up_after_seconds
    return {
        "retry": {
            "first": format_duration(retry.first_seconds),
            "factor": _plain(retry.factor),
            "max": format_duration(retry.max_seconds),
            "give_up_after": None if give_up is None else format_duration(give_up),
            "max_attempts": retry.max_attempts,
            "jitter": retry.jitter,
            "max_retry_after": format_duration(retry.max_retry_after_seconds),
        },
        "on_exhausted": options.on_exhausted,
        "rejected_statuses": sorted(options.rejected_statuses),
        "concurrency": options.concurrency,
        "rate": None if options.rate_per_second is None else _plain(options.rate_per_second),
        "batch": None if batch is None else _rendered_batch(batch),
        "timeout": format_duration(options.timeout_seconds),
        "ack_persist": options.ack_persist,
        "secret_overlap": format_duration(options.secret_overlap_seconds),
        "receiver": options.receiver,
        "signature": options.signature,
        "settles": options.settles,
        "failover": options.failover,
    }


def _rendered_batch(batch: BatchOptions) -> dict[str, Any]:
    return {
        "max_events": batch.max_events,
        "max_bytes": format_size(batch.max_bytes),
        "max_wait": format_duration(batch.max_wait_seconds),
    }


def read_start(config: Members) -> Start:
    """Where a new subscription begins."""
    value = config.raw("start")
    if value is None or value == "now":
        return Start()
    if value == "beginning":
        return Start("beginning")
    try:
        return Start("time", parse_time(value if isinstance(value, str) else ""))
    except ValueError:
        meant = nearest(value, ("now", "beginning")) if isinstance(value, str) else None
        detail = 'must be "now", "beginning" or an RFC 3339 time such as "2026-11-22T10:00:00Z"'
        config.fault("start", detail, f'did you mean "{meant}"?' if meant else None)
        return Start()


def rendered_start(start: Start) -> str:
    """`now`, `beginning` or a time."""
    return format_time(start.time) if start.time is not None else start.at


def _retry(given: Members, base: RetryPolicy) -> RetryPolicy:
    first = given.duration("first", base.first_seconds, least=_MILLISECOND, most=_MONTH)
    longest = given.duration("max", base.max_seconds, least=_MILLISECOND, most=_MONTH)
    if longest < first:
        if "first" in given and "max" in given:
            given.fault("max", f'must not be below first, "{format_duration(first)}"')
        # What was asked for wins over a default: `{"max": "100ms"}` alone means a first wait of 100 ms too.
        first = longest = longest if "max" in given else first
    give_up: float | None = base.give_up_after_seconds
    if given.given("give_up_after"):
        asked = given.raw("give_up_after") is not None
        give_up = given.duration("give_up_after", _HOUR, least=_MILLISECOND) if asked else None
    attempts = base.max_attempts
    if given.given("max_attempts"):
        asked = given.raw("max_attempts") is not None
        attempts = given.integer("max_attempts", 1, 1, 1_000_000) if asked else None
    return RetryPolicy(
        first_seconds=first,
        factor=given.number("factor", base.factor, 1, 1000),
        max_seconds=longest,
        give_up_after_seconds=give_up,
        max_attempts=attempts,
        jitter=cast(Any, given.choice("jitter", ("full", "none"), base.jitter)),
        max_retry_after_seconds=given.duration("max_retry_after", base.max_retry_after_seconds),
    )


def _statuses(config: Members, base: frozenset[int]) -> frozenset[int]:
    if "rejected_statuses" not in config:
        return base
    statuses = config.array("rejected_statuses")
    for at, status in enumerate(statuses):
        if isinstance(status, bool) or not isinstance(status, int) or not 400 <= status <= 499:
            detail = "must be a status from 400 to 499"
        elif status in _FIXED_STATUSES:
            detail = f"has a meaning of its own: {_FIXED_STATUSES[status]}"
        else:
            continue
        config.faults.append(Fault(detail=detail, pointer=f"{config.at('rejected_statuses')}/{at}"))
    return frozenset(status for status in statuses if isinstance(status, int))


def _rate(config: Members, base: float | None) -> float | None:
    if not config.given("rate"):
        return base
    return config.number("rate", 1.0, 0.001, 1_000_000) if "rate" in config else None


def _batch(config: Members, base: BatchOptions | None) -> BatchOptions | None:
    if not config.given("batch"):
        return base
    if "batch" not in config:
        return None
    given, base = config.nested("batch", _BATCH), base or BatchOptions()
    return BatchOptions(
        max_events=given.integer("max_events", base.max_events, 1, 10_000),
        max_bytes=given.size("max_bytes", base.max_bytes, 1024, 2**30),
        max_wait_seconds=given.duration("max_wait", base.max_wait_seconds, most=60.0),
    )


def _settles(config: Members, base: DeliveryOptions) -> Any:
    if not config.given("settles"):
        return base.settles
    return config.choice("settles", ("applied", "confirm"), "applied") if "settles" in config else None


def _plain(number: float) -> float:
    """A number as people write it: 2 rather than 2.0."""
    return int(number) if number == int(number) else number
