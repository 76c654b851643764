# SPDX-License-Identifier: Apache-2.0
"""Rules taken out of the engine, the store and the receiver, and deliberate errors put in; see `mutants`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from fairlead.core import chain, outcomes_http
from fairlead.core.chain import Decision, Memory
from fairlead.core.channel import ChannelState, Fence, Hold
from fairlead.core.event import Event
from fairlead.core.log import Entry
from fairlead.core.outcome import DELIVERED
from fairlead.core.stamps import FenceStamps, Stamps
from fairlead.core.subscription import Subscription
from fairlead.engine import revisions
from fairlead.engine.commands.operating import Operating
from fairlead.engine.sending import adoption, dispatcher
from fairlead.engine.sending.owner import Owner
from fairlead.engine.sending.subscriber import Subscriber
from fairlead.errors import Fenced, LeaseLost
from fairlead.sdk.receiving import applying
from fairlead.stores.sqlite import channels as sqlite_channels
from fairlead.stores.sqlite import replay as sqlite_replay
from fairlead.stores.sqlite import subscriptions as sqlite_subscriptions
from fairlead.stores.sqlite.jobs import Transaction
from fairlead.testing.simulation import receivers
from fairlead.testing.simulation.patching import Patch, around, instead, statement

# -- the engine --------------------------------------------------------------------------------------------


def gen_ack() -> Patch:
    """Nothing waits for what is in flight, and an answer settles in whatever generation there is by now."""

    async def drained(owner: Owner) -> None:
        return None

    def landed(original: Callable[..., Any], owner: Owner, runs: Any, answer: Any, *then: Any) -> Any:
        _lanes, fence = then
        return original(owner, runs, answer, owner.lanes, fence)

    return instead(Owner, "drained", drained) + around(Owner, "landed", landed)


def filter_pos() -> Patch:
    """The call that sets a filter returns before the owner has written from where it holds."""

    async def adopt(subscriber: Subscriber, owner: Owner, timeout_seconds: float) -> bool:
        owner.sieve.pending = True  # the next tick sees to it
        return True

    return instead(dispatcher, "adopt_filter", adopt)


def filter_ack() -> Patch:
    """A new filter waits for no answer in the current epoch."""

    async def heard(subscriber: Subscriber, owner: Owner) -> bool:
        return True

    return instead(adoption, "_is_heard", heard)


def skip_named() -> Patch:
    """An operator's skip drops whatever stands at `head_pos`, if anything of the lane does."""

    async def head(
        operating: Operating, subscription: Subscription, state: ChannelState, hold: Hold
    ) -> Entry:
        event = Event("none", "/sim", "org.example.3")
        return Entry(state.fence.channel.partition, hold.head_pos, hold.key, event, 0.0)

    return instead(Operating, "_head", head)


# -- the store ---------------------------------------------------------------------------------------------


def _progress_where(fence: str) -> Patch:
    """Another fence around progress."""
    sql = "UPDATE progress SET low_water = ?, scan_pos = ?, done_ranges = ? WHERE subscription = ?"
    return statement(sqlite_channels._SQL, "put_progress_fenced", f"{sql} AND partition = ? AND {fence}")


def fence_chan() -> Patch:
    """Writes are fenced by the lease only."""

    def refusal(
        original: Callable[..., Any], transaction: Transaction, fence: Fence, owner: str | None
    ) -> Any:
        refused = original(transaction, fence, owner)
        gone = isinstance(refused, Fenced) and "gone" in str(refused)
        return refused if gone or isinstance(refused, LeaseLost) else None

    leased = "EXISTS (SELECT 1 FROM lease WHERE partition = progress.partition AND owner = ? AND epoch = ?)"
    return around(sqlite_channels, "_refusal", refusal) + _progress_where(f"{leased} AND ? + ? > 0")


def zombie_flush() -> Patch:
    """Writes are not fenced."""

    def refusal(
        original: Callable[..., Any], transaction: Transaction, fence: Fence, owner: str | None
    ) -> Any:
        refused = original(transaction, fence, owner)
        return refused if refused is not None and "gone" in str(refused) else None

    return around(sqlite_channels, "_refusal", refusal) + _progress_where("? <> '' AND ? + ? + ? > 0")


def replay_hold() -> Patch:
    """A replay leaves the holds at and above its position."""
    sql = "DELETE FROM hold WHERE subscription = ? AND partition = ? AND head_pos >= ? AND 1 = 0"
    return statement(sqlite_replay._SQL, "drop_holds_from", sql)


def nogen() -> Patch:
    """A replay begins no generation."""
    sql = (
        "UPDATE channel SET generation = generation + 0 * ?, epoch = ? "
        "WHERE subscription = ? AND partition = ?"
    )
    return statement(sqlite_replay._SQL, "put_generation", sql)


def gen_reused() -> Patch:
    """A subscription made anew begins with the generation of the first."""

    def raised(original: Callable[..., int], transaction: Transaction, id: str, now_ms: int) -> int:
        row = transaction.execute("SELECT 1 FROM channel WHERE subscription = ?", (id,)).fetchone()
        if row is None:
            transaction.execute("DELETE FROM subscription_generation WHERE id = ?", (id,))
            return original(transaction, id, 1)
        return original(transaction, id, 1)

    return around(sqlite_subscriptions, "raise_generation", raised)


# -- the receiver ------------------------------------------------------------------------------------------


def _deciding(decide: Callable[..., Decision]) -> Patch:
    original = chain.decide

    def wrapped(memory: Memory, stamps: Stamps) -> Decision:
        return decide(original, memory, stamps)

    return instead(applying, "decide", wrapped) + instead(receivers, "decide", wrapped)


def dup_floor() -> Patch:
    """What is at or below the floor is no duplicate, and answers do not report it."""

    def decide(original: Callable[..., Decision], memory: Memory, stamps: Stamps) -> Decision:
        decision = original(memory, stamps)
        if decision.ruling == "duplicate" and stamps.pos > decision.memory.applied:
            return replace(decision, ruling="apply")
        return decision

    return _deciding(decide) + instead(Memory, "settled", property(lambda memory: memory.applied))


def gen_reset() -> Patch:
    """Generation and epoch are compared each for itself, and a newer one resets no floor."""

    def stale(memory: Memory, stamps: FenceStamps) -> bool:
        return stamps.generation < memory.generation or stamps.epoch < memory.epoch

    def entered(memory: Memory, stamps: FenceStamps) -> Memory:
        if stamps.generation > memory.generation:
            return Memory(stamps.generation, max(memory.epoch, stamps.epoch), memory.seq, memory.floor)
        return replace(memory, epoch=max(memory.epoch, stamps.epoch))

    everywhere: Patch = ()
    for module in (chain, applying):
        everywhere += instead(module, "is_stale", stale) + instead(module, "entered", entered)
    return everywhere


def noprev() -> Patch:
    """`prev` is not looked at."""

    def decide(original: Callable[..., Decision], memory: Memory, stamps: Stamps) -> Decision:
        decision = original(memory, stamps)
        return replace(decision, ruling="apply") if decision.ruling == "chain" else decision

    return _deciding(decide)


def noapplied() -> Patch:
    """What was applied is no duplicate."""

    def decide(original: Callable[..., Decision], memory: Memory, stamps: Stamps) -> Decision:
        decision = original(memory, stamps)
        floor = decision.memory.floor
        return (
            replace(decision, ruling="apply")
            if decision.ruling == "duplicate" and stamps.pos > floor
            else decision
        )

    return _deciding(decide)


def batch_all() -> Patch:
    """A batch that was answered settles whole."""

    def judged(original: Callable[..., Any], reply: Any, items: Sequence[Any], *rest: Any) -> Any:
        verdict = original(reply, items, *rest)
        if reply.status != 207:
            return verdict
        return msgspec.structs.replace(verdict, outcomes=(DELIVERED,) * len(items))

    return around(outcomes_http, "_judge_batch", judged)


def latest_filter() -> Patch:
    """The newest filter holds at every position."""
    return instead(revisions, "revision_at", lambda filters, position, default: filters[-1].revision)
