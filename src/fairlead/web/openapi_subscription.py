# SPDX-License-Identifier: Apache-2.0
"""The shape of a subscription, for the OpenAPI document (interface, section 4)."""

from __future__ import annotations

from fairlead.web.openapi_words import (
    ANY_TEXT,
    COUNT,
    DURATION,
    FLAG,
    NUMBER,
    OBJECT,
    OUTCOME,
    SIZE,
    STATE,
    STATUS_CODE,
    TEXT,
    TIME,
    Schema,
    array,
    closed,
    or_null,
    shown,
    words,
)

TARGET: dict[str, Schema] = {
    "sink": {"type": "string", "format": "uri", "examples": ["https://console.example/hook"]},
    "protocol": words("HTTP", "AMQP"),
    "protocolsettings": {
        "type": "object",
        "description": (
            "HTTP: method, headers, mode (structured, binary, bare), handshake (none, required)."
            " AMQP: exchange, routing_key, queue, shards, declare, addresses, mode (structured, binary),"
            " address (reserved)."
        ),
    },
    "sinkcredential": or_null(
        shown("credentialtype", credentialtype=words("PLAIN", "ACCESSTOKEN"), identifier=TEXT, secret=TEXT)
    ),
}

RETRY = closed(
    "",
    first=DURATION,
    factor={"type": "number", "minimum": 1},
    max=DURATION,
    give_up_after=or_null(DURATION),
    max_attempts=or_null({"type": "integer", "minimum": 1}),
    jitter=words("full", "none"),
    max_retry_after=DURATION,
)
BATCH = closed("", max_events={"type": "integer", "minimum": 1}, max_bytes=SIZE, max_wait=DURATION)
CONFIG = closed(
    "",
    route=array(closed("sink protocol", **TARGET), maxItems=7),
    retry=RETRY,
    on_exhausted=words("park", "skip", "stop"),
    rejected_statuses=array({"type": "integer", "minimum": 400, "maximum": 499}),
    start={"type": "string", "description": "now, beginning, or an RFC 3339 time", "examples": ["now"]},
    concurrency={"type": "integer", "minimum": 1, "maximum": 10_000},
    rate=or_null({"type": "number", "exclusiveMinimum": 0, "description": "requests per second"}),
    batch=or_null(BATCH),
    timeout=DURATION,
    ack_persist=words("before_next", "lazy"),
    secret={"type": "string", "pattern": "^whs(ec|k)_", "description": "write-only; whsec_… or whsk_…"},
    answer_secret={"type": "string", "pattern": "^whsec_", "description": "write-only"},
    secret_overlap=DURATION,
    receiver=words("plain", "library"),
    signature=words("v1", "v1a"),
    settles=or_null(words("applied", "confirm")),
    failover=words("wait", "switch", "off"),
)
SUBSCRIPTION_MEMBERS: dict[str, Schema] = {
    "source": TEXT,
    "types": array(TEXT),
    "filters": array(OBJECT),
    **TARGET,
    "config": CONFIG,
}
STATUS = shown(
    "state revision generation guarantee",
    state=STATE,
    reason=or_null(ANY_TEXT),
    since=TIME,
    revision=COUNT,
    generation=COUNT,
    guarantee=TEXT,
    public_key=or_null(TEXT),
    lag_events=COUNT,
    lag_seconds=NUMBER,
    rate_per_second=NUMBER,
    held_lanes=COUNT,
    parked_lanes=COUNT,
    skipped_events=COUNT,
    active_targets={"type": "object", "additionalProperties": COUNT},
    last_error=or_null(shown("at outcome", at=TIME, outcome=OUTCOME, status=STATUS_CODE, detail=ANY_TEXT)),
    filter_pending=FLAG,
    damage=array(shown("partition detail", partition=COUNT, detail=ANY_TEXT)),
)
