# SPDX-License-Identifier: Apache-2.0
"""Every error Fairlead raises.

FairleadError
├── Problem                 the caller can mend it; one subclass per RFC 9457 type (interface, section 2)
│   ├── MalformedJson … Internal
│   └── SignatureError      (unauthenticated) a Standard Webhooks signature that does not hold
├── InvalidSecret           a signing secret that is not one
├── StoreError              the store cannot serve
│   ├── StoreLocked         another process has it open
│   ├── StoreForeign        the file is not a Fairlead store
│   ├── StoreNewer          written by a newer Fairlead
│   ├── StoreCorrupt        a row or page does not hold what was written
│   └── StoreFailed         a commit or fsync failed: serving ends
├── Fenced                  a write by an owner whose channel has changed
│   └── LeaseLost           … or which no longer owns the partition
├── Reject                  raised by a receiver's handler: this event will never be taken
├── InboxError              the receiver's inbox cannot serve this delivery now: nothing was stored
│   ├── InboxBusy           another delivery of the same resource still runs
│   └── LockLost            the delivery's lock ran out, or a newer generation began meanwhile
├── OutboxError             the publisher's outbox
│   ├── OutboxFull          it holds `max_bytes`, or its disk is full: the event was not stored
│   └── OutboxClosed        the publisher was closed
├── EventRefused            the relay refused the event for good; it is in the outbox's refused table
├── SendFailed              a request of ours got no answer; `kind` says why
├── BrokerFailed            a broker did not do what was asked; `kind` says why
├── ConfigError             file, key, value, what was expected
└── PortInUse               the address to listen on is taken
"""

from __future__ import annotations

from fairlead.errors.ends import (
    EventRefused,
    InboxBusy,
    InboxError,
    LockLost,
    OutboxClosed,
    OutboxError,
    OutboxFull,
    Reject,
)
from fairlead.errors.failures import (
    BrokerFailed,
    BrokerFailure,
    ConfigError,
    Fenced,
    InvalidSecret,
    LeaseLost,
    PortInUse,
    SendFailed,
    SendFailure,
    StoreCorrupt,
    StoreError,
    StoreFailed,
    StoreForeign,
    StoreLocked,
    StoreNewer,
)
from fairlead.errors.problems import (
    PROBLEM_URN,
    ChainBroken,
    EventConflict,
    EventNotFound,
    Fault,
    Forbidden,
    ForbiddenSink,
    ForeignHost,
    ForeignOrigin,
    HandshakeRefused,
    HeadersTooLarge,
    Internal,
    InvalidEvent,
    InvalidFilter,
    InvalidHeader,
    InvalidQuery,
    InvalidRequest,
    InvalidSubscription,
    MalformedJson,
    MethodNotAllowed,
    NotFound,
    NotReplayable,
    Overloaded,
    Problem,
    RateLimited,
    RequestTimeout,
    RevisionMismatch,
    SignatureError,
    Stale,
    Stopping,
    StoreBusy,
    StoreFull,
    SubscriptionExists,
    TooLarge,
    Unauthenticated,
    UnsupportedMediaType,
    WrongState,
)
from fairlead.errors.root import (
    FairleadError,
)

__all__ = [
    "PROBLEM_URN",
    "BrokerFailed",
    "BrokerFailure",
    "ChainBroken",
    "ConfigError",
    "EventConflict",
    "EventNotFound",
    "EventRefused",
    "FairleadError",
    "Fault",
    "Fenced",
    "Forbidden",
    "ForbiddenSink",
    "ForeignHost",
    "ForeignOrigin",
    "HandshakeRefused",
    "HeadersTooLarge",
    "InboxBusy",
    "InboxError",
    "Internal",
    "InvalidEvent",
    "InvalidFilter",
    "InvalidHeader",
    "InvalidQuery",
    "InvalidRequest",
    "InvalidSecret",
    "InvalidSubscription",
    "LeaseLost",
    "LockLost",
    "MalformedJson",
    "MethodNotAllowed",
    "NotFound",
    "NotReplayable",
    "OutboxClosed",
    "OutboxError",
    "OutboxFull",
    "Overloaded",
    "PortInUse",
    "Problem",
    "RateLimited",
    "Reject",
    "RequestTimeout",
    "RevisionMismatch",
    "SendFailed",
    "SendFailure",
    "SignatureError",
    "Stale",
    "Stopping",
    "StoreBusy",
    "StoreCorrupt",
    "StoreError",
    "StoreFailed",
    "StoreForeign",
    "StoreFull",
    "StoreLocked",
    "StoreNewer",
    "SubscriptionExists",
    "TooLarge",
    "Unauthenticated",
    "UnsupportedMediaType",
    "WrongState",
]
