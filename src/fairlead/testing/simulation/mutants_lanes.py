# SPDX-License-Identifier: Apache-2.0
"""Rules taken out of `core/lanes` and its parts, and deliberate errors put in; see `mutants`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fairlead.core.channel import ChannelState, Progress, Skip
from fairlead.core.holds import Held
from fairlead.core.lanes import UNBOUNDED, Lanes
from fairlead.core.log import Entry
from fairlead.core.outcome import DELIVERED, Outcome
from fairlead.core.paging import LanePage, Paging
from fairlead.core.queues import Run
from fairlead.core.settling import Settling, Verdict
from fairlead.core.snapshot import Snapshot
from fairlead.testing.simulation.patching import Patch, around, instead


def floor_holds() -> Patch:
    """`flfloor` is `low_water` alone."""
    return instead(Lanes, "floor", lambda lanes: lanes.low_water)


def floor_scan() -> Patch:
    """`flfloor` is `scan_pos`."""
    return instead(Lanes, "floor", lambda lanes: lanes.scan_pos)


def skip_first() -> Patch:
    """A skip counts at once and is stored some time."""
    unstored: dict[int, list[Skip]] = {}

    def exhaust(
        original: Callable[..., None], settling: Settling, held: Held, *rest: Any, **more: Any
    ) -> None:
        original(settling, held, *rest, **more)
        if held.skip is not None:
            unstored.setdefault(id(settling), []).append(held.skip)
            settling.skipped(held, more["now"])

    def snapshot(original: Callable[..., Snapshot], lanes: Lanes, **now: float) -> Snapshot:
        taken = original(lanes, **now)
        return replace(taken, skips=(*taken.skips, *unstored.pop(id(lanes._settling), ())))

    return around(Settling, "_exhaust", exhaust) + around(Lanes, "snapshot", snapshot)


def page_scan() -> Patch:
    """A held lane reads its events as far as the log goes."""

    def wanted(original: Callable[..., list[LanePage]], paging: Paging, *rest: Any) -> list[LanePage]:
        return [replace(page, last=UNBOUNDED) for page in original(paging, *rest)]

    return around(Paging, "wanted", wanted)


def scan_keep() -> Patch:
    """At a load `scan_pos` goes back to `low_water`, and holds read no further."""

    def init(
        original: Callable[..., None], lanes: Lanes, state: ChannelState, *rest: Any, **more: Any
    ) -> None:
        low_water = state.progress.low_water
        forgotten = Progress(low_water, low_water, state.progress.done)
        original(lanes, replace(state, progress=forgotten), *rest, **more)

    def read(original: Callable[..., None], lanes: Lanes, entry: Entry, wanted: bool) -> None:
        original(lanes, entry, wanted and not lanes._stored.is_done(entry.position))

    return around(Lanes, "__init__", init) + around(Lanes, "read", read)


def one_flight() -> Patch:
    """A lane that is slow may be sent again while its attempt is under way."""

    def demote(original: Callable[..., bool], settling: Settling, key: str, now: float) -> bool:
        demoted = original(settling, key, now)
        if demoted:
            settling._queues.lane(key).flight = None
            held = settling._holds.get(key)
            assert held is not None
            held.state, held.ready_at = "held", now
            settling._holds.put(held)
        return demoted

    return around(Settling, "demote", demote)


def two_flight() -> Patch:
    """A lane's head is sent again while it is under way."""

    def depart(original: Callable[..., Run], lanes: Lanes, key: str, *rest: Any) -> Run:
        run = original(lanes, key, *rest)
        lanes.queues.lane(key).flight = None
        lanes.queues.enlist(key)
        return run

    return around(Lanes, "_depart", depart)


def probe_turn() -> Patch:
    """An open breaker probes one lane only: the first by its key."""
    asked: dict[int, float] = {}

    def following(original: Callable[..., Run | None], lanes: Lanes, now: float, **more: Any) -> Run | None:
        if not lanes.breaker.is_open:
            return original(lanes, now, **more)
        key = min([held.key for held in lanes.holds] + list(lanes.queues._lanes), default="")
        lane = lanes.queues.get(key)
        ready = lane is not None and lane.queue and not lanes.queues.flights and not lane.waiting
        if not ready or not lanes.caught_up or not lanes.breaker.may_probe(now):
            return None
        return lanes._depart(key, lanes.holds.get(key), now, 1, UNBOUNDED)

    def wanted(
        original: Callable[..., list[LanePage]], paging: Paging, now: float, *rest: Any
    ) -> list[LanePage]:
        if not paging._breaker.is_open:
            return original(paging, now, *rest)
        held = min(paging._holds, key=lambda one: one.key, default=None)
        if held is None or held.loaded or held.paging or not paging._breaker.may_probe(now):
            return []
        if now < asked.get(id(paging), 0.0) + 0.1:
            return []
        asked[id(paging)] = now
        held.paging = True
        return [LanePage(held.key, held.head_pos, rest[1])]

    def due(original: Callable[..., float | None], lanes: Lanes, now: float) -> float | None:
        at = original(lanes, now)
        return at if at is None or not lanes.breaker.is_open else max(at, now + 0.1)

    turn = around(Lanes, "next", following) + around(Paging, "wanted", wanted)
    return turn + around(Lanes, "next_due", due)


def cursor_first() -> Patch:
    """What was read counts as settled."""

    def snapshot(original: Callable[..., Snapshot], lanes: Lanes, **now: float) -> Snapshot:
        return replace(original(lanes, **now), progress=Progress(lanes.scan_pos, lanes.scan_pos))

    return around(Lanes, "snapshot", snapshot)


def hold_later() -> Patch:
    """A hold's row comes in a later commit than the progress it allows."""
    due: dict[int, set[str]] = {}

    def snapshot(original: Callable[..., Snapshot], lanes: Lanes, **now: float) -> Snapshot:
        taken = original(lanes, **now)
        before = due.get(id(lanes), set())
        late = {row.key for row in taken.holds} - before
        due[id(lanes)] = late
        lanes.holds.dirty.update({key: None for key in late} if isinstance(lanes.holds.dirty, dict) else late)
        return replace(taken, holds=tuple(row for row in taken.holds if row.key in before))

    return around(Lanes, "snapshot", snapshot)


def unhold_early() -> Patch:
    """A hold goes with the first of its events that is settled."""

    def resolve(
        original: Callable[..., Verdict], lanes: Lanes, run: Run, outcomes: Sequence[Outcome], **now: float
    ) -> Verdict:
        verdict = original(lanes, run, outcomes, **now)
        held = lanes.holds.get(run.key)
        if held is not None and held.loaded and outcomes[0].kind == "delivered":
            lanes.holds.release(run.key)
            lanes.queues.drop(run.key)
        return verdict

    return around(Lanes, "resolve", resolve)


def fail_settles() -> Patch:
    """A failure settles."""

    def resolve(
        original: Callable[..., Verdict],
        settling: Settling,
        run: Run,
        outcomes: Sequence[Outcome],
        **now: float,
    ) -> Verdict:
        return original(settling, run, [DELIVERED] * len(outcomes), **now)

    return around(Settling, "resolve", resolve)


def park_forgets() -> Patch:
    """A parked lane does not cover its head."""

    def exhaust(
        original: Callable[..., None], settling: Settling, held: Held, *rest: Any, **more: Any
    ) -> None:
        original(settling, held, *rest, **more)
        if held.state == "parked":
            held.head_pos += 1

    return around(Settling, "_exhaust", exhaust)
