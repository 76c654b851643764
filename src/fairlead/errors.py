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
    │   ├── OutboxFull          it holds `max_bytes`: the event was not stored
    │   └── OutboxClosed        the publisher was closed
    ├── EventRefused            the relay refused the event for good; it is in the outbox's refused table
    ├── SendFailed              a request of ours got no answer; `kind` says why
    ├── ConfigError             file, key, value, what was expected
    └── PortInUse               the address to listen on is taken
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

PROBLEM_URN = "urn:fairlead:problem:"


class FairleadError(Exception):
    """Root of all errors that Fairlead raises on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with a request: where it is, what it is, and what to do.

    Exactly one of `pointer` (RFC 6901), `header` and `query` says where; `index` the place in a batch.
    """

    detail: str
    index: int | None = None
    pointer: str | None = None
    header: str | None = None
    query: str | None = None
    hint: str | None = None


class Problem(FairleadError):
    """What a caller did that cannot be done: an RFC 9457 problem.

    Args:
        detail: one sentence with the offending value and what was expected.
        faults: every fault found, in input order.
        retry_after_seconds: whole seconds for `Retry-After`.
        members: further members of the problem document (`limit_bytes`, `oldest`, …).
        headers: further response headers (`Allow`, `WWW-Authenticate`).
    """

    type: ClassVar[str] = "internal"
    title: ClassVar[str] = "A defect in the relay"
    status: ClassVar[int] = 500

    def __init__(
        self,
        detail: str,
        *,
        faults: Sequence[Fault] = (),
        retry_after_seconds: int | None = None,
        members: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)
        self.retry_after_seconds = retry_after_seconds
        self.members = dict(members or {})
        self.headers = dict(headers or {})

    @property
    def urn(self) -> str:
        return PROBLEM_URN + self.type


class MalformedJson(Problem):
    type, title, status = "malformed-json", "The body is not JSON", 400


class InvalidEvent(Problem):
    type, title, status = "invalid-event", "The event is not a CloudEvent", 400


class InvalidHeader(Problem):
    type, title, status = "invalid-header", "A header cannot be understood", 400


class InvalidQuery(Problem):
    type, title, status = "invalid-query", "A query parameter cannot be understood", 400


class InvalidRequest(Problem):
    type, title, status = "invalid-request", "The request body does not say what this call needs", 400


class Unauthenticated(Problem):
    type, title, status = "unauthenticated", "A login is needed", 401


class SignatureError(Unauthenticated):
    """A message is not signed, or by nobody known, or too long ago."""


class Forbidden(Problem):
    type, title, status = "forbidden", "The login may not do this", 403


class ForeignOrigin(Problem):
    type, title, status = "foreign-origin", "Requests from other origins are refused", 403


class ForeignHost(Problem):
    type, title, status = "foreign-host", "The Host header is not a loopback name", 403


class NotFound(Problem):
    type, title, status = "not-found", "There is no such thing here", 404


class EventNotFound(Problem):
    type, title, status = "event-not-found", "There is no such event in the log", 404


class MethodNotAllowed(Problem):
    type, title, status = "method-not-allowed", "The resource does not have this method", 405


class RequestTimeout(Problem):
    type, title, status = "request-timeout", "The request took too long to arrive", 408


class EventConflict(Problem):
    type, title, status = "event-conflict", "The log holds another event under this source and id", 409


class SubscriptionExists(Problem):
    type, title, status = "subscription-exists", "The subscription exists already", 409


class NotReplayable(Problem):
    type, title, status = "not-replayable", "The log cannot be replayed from there", 409


class WrongState(Problem):
    type, title, status = "wrong-state", "The state does not allow this", 409


class Stale(Problem):
    type, title, status = "stale", "A newer generation or epoch has been seen", 409


class RevisionMismatch(Problem):
    type, title, status = "revision-mismatch", "The subscription has changed since it was read", 412


class TooLarge(Problem):
    type, title, status = "too-large", "The body is too large", 413


class UnsupportedMediaType(Problem):
    type, title, status = "unsupported-media-type", "The content type is not supported", 415


class InvalidSubscription(Problem):
    type, title, status = "invalid-subscription", "The subscription cannot be understood", 422


class InvalidFilter(Problem):
    type, title, status = "invalid-filter", "The filter cannot be understood", 422


class ForbiddenSink(Problem):
    type, title, status = "forbidden-sink", "The sink is not an address that this relay may call", 422


class HandshakeRefused(Problem):
    type, title, status = "handshake-refused", "The sink did not agree to deliveries", 422


class ChainBroken(Problem):
    type, title, status = "chain", "An earlier event of this resource is missing", 425


class RateLimited(Problem):
    type, title, status = "rate-limited", "Too many requests", 429


class HeadersTooLarge(Problem):
    type, title, status = "headers-too-large", "The request headers are too large", 431


class Internal(Problem):
    type, title, status = "internal", "A defect in the relay", 500


class Overloaded(Problem):
    type, title, status = "overloaded", "The relay has more to do than it can hold", 503


class StoreBusy(Problem):
    type, title, status = "store-busy", "The store is busy", 503


class Stopping(Problem):
    type, title, status = "stopping", "The relay is stopping", 503


class StoreFull(Problem):
    type, title, status = "store-full", "The disk is full", 507


class InvalidSecret(FairleadError, ValueError):
    """A signing secret that is not one; the message says why and never holds it."""


class StoreError(FairleadError):
    """The store cannot serve; the message says which file, what is wrong and what to do."""


class StoreLocked(StoreError):
    """Another process has the store open."""


class StoreForeign(StoreError):
    """The file is not a Fairlead store."""


class StoreNewer(StoreError):
    """The store was written by a newer Fairlead."""


class StoreCorrupt(StoreError):
    """A row or page does not hold what was written."""


class StoreFailed(StoreError):
    """A commit or fsync failed; what the disk holds is unknown and serving must end."""


class Fenced(FairleadError):
    """A fenced write met a newer channel: nothing of it was stored; read the channel again."""


class LeaseLost(Fenced):
    """A fenced write by a node that no longer owns the partition: nothing was stored; stop."""


class Reject(FairleadError):
    """Raise it in a handler: this event will never be taken, do not send it again.

    Its text reaches the relay and its operators; anything else that a handler raises means "again, later".
    """


class InboxError(FairleadError):
    """The inbox cannot serve this delivery now; nothing was stored and the relay will send it again."""


class InboxBusy(InboxError):
    """Another delivery of the same resource, or another writer, held its lock for too long."""


class LockLost(InboxError):
    """The delivery's lock ran out, or a newer generation began, before the commit."""


class OutboxError(FairleadError):
    """The outbox cannot take the event; nothing was stored."""


class OutboxFull(OutboxError):
    """The outbox holds as much as it may; publish again when the relay has taken some of it."""


class OutboxClosed(OutboxError):
    """The publisher was closed."""


class EventRefused(FairleadError):
    """The relay refused the event for good: it stands in `refused()` with the relay's problem.

    Attributes:
        refused_id: its number there, for `retry_refused` and `discard_refused`.
        problem: the relay's problem document (RFC 9457).
    """

    def __init__(self, message: str, *, refused_id: int, problem: Mapping[str, object]) -> None:
        super().__init__(message)
        self.refused_id = refused_id
        self.problem = dict(problem)


SendFailure = Literal["refused", "timeout", "tls", "dns", "reset", "protocol", "forbidden"]


class SendFailed(FairleadError):
    """A request of ours got no answer.

    Args:
        kind: refused (no connection), timeout (the deadline passed), tls (handshake or certificate), dns (the
            host has no address), reset (closed before the answer's end), protocol (not HTTP/1.1, or too much
            of it), forbidden (the egress policy; nothing was sent).
        detail: one sentence for people; never a secret.
    """

    def __init__(self, kind: SendFailure, detail: str) -> None:
        super().__init__(detail)
        self.kind: SendFailure = kind
        self.detail = detail


@dataclass(eq=False)
class ConfigError(FairleadError):
    """A setting that cannot be used; prints as `fairlead.toml:12: [limits] event_byte: unknown key; …`."""

    message: str
    file: str | None = None
    line: int | None = None
    hints: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        return where + self.message


class PortInUse(FairleadError):
    """The address to listen on is taken by another process."""
