# SPDX-License-Identifier: Apache-2.0
"""The seams: what the engine asks of the world (design, section 9).

One Protocol per noun. Every method is a coroutine that never blocks the event loop; what it raises besides the
named errors is a defect. A store is the six nouns `Store` names; `fairlead.testing.store_contract` is the suite
that every store passes unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fairlead.core.channel import (
    Attempt,
    ChannelFlush,
    ChannelId,
    ChannelState,
    Fence,
    HoldRow,
    HoldState,
    ReplayFrom,
    Skip,
    SkipRow,
)
from fairlead.core.event import Event
from fairlead.core.log import Appended, Entry, EventQuery
from fairlead.core.outcome import Outcome
from fairlead.core.policy import Grant, Principal
from fairlead.core.subscription import Matching, Subscription, Target
from fairlead.errors import StoreFailed


class Clock(Protocol):
    """Time. Wall time is for people and for what outlives the process; everything else is monotonic."""

    def now(self) -> float:
        """Unix seconds; may jump."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back, runs on while the machine is suspended if it can."""


class Log(Protocol):
    """The append-only, durable sequence of accepted events."""

    partitions: int

    async def append(self, events: Sequence[Event], accepted_at: float) -> list[Appended]:
        """Append all events or none, in order; return when they are on disk, fsynced.

        Concurrent calls share a commit. The same event again is not appended but returned as a duplicate.

        Raises:
            EventConflict: another event stands under the same source, id and key; `faults` name the indexes.
            StoreFull: the disk reserve is reached. StoreBusy: locked past the busy timeout.
            StoreFailed: the commit or fsync failed; nothing may be assumed.
        """

    async def heads(self) -> dict[int, int]:
        """The last position of every partition, 0 where nothing was appended."""

    async def oldest(self) -> dict[int, int]:
        """The lowest position still kept in every partition; head + 1 where nothing is kept."""

    async def read(self, partition: int, after: int, limit: int) -> list[Entry]:
        """At most `limit` entries above `after`, ascending. Pruned positions are simply not there.

        Raises:
            StoreCorrupt: a row's digest is not that of its event.
        """

    async def read_lane(self, partition: int, key: str, first: int, last: int, limit: int) -> list[Entry]:
        """At most `limit` entries of one key from `first` up to and with `last`, ascending. Raises as `read`."""

    async def search(self, query: EventQuery) -> list[Entry]:
        """The entries a query asks for; `key`, or `source` with `id`, use an index, others scan."""

    async def first_at(self, accepted_at: float) -> dict[int, int]:
        """Per partition the first position accepted at or after a time; head + 1 where there is none."""

    async def prune(self, partition: int, positions: Sequence[int]) -> int:
        """Delete entries; return how many there were. The caller knows that nobody has yet to get them."""

    async def size_bytes(self) -> int:
        """What the log takes on disk, as far as the store can tell cheaply."""


class Channels(Protocol):
    """Progress, holds, skips and fences. Every write of an owner is fenced (design, section 4)."""

    async def take_all(self, owner: str) -> list[ChannelState]:
        """Become the owner of every partition: raise every lease's and every channel's epoch; load them all."""

    async def load(self, channel: ChannelId) -> ChannelState | None:
        """One channel as it stands, under the lease this store's caller took; None if it is gone.

        Raises:
            LeaseLost: the partition has another owner.
        """

    async def flush(self, flushes: Sequence[ChannelFlush]) -> list[Fence | Exception]:
        """Store each channel's share, one commit for all; per channel the fence now in force, or why not.

        An element is `Fenced` or `LeaseLost` where the channel has changed; nothing of that flush was stored.

        Raises:
            StoreFull, StoreBusy: nothing was stored; try again later. StoreFailed: stop.
        """

    async def fence(self, fence: Fence, *, at_least: int = 0, target: int | None = None, reason: str = "") -> Fence:
        """Raise the epoch of a channel one owns to max(own + 1, `at_least`), durably, before it is used.

        Raises:
            Fenced, LeaseLost: as for `flush`.
        """

    async def replay(
        self, subscription: str, starts: Sequence[ReplayFrom], now_ms: int, replacement: Subscription | None = None
    ) -> dict[int, Fence]:
        """Go back, in one transaction: the design's section 4, "Replay"; per partition the new fence.

        `replacement` is stored with it (a change of `receiver` or `settles` goes only so).

        Raises:
            NotReplayable: a start lies above what was read, or its events were pruned (`oldest`).
            NotFound: no such subscription.
        """

    async def release(self, channel: ChannelId, keys: Sequence[str] | None, state: HoldState | None, now: float) -> int:
        """Give held or parked lanes attempt 0, state held, ready now; raise the epoch; return how many.

        `keys` None means every lane in `state`.
        """

    async def skip(self, channel: ChannelId, skip: Skip, head_pos: int, now: float) -> bool:
        """Drop the head of a lane on record, then release it; raise the epoch.

        False, and nothing stored, if the lane's `head_pos` is no longer `head_pos`.
        """

    async def expire(self, skips: Mapping[ChannelId, Sequence[Skip]], partition: int, positions: Sequence[int]) -> int:
        """Delete unsettled entries by a retention rule, with their skips, in one transaction; raise the epochs."""

    async def holds(
        self, subscription: str, state: HoldState | None, after: tuple[int, str] | None, limit: int
    ) -> list[HoldRow]:
        """Held and parked lanes by partition and key (`slow` ones only if asked for by name)."""

    async def count_holds(self, subscription: str) -> dict[HoldState, int]:
        """How many lanes are in which state."""

    async def skips(self, subscription: str, after: tuple[int, int, int] | None, limit: int) -> list[SkipRow]:
        """Skips by generation, partition, position, the newest generation first."""

    async def count_skips(self, subscription: str) -> int:
        """How many events were skipped in the channels' present generations."""

    async def skipped_before(self, channel: ChannelId, generation: int, key: str, below: int, limit: int) -> list[int]:
        """The skipped positions of a key below a position in one generation, newest first."""


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

    async def rejects(self, source: str | None, after: str | None, limit: int) -> list[Reject]: ...

    async def reject(self, id: str) -> Reject | None: ...

    async def delete_reject(self, id: str) -> bool: ...


class Store(Protocol):
    """One durable store: six nouns over one database.

    `shared` says that several nodes may share it (a filter change then waits for one answer first).
    `on_failed` is called once, on any thread, with the StoreFailed that ended serving.
    """

    shared: bool
    on_failed: Callable[[StoreFailed], None] | None

    @property
    def log(self) -> Log: ...
    @property
    def channels(self) -> Channels: ...
    @property
    def attempts(self) -> Attempts: ...
    @property
    def subscriptions(self) -> Subscriptions: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def rejects(self) -> Rejects: ...

    async def note(self, source: str, subject: str, text: str | None = None) -> str | None:
        """The small text remembered so far (the bridges' last ids); with `text`, that one is remembered from now."""

    def time_commits(self, observe: Callable[[float], None]) -> None:
        """Have the seconds that each commit takes observed, on one thread, whichever."""

    async def check(self) -> list[str]:
        """Every damage found, as one line each; empty when sound. May take long."""

    async def close(self) -> None:
        """Commit what waits and let go of the database; idempotent."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One event of a delivery: its entry, the chain's `prev`, and what was skipped before it."""

    entry: Entry
    prev: int
    skipped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request to one target: a single event, a batch (several parcels) or a fence (none).

    `floor` is `flfloor`. In a batch a key's parcels stand in order, at most one run per key.
    """

    subscription: Subscription
    target: Target
    fence: Fence
    floor: int
    parcels: tuple[Parcel, ...]
    batch: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a delivery: one outcome per parcel, in order; for a fence one outcome.

    `heard` is True when the library answered in the delivery's own epoch.
    """

    outcomes: tuple[Outcome, ...]
    duration_ms: int
    started_at: float
    heard: bool = False


class Sender(Protocol):
    """One transport to receivers."""

    async def send(self, delivery: Delivery) -> Answer:
        """Try once, within the subscription's timeout; never raises for anything the network does.

        A started request ends by its answer or its own deadline. Cancelling closes its connection.
        """

    async def check(self, target: Target, subscription: Subscription) -> float | None:
        """Check a sink before a subscription is stored: address, scheme, handshake.

        Returns:
            The requests per second that the sink allows (it lowers `rate`); None where it set no limit.

        Raises:
            ForbiddenSink: the address may not be called. HandshakeRefused: the sink did not consent.
        """

    async def close(self) -> None:
        """Close every connection; idempotent."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller presented, as the authenticators need it: header names in lower case."""

    headers: Mapping[str, str] = field(default_factory=dict)


class Authenticator(Protocol):
    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """A principal, or None (not mine).

        Raises:
            Unauthenticated: mine, and bad.
        """
