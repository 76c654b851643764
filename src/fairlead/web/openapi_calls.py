# SPDX-License-Identifier: Apache-2.0
"""Every call of the interface, for the OpenAPI document: what it takes, answers and refuses."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead import errors as e
from fairlead.core.codec import BATCH, STRUCTURED
from fairlead.errors import Problem
from fairlead.web.openapi_examples import EVENT, IMAGE, SUBSCRIPTION
from fairlead.web.openapi_words import (
    ANY_TEXT,
    COUNT,
    FLAG,
    ID,
    OUTCOME,
    STATE,
    TEXT,
    TIME,
    Schema,
    array,
    closed,
    or_null,
    page,
    ref,
    shown,
    words,
)

Errors = tuple[type[Problem], ...]

BODY: Errors = (e.MalformedJson, e.TooLarge, e.UnsupportedMediaType, e.RequestTimeout)
REQUEST: Errors = (*BODY, e.InvalidRequest)
STORE: Errors = (e.StoreBusy, e.StoreFull)
TAKING: Errors = (e.EventConflict, e.Overloaded, e.Stopping, *STORE)
PLANNED: Errors = (e.InvalidSubscription, e.InvalidFilter, e.ForbiddenSink, e.HandshakeRefused, *STORE)

LIMIT: dict[str, Schema] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    "after": {**TEXT, "description": "`next` of the page before"},
}
MATCH: dict[str, Schema] = {"If-Match": {**TEXT, "description": "the ETag that was read"}}
ABSENT: dict[str, Schema] = {"If-None-Match": {"const": "*", "description": "only if there is none yet"}}


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    Attributes:
        answers: schema by status; None for no body. A str is a content type other than JSON.
        takes: the body's schema; `media` are its content types.
        examples: bodies by content type.
    """

    method: str
    path: str
    summary: str
    answers: dict[int, Schema | str | None]
    errors: Errors = ()
    takes: Schema | None = None
    optional_body: bool = False
    media: tuple[str, ...] = ("application/json",)
    query: dict[str, Schema] | None = None
    headers: dict[str, Schema] | None = None
    example: object = None
    login: bool = True


S, SUB = "/subscriptions", "/subscriptions/{id}"

CALLS: tuple[Call, ...] = (
    Call(
        "POST", "/events", "Publish one event, or an array of them; all or nothing",
        {202: ref("Accepted")}, (*BODY, e.InvalidEvent, *TAKING),
        takes=ref("Event"), example=EVENT,
        media=(STRUCTURED, BATCH),
    ),
    Call(
        "GET", "/events", "List, search or follow the log",
        {200: page(ref("EventItem"))},
        query={
            "key": ANY_TEXT, "source": ANY_TEXT, "id": ANY_TEXT, "subject": ANY_TEXT, "type": ANY_TEXT,
            "accepted_after": TIME, "follow": FLAG, **LIMIT,
        },
    ),
    Call(
        "POST", S, "Make a subscription; the relay makes its id", {201: ref("Subscription")},
        (*BODY, *PLANNED), takes=ref("SubscriptionRequest"), example=SUBSCRIPTION,
    ),
    Call("GET", S, "List subscriptions", {200: page(ref("Subscription"))}, query={"state": STATE, **LIMIT}),
    Call("GET", SUB, "Read a subscription and its status", {200: ref("Subscription")}, (e.NotFound,)),
    Call(
        "PUT", SUB, "Make a subscription under an id, or replace it whole",
        {200: ref("Subscription"), 201: ref("Subscription"), 202: ref("Subscription")},
        (*BODY, *PLANNED, e.InvalidHeader, e.SubscriptionExists, e.RevisionMismatch),
        takes=ref("SubscriptionRequest"), headers={**MATCH, **ABSENT}, example=SUBSCRIPTION,
    ),
    Call("DELETE", SUB, "Delete a subscription", {204: None}, (e.NotFound, *STORE)),
    Call(
        "POST", f"{SUB}/pause", "Stop sending, keep events", {200: ref("Subscription")},
        (*REQUEST, e.NotFound, *STORE), takes=closed(""), optional_body=True, example={},
    ),
    Call(
        "POST", f"{SUB}/resume", "Be active again, from any state", {200: ref("Subscription")},
        (*REQUEST, e.NotFound, *STORE), takes=closed(""), optional_body=True, example={},
    ),
    Call(
        "POST", f"{SUB}/secret", "Sign with a new secret; both sign for a while", {200: ref("Secret")},
        (*REQUEST, e.NotFound, *STORE),
        takes=closed("", secret=or_null(TEXT)), optional_body=True, example={"secret": None},
    ),
    Call(
        "POST", f"{SUB}/replay", "Begin again at an earlier place", {202: ref("Replayed")},
        (
            *REQUEST, e.NotFound, e.EventNotFound, e.WrongState, e.NotReplayable, e.InvalidSubscription,
            *STORE,
        ),
        takes=ref("Replay"), example={"position": {"partition": 5, "position": 17}},
    ),
    Call(
        "GET", f"{SUB}/lanes", "Held and parked lanes",
        {200: page(ref("Lane"), counts=shown("held parked", held=COUNT, parked=COUNT))}, (e.NotFound,),
        query={"state": words("held", "parked"), **LIMIT},
    ),
    Call(
        "POST", f"{SUB}/lanes/retry", "Try the heads of lanes now", {200: ref("Affected")},
        (*REQUEST, e.NotFound, e.WrongState, *STORE), takes=ref("LaneChoice"), example={"key": "/heat k1"},
    ),
    Call(
        "POST", f"{SUB}/lanes/release", "Give lanes a new schedule, now", {200: ref("Affected")},
        (*REQUEST, e.NotFound, *STORE), takes=ref("LaneChoice"), example={"state": "parked"},
    ),
    Call(
        "POST", f"{SUB}/lanes/skip", "Drop the head of a lane on record", {200: ref("Affected")},
        (*REQUEST, e.NotFound, e.WrongState, *STORE), takes=ref("LaneSkip"),
        example={"key": "/heat k1", "position": 41, "reason": "the stack is gone"},
    ),
    Call(
        "GET", f"{SUB}/skips", "What was not delivered on purpose", {200: page(ref("Skip"))}, (e.NotFound,),
        query=LIMIT,
    ),
    Call(
        "GET", f"{SUB}/attempts", "Attempts to deliver, newest first", {200: page(ref("Attempt"))},
        (e.NotFound,),
        query={"key": ANY_TEXT, "outcome": OUTCOME, "partition": COUNT, "position": COUNT, **LIMIT},
    ),
    Call(
        "GET", f"{SUB}/channels", "Every channel", {200: page(ref("Channel"))}, (e.NotFound,),
        query=LIMIT,
    ),
    Call(
        "POST", f"{SUB}/acks", "Answers to bus deliveries, signed by the receiver", {204: None},
        (*REQUEST, e.Unauthenticated),
        takes={"anyOf": [ref("Answer"), array(ref("Answer"), maxItems=1000)]}, login=False,
        headers={"webhook-id": TEXT, "webhook-timestamp": TEXT, "webhook-signature": TEXT},
        example={
            "subscription": "console", "partition": 5, "generation": 1795359000123, "epoch": 7, "seq": 12,
            "key": "/heat k1", "result": "applied", "applied": 41,
        },
    ),
    Call(
        "POST", "/keys", "Make an API key; it is shown this once", {201: ref("NewKey")}, (*REQUEST, *STORE),
        takes=ref("KeyRequest"),
        example={"name": "heat", "grants": [{"may": ["publish"], "sources": ["/heat*"]}], "expires_at": None},
    ),
    Call("GET", "/keys", "List API keys", {200: page(ref("Key"))}, query=LIMIT),
    Call("DELETE", "/keys/{id}", "Revoke an API key", {204: None}, (e.NotFound, *STORE)),
    Call(
        "GET", "/rejects", "What came and could not be taken as events", {200: page(ref("Reject"))},
        query={"source": ANY_TEXT, **LIMIT},
    ),
    Call("DELETE", "/rejects/{id}", "Forget a reject", {204: None}, (e.NotFound, *STORE)),
    Call(
        "POST", "/rejects/{id}/replay", "Take a reject as an event after all", {202: ref("Accepted")},
        (*REQUEST, e.NotFound, e.InvalidEvent, *TAKING), takes=closed(""), optional_body=True, example={},
    ),
    Call(
        "PUT", "/bridges/imagefactory/{path}", "A callback of Imagefactory", {204: None},
        (*BODY, e.InvalidEvent, *TAKING),
        takes={"type": "object"}, example=IMAGE,
    ),
    Call("GET", "/healthz", "Whether the process answers", {200: shown("status", status=TEXT)}, login=False),
    Call(
        "GET", "/readyz", "Whether events are taken and delivered",
        {200: ref("Readiness"), 503: ref("Readiness")}, login=False,
    ),
    Call("GET", "/openapi.json", "This document", {200: {"type": "object"}}, login=False),
    Call("GET", "/metrics", "Prometheus' text format", {200: "text/plain"}),
)  # fmt: skip

PATH_PARAMETERS: dict[str, Schema] = {
    "/subscriptions/{id}": ID,
    "/keys/{id}": TEXT,
    "/rejects/{id}": TEXT,
}
