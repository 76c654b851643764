# SPDX-License-Identifier: Apache-2.0
"""What a caller did that cannot be done: one class per RFC 9457 problem type (interface, section 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fairlead.errors.root import FairleadError

PROBLEM_URN = "urn:fairlead:problem:"


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
    type, title, status = "store-full", "The store is full", 507
