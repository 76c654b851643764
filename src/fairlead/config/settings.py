# SPDX-License-Identifier: Apache-2.0
"""Every setting, once: its key, type, unit, default and meaning (interface, section 9).

These dataclasses (with `delivery`) are the one table from which the reader, `fairlead config show`, the
reference `docs/reference/configuration.md` and the tests of both are made. A field's Python name carries its
unit; its key in the file and in the environment does not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fairlead.config.declaring import Setting, rows_of, setting
from fairlead.config.delivery import Delivery
from fairlead.config.kinds import at_least, choice, duration, integer, matching, optional, size, text
from fairlead.config.places import Listen, allowed_places, host_name, listen_address, store_url
from fairlead.config.sources import SourceConfig

API_KEY = matching("API key", "flk_[A-Za-z0-9]{32}", "flk_ and 32 letters or digits")


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How the store uses its disk."""

    disk_reserve_bytes: int = setting(
        size,
        "64MiB",
        "Free disk space at which the relay stops accepting (507), so that what was accepted"
        " can still be delivered and settled.",
        key="disk_reserve",
    )
    busy_timeout_seconds: float = setting(
        duration,
        "5s",
        "How long a commit waits for another process that reads the store file (a backup,"
        " say) before the caller gets 503 `store-busy`.",
        key="busy_timeout",
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller may ask of the relay."""

    event_bytes: int = setting(
        at_least(size, "1KiB"),
        "1MiB",
        "The largest event. CloudEvents asks every relay to take at least 64KiB.",
    )
    request_bytes: int = setting(at_least(size, "1KiB"), "8MiB", "The largest request body, a batch say.")
    batch_events: int = setting(
        integer("events", least=1, most=100_000), 1000, "The most events in one request."
    )
    log_bytes: int | None = setting(
        optional(size),
        None,
        "How much disk the log may take; beyond it publishers get 507 until retention has made room.",
    )
    connections: int = setting(
        integer("connections", least=1, most=100_000),
        1024,
        "The most connections at once; further ones get 503 `overloaded` for each request.",
    )
    header_bytes: int = setting(
        at_least(size, "1KiB"),
        "64KiB",
        "The largest request line with all headers; beyond it 431 `headers-too-large`.",
    )
    request_timeout_seconds: float = setting(
        at_least(duration, "100ms"),
        "30s",
        "How long a request's headers, and then its body, may take to arrive; then 408.",
        key="request_timeout",
    )


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what is done with is kept."""

    keep_seconds: float = setting(
        duration,
        "7d",
        "How long settled events are kept: for recognising duplicates, replay and `start`.",
        key="keep",
    )
    max_age_seconds: float | None = setting(
        optional(duration),
        None,
        "Delete events of this age even if somebody has yet to get them; each is"
        " recorded as skipped, reason `retention`.",
        key="max_age",
    )
    max_bytes: int | None = setting(
        optional(size),
        None,
        "Delete the oldest events beyond this size of the log even if somebody has yet"
        " to get them; each is recorded as skipped, reason `retention`.",
    )
    attempts_seconds: float = setting(
        duration, "7d", "How long delivery attempts and rejects are kept.", key="attempts"
    )


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a target counts as down, and how it is probed."""

    failures: int = setting(
        integer("failed attempts in a row", least=1, most=100_000),
        10,
        "So many failures in a row, of at least two lanes or of the only one, open the breaker.",
    )
    probe_every_seconds: float = setting(
        at_least(duration, "100ms"),
        "5s",
        "The wait before the first probe of a dead target; it doubles.",
        key="probe_every",
    )
    probe_max_seconds: float = setting(
        at_least(duration, "100ms"), "5m", "The longest wait between probes.", key="probe_max"
    )


@dataclass(frozen=True, slots=True)
class Failover:
    """When a channel whose route has several targets leaves one for another, and comes back."""

    confirm_late_seconds: float = setting(
        at_least(duration, "100ms"),
        "5s",
        "A broker that has not confirmed a publish for so long is suspect.",
        key="confirm_late",
    )
    suspect_seconds: float = setting(
        at_least(duration, "100ms"),
        "5s",
        "How long a suspect broker may take to be well again before the next target is used.",
        key="suspect",
    )
    return_after_seconds: float = setting(
        at_least(duration, "100ms"),
        "30s",
        "How long a preferred target must have been well before deliveries return to it;"
        " it doubles with each time that it fails again.",
        key="return_after",
    )
    return_max_seconds: float = setting(
        at_least(duration, "100ms"),
        "10m",
        "The longest such wait; after so long a calm it begins anew with `return_after`.",
        key="return_max",
    )
    probe_every_seconds: float = setting(
        at_least(duration, "100ms"),
        "5s",
        "How often a broker over which nobody answers is asked for an answer; it doubles up to `return_max`.",
        key="probe_every",
    )


@dataclass(frozen=True, slots=True)
class Egress:
    """Where the relay may connect to."""

    allow: tuple[str, ...] = setting(
        allowed_places,
        [],
        "CIDRs and host names of private, loopback and plain `http://` targets that deliveries"
        " may go to. While it is empty and no authentication is configured, loopback is allowed.",
    )
    ca_file: str | None = setting(
        optional(text), None, "A PEM file of further certificate authorities for `https://` targets."
    )
    dns_ttl_seconds: float = setting(
        duration,
        "30s",
        "How long a resolved address is used before it is resolved and checked anew.",
        key="dns_ttl",
    )


@dataclass(frozen=True, slots=True)
class Webhook:
    """The CloudEvents webhook handshake."""

    origin: str | None = setting(
        optional(host_name),
        None,
        "The relay's name in `WebHook-Request-Origin`; none means this machine's host name.",
    )


@dataclass(frozen=True, slots=True)
class Auth:
    """Who may call."""

    bootstrap_key: str | None = setting(
        optional(API_KEY),
        None,
        "One API key (`flk_` and 32 letters or digits) that may do everything, to make"
        " the other keys with. As soon as it is set, every call needs a login.",
        secret=True,
    )


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What the relay writes to standard error; past 10,000 lines that nobody takes, it drops and counts."""

    level: str = setting(
        choice("debug", "info", "warning", "error"), "info", "The least severity that is written."
    )
    format: str = setting(choice("text", "json"), "text", "Lines for people, or one JSON object per line.")


@dataclass(frozen=True, slots=True)
class Shutdown:
    """How the relay stops."""

    grace_seconds: float = setting(
        duration, "20s", "How long a stop waits for requests in flight before it cuts them off.", key="grace"
    )


@dataclass(frozen=True, slots=True)
class Config:
    """The relay's whole configuration; immutable."""

    store: str = setting(
        store_url,
        "sqlite:///fairlead.db",
        "Where the store is: `sqlite:///` and a path, relative to the"
        " working directory or, with a fourth slash, absolute.",
    )
    listen: Listen = setting(
        listen_address,
        "127.0.0.1:3247",
        "The address to serve at. Anything but loopback needs authentication.",
    )
    store_options: StoreOptions = field(default_factory=StoreOptions)
    limits: Limits = field(default_factory=Limits)
    retention: Retention = field(default_factory=Retention)
    delivery: Delivery = field(default_factory=Delivery)
    breaker: Breaker = field(default_factory=Breaker)
    failover: Failover = field(default_factory=Failover)
    egress: Egress = field(default_factory=Egress)
    webhook: Webhook = field(default_factory=Webhook)
    auth: Auth = field(default_factory=Auth)
    log: LogOptions = field(default_factory=LogOptions)
    shutdown: Shutdown = field(default_factory=Shutdown)
    sources: tuple[SourceConfig, ...] = field(default=(), metadata={"array": "source"})


SETTINGS: tuple[Setting, ...] = tuple(rows_of(Config))
"""Every setting, in the order in which the reference lists them."""


def delivery_defaults(config: Config) -> dict[str, object]:
    """`[delivery]` as a subscription's `config` would say it: what its absent members mean."""
    defaults: dict[str, object] = {}
    for row in SETTINGS:
        if row.table == "delivery":
            defaults[row.key] = row.kind.show(row.of(config))
        elif row.table == "delivery.retry":
            retry = defaults.setdefault("retry", {})
            assert isinstance(retry, dict)  # noqa: S101 -- made one line above
            retry[row.key] = row.kind.show(row.of(config))
    return defaults
