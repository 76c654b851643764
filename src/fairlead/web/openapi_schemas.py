# SPDX-License-Identifier: Apache-2.0
"""The shapes of the interface: components of the OpenAPI document."""

from __future__ import annotations

from typing import get_args

from fairlead.core.answer import AnswerResult
from fairlead.core.channel import SkipReason
from fairlead.core.failover import FailoverState
from fairlead.core.policy import ACTIONS
from fairlead.engine.node import Phase
from fairlead.engine.queries.fates import Fate
from fairlead.engine.sourcing.inlet import State as SourceState
from fairlead.web.openapi_subscription import STATUS, SUBSCRIPTION_MEMBERS
from fairlead.web.openapi_words import (
    ANY_TEXT,
    COUNT,
    FLAG,
    ID,
    OBJECT,
    OUTCOME,
    STATUS_CODE,
    TEXT,
    TIME,
    Schema,
    array,
    closed,
    exactly_one,
    or_null,
    ref,
    shown,
    words,
)

EVENT: Schema = {
    **shown(
        "specversion id source type",
        specversion={"const": "1.0"},
        id=TEXT,
        source=TEXT,
        type=TEXT,
        subject=TEXT,
        time=TIME,
        datacontenttype=TEXT,
        dataschema={"type": "string", "format": "uri"},
        data={},
        data_base64={"type": "string", "contentEncoding": "base64"},
    ),
    "description": "A CloudEvents 1.0 event in JSON; extension attributes stand beside the others.",
}

GRANT = closed(
    "may",
    may=array(words(*ACTIONS), minItems=1),
    sources=array(TEXT, minItems=1),
    types=array(TEXT, minItems=1),
    subscriptions=array(TEXT, minItems=1),
)
KEY = shown(
    "id name grants created_at expires_at last_used_at",
    id=TEXT,
    name=TEXT,
    grants=array(GRANT),
    created_at=TIME,
    expires_at=or_null(TIME),
    last_used_at=or_null(TIME),
)
LANE = shown(
    "key partition state head waiting attempt ready_at since last_outcome",
    key=TEXT,
    partition=COUNT,
    state=words("held", "parked"),
    head=or_null(shown("position source id type", position=COUNT, source=TEXT, id=TEXT, type=TEXT)),
    waiting=COUNT,
    attempt=COUNT,
    ready_at=TIME,
    since=TIME,
    last_outcome=or_null(
        shown("outcome", outcome=OUTCOME, status=STATUS_CODE, detail=ANY_TEXT, target=COUNT, at=TIME)
    ),
)
FAULT = shown(
    "detail", detail=TEXT, index=COUNT, pointer=ANY_TEXT, header=ANY_TEXT, query=ANY_TEXT, hint=ANY_TEXT
)

SCHEMAS: dict[str, Schema] = {
    "Problem": {
        **shown(
            "type title status detail request_id",
            type={"type": "string", "pattern": "^urn:fairlead:problem:"},
            title=TEXT,
            status=COUNT,
            detail=TEXT,
            errors=array(FAULT),
            request_id=TEXT,
        ),
        "description": "RFC 9457: what was wrong, where, and what to do.",
    },
    "Event": EVENT,
    "Accepted": shown(
        "accepted",
        accepted=array(
            shown(
                "id source partition position duplicate",
                id=TEXT,
                source=TEXT,
                partition=COUNT,
                position=COUNT,
                duplicate=FLAG,
            )
        ),
    ),
    "EventItem": shown(
        "event partition position key accepted_at",
        event=ref("Event"),
        partition=COUNT,
        position=COUNT,
        key=TEXT,
        accepted_at=TIME,
        deliveries=array(
            shown(
                "subscription state",
                subscription=ID,
                state=words(*get_args(Fate)),
            )
        ),
    ),
    "SubscriptionRequest": closed("sink protocol", id=ANY_TEXT, status=OBJECT, **SUBSCRIPTION_MEMBERS),
    "Subscription": shown("id sink protocol config status", id=ID, status=STATUS, **SUBSCRIPTION_MEMBERS),
    "Secret": shown(
        "secret previous_until",
        secret=TEXT,
        previous_until=TIME,
        answer_secret=TEXT,
        signs_no_more=words("earlier", "oldest"),
    ),
    "Replay": {
        **closed(
            "",
            position=closed(
                "partition position", partition=COUNT, position={"type": "integer", "minimum": 1}
            ),
            time=TIME,
            event=closed("source id", source=TEXT, id=TEXT),
            key=TEXT,
            receiver=words("plain", "library"),
            settles=words("applied", "confirm"),
        ),
        **exactly_one("position", "time", "event"),
    },
    "Replayed": shown(
        "generation channels events",
        generation=COUNT,
        channels=array(shown("partition from to", partition=COUNT, **{"from": COUNT, "to": COUNT})),
        events=COUNT,
    ),
    "Lane": LANE,
    "LaneChoice": {
        **closed("", key=TEXT, keys=array(TEXT, minItems=1, maxItems=1000), state=words("held", "parked")),
        **exactly_one("key", "keys", "state"),
    },
    "LaneSkip": closed(
        "key position",
        key=TEXT,
        position={"type": "integer", "minimum": 1},
        reason={**TEXT, "maxLength": 1000},
    ),
    "Affected": shown("affected", affected=COUNT),
    "Skip": shown(
        "key partition position source id reason by at",
        key=TEXT,
        partition=COUNT,
        position=COUNT,
        source=TEXT,
        id=TEXT,
        reason=words(*get_args(SkipReason)),
        by=TEXT,
        at=TIME,
        note=TEXT,
    ),
    "Attempt": shown(
        "partition position key attempt target started_at duration_ms outcome status detail",
        partition=COUNT,
        position=COUNT,
        key=TEXT,
        attempt=COUNT,
        target=COUNT,
        started_at=TIME,
        duration_ms=COUNT,
        outcome=OUTCOME,
        status=STATUS_CODE,
        detail=ANY_TEXT,
    ),
    "Channel": shown(
        "partition generation epoch target transport state",
        partition=COUNT,
        generation=COUNT,
        epoch=COUNT,
        target=COUNT,
        transport=words("http", "amqp"),
        state=words(*get_args(FailoverState), "open"),
        reason=or_null(ANY_TEXT),
        obstacle=or_null(ANY_TEXT),
        since=or_null(TIME),
        switches=COUNT,
        unanswered=COUNT,
        at_broker=COUNT,
    ),
    "KeyRequest": closed(
        "name grants",
        name={**TEXT, "maxLength": 200},
        grants=array(GRANT, minItems=1, maxItems=100),
        expires_at=or_null(TIME),
    ),
    "Key": KEY,
    "NewKey": shown(
        "key " + " ".join(KEY["required"]),
        key={"type": "string", "pattern": "^flk_[A-Za-z0-9]{32}$"},
        **KEY["properties"],
    ),
    "Reject": shown(
        "id source received_at reason headers body_base64 size_bytes",
        id=TEXT,
        source=TEXT,
        received_at=TIME,
        reason=TEXT,
        headers={"type": "object", "additionalProperties": ANY_TEXT},
        body_base64={"type": "string", "contentEncoding": "base64"},
        size_bytes=COUNT,
    ),
    "Readiness": shown(
        "status",
        status=words(*get_args(Phase)),
        store=words("ok", "full", "damaged", "failed"),
        partitions_owned=COUNT,
        partitions=COUNT,
        sources=array(ref("Source")),
    ),
    "Source": shown(
        "name state since detail accepted duplicates rejected",
        name=ID,
        state=words(*get_args(SourceState)),
        since=TIME,
        detail=ANY_TEXT,
        accepted=COUNT,
        duplicates=COUNT,
        rejected=COUNT,
    ),
    "Answer": shown(
        "subscription partition generation epoch result",
        subscription=ID,
        partition=COUNT,
        generation=COUNT,
        epoch=COUNT,
        seq=or_null(COUNT),
        key=or_null(ANY_TEXT),
        result=words(*get_args(AnswerResult)),
        applied=or_null(COUNT),
    ),
}
