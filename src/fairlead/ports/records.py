# SPDX-License-Identifier: Apache-2.0
"""The store's other nouns: attempts, subscriptions, keys and rejects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from fairlead.core.channel import Attempt, ChannelId
from fairlead.core.outcome import Outcome
from fairlead.core.policy import Grant
from fairlead.core.subscription import Matching, Subscription


class Attempts(Protocol):
    """What users look at; written with the flush that carries it, pruned by age."""

    async def attempts(
        self,
        subscription: str,
        *,
        key: str | None = None,
        outcome: str | None = None,
        partition: int | None = None,
        position: int | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> list[tuple[int, ChannelId, Attempt]]:
        """Newest first, each with its number for `after`."""

    async def last_error(self, subscription: str) -> tuple[float, Outcome] | None:
        """The newest attempt that did not deliver, with its Unix time."""

    async def prune_attempts(self, older_than: float, limit: int) -> int:
        """Delete attempts that began before a Unix time."""


class Subscriptions(Protocol):
    async def create(self, subscription: Subscription, now_ms: int) -> Subscription:
        """Store it with a channel per partition at its start; generation max(previous + 1, `now_ms`).

        Raises:
            SubscriptionExists: the id is taken.
        """

    async def replace(self, subscription: Subscription, expected_revision: int) -> Subscription:
        """Store a new revision; a changed `matching` is kept under that revision for filter revisions.

        Raises:
            RevisionMismatch: the stored revision is another one. NotFound: there is none.
        """

    async def set_state(self, id: str, state: str, reason: str | None, now: float) -> Subscription:
        """Enter a state; `since` changes, and the epochs of its channels rise, only with the state.

        Raises:
            NotFound: there is no such subscription.
        """

    async def get(self, id: str) -> Subscription | None: ...

    async def all(self) -> list[Subscription]:
        """Every subscription, by id."""

    async def delete(self, id: str) -> bool:
        """Delete it with its channels, holds, skips and attempts; its generation is kept and never reused."""

    async def matching(self, id: str, revision: int) -> Matching:
        """What a revision wanted, as long as a filter revision may name it. Raises NotFound."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One API key; the key itself is stored hashed and shown once. Times in Unix seconds."""

    id: str
    name: str
    digest: bytes
    grants: tuple[Grant, ...]
    created_at: float
    expires_at: float | None = None
    last_used_at: float | None = None


class Keys(Protocol):
    async def add_key(self, key: ApiKey) -> None: ...

    async def keys(self) -> list[ApiKey]:
        """Every key, by creation time."""

    async def find_key(self, digest: bytes) -> ApiKey | None: ...

    async def touch_key(self, id: str, used_at: float) -> None:
        """Note when a key was used last; may be written late."""

    async def delete_key(self, id: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Reject:
    """What a source sent and could not be taken as an event, kept for people."""

    id: str
    source: str
    received_at: float
    reason: str
    headers: Mapping[str, str]
    body: bytes
    size_bytes: int


class Rejects(Protocol):
    async def add_reject(self, reject: Reject) -> None: ...

    async def has_like(self, reject: Reject, header: str) -> bool:
        """Whether one of the last 1,000 rejects of its source has its body, its size and its `header`."""

    async def rejects(self, source: str | None, after: str | None, limit: int) -> list[Reject]:
        """At most `limit` by id, above `after`. The list also ends once their bodies take `PAGE_BYTES`."""

    async def reject(self, id: str) -> Reject | None: ...

    async def delete_reject(self, id: str) -> bool: ...

    async def prune_rejects(self, older_than: float, limit: int) -> int:
        """Delete at most `limit` that were received before a Unix time; how many."""
