# SPDX-License-Identifier: Apache-2.0
"""Going back to an earlier place in the log (design, section 4, "Replay")."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from fairlead.core.channel import ReplayFrom
from fairlead.core.durations import format_time
from fairlead.core.event import partition_of
from fairlead.core.log import Entry, EventQuery
from fairlead.core.subscription import Subscription
from fairlead.engine.finding import find_channel, find_subscription
from fairlead.engine.lane_reading import Span, head_and_count
from fairlead.engine.retention.turn import Turn
from fairlead.engine.revisions import Revisions
from fairlead.errors import (
    EventNotFound,
    Fault,
    InvalidRequest,
    InvalidSubscription,
    NotReplayable,
    WrongState,
)
from fairlead.ports import Clock, Store

if TYPE_CHECKING:
    from fairlead.engine.sending.dispatcher import Dispatcher

MOST_KEYS = 1000
MOST_COUNTED = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """Where to begin again: exactly one of `position`, `time` and `event`.

    Attributes:
        position: (partition, position). Only that channel goes back.
        time: Unix seconds: every channel goes back to the first event accepted at or after it.
        event: (source, id). The channel that holds it goes back to it.
        key: only this lane goes back.
        receiver, settles: changed in the same transaction, then every channel begins a new generation;
            not with `key`.
    """

    position: tuple[int, int] | None = None
    time: float | None = None
    event: tuple[str, str] | None = None
    key: str | None = None
    receiver: Literal["plain", "library"] | None = None
    settles: Literal["applied", "confirm"] | None = None


class Stretch(NamedTuple):
    """What one channel does again: from a position up to and with what it had read."""

    partition: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did: the new generation, and per channel what is sent again.

    `events` counts the positions in `channels`, or with a key that key's events which the filter passes.
    """

    generation: int
    channels: tuple[Stretch, ...]
    events: int

    def document(self) -> dict[str, object]:
        """As the interface shows it (section 4)."""
        channels = [{"partition": one.partition, "from": one.first, "to": one.last} for one in self.channels]
        return {"generation": self.generation, "channels": channels, "events": self.events}


class Replaying:
    """Replays, one subscription at a time."""

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        clock: Clock,
        *,
        revisions: Revisions,
        turn: Turn,
        keep_seconds: float,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._revisions = revisions
        self._turn = turn
        self._keep_seconds = keep_seconds

    async def replay(self, subscription: Subscription, request: ReplayRequest) -> Replayed:
        """Go back, once what is in flight is resolved; returns when it is on disk and sending begins.

        Raises:
            InvalidRequest: not exactly one place, an impossible one, or `key` with `receiver`, `settles`.
            InvalidSubscription: the subscription cannot have that `receiver` or `settles`.
            EventNotFound: the log has no such event, or none of that key from there on.
            WrongState: the event stands under several keys (they are in `faults`).
            NotReplayable: pruned (`oldest` in the members), or not read yet: that would be forward.
            NotFound: the subscription was deleted meanwhile.
        """
        _check(request)
        changes = _replacement(subscription, request) is not None
        places = await self._places(request)
        touched: Collection[int] = range(self._store.log.partitions) if changes else places
        async with self._dispatcher.quiet(subscription.id, touched), self._turn.moving():
            read = {partition: await self._read(subscription.id, partition) for partition in sorted(touched)}
            stretches = [
                Stretch(partition, first, read[partition])
                for partition, first in sorted(places.items())
                if first <= read[partition]
            ]
            if not stretches and not changes:
                raise _forward(places, read, request)
            events = await self._count(subscription, stretches, request.key)
            # A change begins a new generation everywhere, also where nothing is sent again.
            starts = {partition: position + 1 for partition, position in read.items() if changes}
            starts |= {one.partition: one.first for one in stretches}
            replacement = _replacement(await find_subscription(self._store, subscription.id), request)
            fences = await self._store.channels.replay(
                subscription.id,
                [ReplayFrom(partition, first, request.key) for partition, first in starts.items()],
                int(self._clock.now() * 1000),
                replacement,
            )
        if replacement is not None:
            await self._dispatcher.adopt(await find_subscription(self._store, subscription.id))
        generation = max(fence.generation for fence in fences.values())
        return Replayed(generation, tuple(stretches), events)

    # -- where to ----------------------------------------------------------------------------------------

    async def _places(self, request: ReplayRequest) -> dict[int, int]:
        """The position to begin at, by partition."""
        if request.position is not None:
            partition, position = request.position
            await self._refuse_pruned(partition, position)
            return {partition: position}
        if request.event is not None:
            entry = await self._event(*request.event, key=request.key)
            return {entry.partition: entry.position}
        assert request.time is not None  # noqa: S101  # _check saw to it
        firsts = await self._store.log.first_at(request.time)
        if request.key is not None:
            partition = partition_of(request.key, self._store.log.partitions)
            firsts = {partition: firsts[partition]}
        await self._refuse_lost(request.time, firsts)
        return firsts

    async def _event(self, source: str, id: str, *, key: str | None) -> Entry:
        query = EventQuery(source=source, id=id, key=key, limit=MOST_KEYS)
        found = await self._store.log.search(query)
        if not found:
            under = "" if key is None else f" under the key {key!r}"
            raise EventNotFound(f"the log holds no event {id!r} from {source!r}{under}; it may be pruned")
        if len(found) > 1:
            hint = "name one of them as `key`; then only its lane is replayed"
            faults = [Fault(detail=entry.key, pointer="/key", hint=hint) for entry in found]
            raise WrongState(f"event {id!r} from {source!r} stands under {len(found)} keys", faults=faults)
        return found[0]

    async def _refuse_pruned(self, partition: int, position: int) -> None:
        """Positions have no gaps: one that is missing below the head was deleted."""
        if partition not in range(self._store.log.partitions):
            raise _invalid(
                f"there are partitions 0 to {self._store.log.partitions - 1} only", "/position/partition"
            )
        head = (await self._store.log.heads())[partition]
        if position > head:
            return  # not pruned but forward; that is for the channel to say
        kept = await self._store.log.read(partition, position - 1, 1)
        oldest = kept[0].position if kept else head + 1
        if oldest != position:
            raise NotReplayable(
                f"position {position} of partition {partition} was deleted by retention; "
                f"the oldest after it is {oldest}",
                members={"oldest": {"partition": partition, "position": oldest}},
            )

    async def _refuse_lost(self, time: float, firsts: dict[int, int]) -> None:
        """A time from before the retention's reach asks for events that are gone where any were deleted."""
        if time >= self._clock.now() - self._keep_seconds:
            return
        oldest = await self._store.log.oldest()
        for partition, first in sorted(firsts.items()):
            if first == oldest[partition] > 1:
                kept = await self._store.log.read(partition, first - 1, 1)
                since = kept[0].accepted_at if kept else self._clock.now()
                raise NotReplayable(
                    f"what was accepted since {format_time(time)} was deleted by retention in part; "
                    f"partition {partition} begins at position {first}",
                    members={
                        "oldest": {"partition": partition, "position": first, "time": format_time(since)}
                    },
                )

    # -- what it comes to --------------------------------------------------------------------------------

    async def _count(self, subscription: Subscription, stretches: list[Stretch], key: str | None) -> int:
        if key is None:
            return sum(one.last - one.first + 1 for one in stretches)
        ((partition, first, last),) = stretches
        state = await find_channel(self._store, subscription.id, partition)
        wants = await self._revisions.of(subscription, state)
        span = Span(partition, key, first, last)
        _, count = await head_and_count(self._store.log, span, wants, most=MOST_COUNTED)
        if not count:
            raise EventNotFound(
                f"partition {partition} has no event of {key!r} for {subscription.id!r} "
                f"from position {first} up to {last}"
            )
        return count

    async def _read(self, id: str, partition: int) -> int:
        """How far a channel has read."""
        return (await find_channel(self._store, id, partition)).progress.scan_pos


def _check(request: ReplayRequest) -> None:
    named = [place for place in (request.position, request.time, request.event) if place is not None]
    if len(named) != 1:
        raise _invalid("names exactly one of `position`, `time` and `event`", "")
    if request.position is not None and request.position[1] < 1:
        raise _invalid("positions begin at 1", "/position/position")
    if request.key is not None and (request.receiver is not None or request.settles is not None):
        raise _invalid("`receiver` and `settles` change everywhere, so not together with `key`", "/key")


def _invalid(detail: str, pointer: str) -> InvalidRequest:
    return InvalidRequest(f"a replay: {detail}", faults=[Fault(detail=detail, pointer=pointer)])


def _replacement(subscription: Subscription, request: ReplayRequest) -> Subscription | None:
    """The subscription with the `receiver` and `settles` that the replay asks for; None for no change."""
    options = subscription.options
    settles = request.settles or options.settles
    receiver = request.receiver or ("library" if request.settles == "applied" else options.receiver)
    if (receiver, settles) == (options.receiver, options.settles):
        return None
    if request.settles is not None and all(target.protocol != "AMQP" for target in subscription.targets):
        raise _unfit("/settles", "says how a bus settles, and no target is AMQP")
    if settles == "applied" and receiver != "library":
        raise _unfit("/receiver", "settles=applied needs the receiver library")
    if receiver == "library" and any(target.mode != "structured" for target in subscription.targets):
        raise _unfit("/receiver", "the receiver library takes structured mode only; PUT the mode first")
    return replace(
        subscription,
        options=replace(options, receiver=receiver, settles=settles),
        revision=subscription.revision + 1,
    )


def _unfit(pointer: str, detail: str) -> InvalidSubscription:
    return InvalidSubscription(f"{pointer} {detail}", faults=[Fault(detail=detail, pointer=pointer)])


def _forward(places: dict[int, int], read: dict[int, int], request: ReplayRequest) -> NotReplayable:
    if request.time is not None:
        return NotReplayable(
            f"nothing that was read so far was accepted at or after {format_time(request.time)}; "
            "a replay only goes back"
        )
    ((partition, first),) = places.items()
    return NotReplayable(
        f"position {first} of partition {partition} lies ahead: this subscription has read up to "
        f"{read[partition]}, and a replay only goes back"
    )
