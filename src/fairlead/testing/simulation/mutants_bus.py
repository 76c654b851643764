# SPDX-License-Identifier: Apache-2.0
"""Rules of the bus taken out, and deliberate errors put in, at both ends; see `mutants`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from weakref import WeakSet

import msgspec

from fairlead.core import chain
from fairlead.core.answer import AnswerDocument
from fairlead.core.chain import Memory
from fairlead.core.channel import Fence
from fairlead.core.failover import Failover
from fairlead.core.lanes import Lanes
from fairlead.core.outcome import DELIVERED
from fairlead.core.publishing import Publishing
from fairlead.core.queues import Queues
from fairlead.core.stamps import FenceStamps
from fairlead.core.window import Sent, Window
from fairlead.engine.commands import answers
from fairlead.engine.sending import subscriber
from fairlead.engine.sending.channel_publisher import ChannelPublisher
from fairlead.engine.sending.flusher import Flusher
from fairlead.engine.sending.owner import Owner
from fairlead.errors import FairleadError
from fairlead.ports import Answer, Published
from fairlead.sdk.inbox import tables
from fairlead.sdk.receiving import applying
from fairlead.stores.sqlite.channels import SqliteChannels
from fairlead.testing.simulation.bus_side import FOREIGN_SECRET
from fairlead.testing.simulation.patching import Patch, around, instead

# -- what settles ------------------------------------------------------------------------------------------


def _settle(owner: Owner, sent: Sent) -> None:
    """Count a publish, and all of its key before it, as settled."""
    key, lanes = sent.entry.key, owner.lanes
    lanes.bus.window.settle(key, sent.entry.position)
    lanes._settling.settle(key, sent.entry.position)
    lanes._settling.resume(key, owner.works.clock.monotonic())
    lanes._turn_over(key)
    lanes.changed = True
    owner.works.flusher.want(owner, hurry=lanes.urgent)
    owner.wake()


def confirm() -> Patch:
    """The broker's confirm settles."""

    def published(
        original: Callable[..., None], made: ChannelPublisher, sent: Sent, result: Published
    ) -> None:
        original(made, sent, result)
        if result.kind == "confirmed" and made._owner.lanes.bus.window.is_present(sent):
            _settle(made._owner, sent)

    return around(ChannelPublisher, "_published", published)


def settle_set() -> Patch:
    """A confirm settles as long as no answer has come: so it seems that none will."""
    heard: WeakSet[Owner] = WeakSet()

    def published(
        original: Callable[..., None], made: ChannelPublisher, sent: Sent, result: Published
    ) -> None:
        original(made, sent, result)
        owner = made._owner
        if result.kind == "confirmed" and owner not in heard and owner.lanes.bus.window.is_present(sent):
            _settle(owner, sent)

    def answered(original: Callable[..., Any], owner: Owner, answer: AnswerDocument) -> Any:
        heard.add(owner)
        return original(owner, answer)

    return around(ChannelPublisher, "_published", published) + around(Owner, "answered", answered)


def cumack() -> Patch:
    """An answer settles everything that was published before what it answers."""

    def answered(original: Callable[..., Any], owner: Owner, answer: AnswerDocument) -> Any:
        if not owner.closed and (answer.generation, answer.epoch) == (
            owner.fence.generation,
            owner.fence.epoch,
        ):
            for sent in list(owner.lanes.bus.window._sent.values()):
                if sent.seq < (answer.seq or 0):
                    _settle(owner, sent)
        return original(owner, answer)

    return around(Owner, "answered", answered)


def gen_ack() -> Patch:
    """An answer settles in whatever generation there is by now."""

    def answered(original: Callable[..., Any], owner: Owner, answer: AnswerDocument) -> Any:
        return original(owner, msgspec.structs.replace(answer, generation=owner.fence.generation))

    return around(Owner, "answered", answered)


def fail_settles() -> Patch:
    """A failure settles."""

    def answered(
        original: Callable[..., Any], publishing: Publishing, answer: AnswerDocument, **more: Any
    ) -> Any:
        sent = publishing.window._sent.get(answer.seq or 0) if more["in_epoch"] else None
        if sent is not None and answer.result == "failed":
            answer = msgspec.structs.replace(answer, result="applied", applied=sent.entry.position)
        return original(publishing, answer, **more)

    return around(Publishing, "answered", answered)


def unhold_early() -> Patch:
    """A hold goes with the first of its events that is settled."""

    def answered(original: Callable[..., Any], lanes: Lanes, answer: AnswerDocument, **more: Any) -> Any:
        done = original(lanes, answer, **more)
        held = lanes.holds.get(answer.key or "")
        if held is not None and held.loaded and answer.result == "applied":
            lanes.holds.release(held.key)
            lanes.queues.drop(held.key)
        return done

    return around(Lanes, "answered", answered)


# -- who may answer ----------------------------------------------------------------------------------------


def unsigned() -> Patch:
    """An answer's signature is not looked at."""
    return instead(answers, "verify", lambda *_: "")


def any_secret() -> Patch:
    """Whoever has some subscription's secret signs the answers of all."""

    def secrets(original: Callable[..., tuple[str, ...]], *of: Any) -> tuple[str, ...]:
        return (*original(*of), FOREIGN_SECRET)

    return around(answers, "answer_secrets", secrets)


# -- where the broker's confirm settles ---------------------------------------------------------------------


def any_word() -> Patch:
    """Whatever the broker says, it has the event."""

    async def confirmed(original: Callable[..., Any], *what: Any) -> Answer:
        answer: Answer = await original(*what)
        return msgspec.structs.replace(answer, outcomes=(DELIVERED,))

    return around(subscriber, "confirmed", confirmed)


def leaves() -> Patch:
    """A channel leaves a bus in trouble at once, whatever `failover` says."""
    return instead(Failover, "_may_leave", lambda failover: True)


# -- epochs and the window ---------------------------------------------------------------------------------


def early_epoch() -> Patch:
    """An epoch is used while it is still being committed."""
    committing: set[asyncio.Task[None]] = set()

    async def commit(original: Callable[..., Any], *what: Any, **more: Any) -> None:
        with suppress(FairleadError):
            await original(*what, **more)

    async def fence(original: Callable[..., Any], store: SqliteChannels, before: Fence, **more: Any) -> Fence:
        committing.add(task := asyncio.create_task(commit(original, store, before, **more)))
        task.add_done_callback(committing.discard)
        target = more.get("target")
        epoch = max(before.epoch + 1, more.get("at_least", 0))
        return replace(before, epoch=epoch, target=before.target if target is None else target)

    return around(SqliteChannels, "fence", fence)


def unlocked() -> Patch:
    """A channel is read anew while a fence of it is committed, and the other way round."""
    return instead(Flusher, "alone", lambda flusher: asyncio.Lock())


def no_window() -> Patch:
    """As much is under way as there is."""
    return instead(Window, "has_room", property(lambda window: True))


def resend_tail() -> Patch:
    """What is sent again begins behind what was sent last, not with the oldest unsettled event."""

    def send_again(publishing: Publishing, key: str, now: float) -> None:
        publishing._queues.enlist(key)

    return instead(Publishing, "_send_again", send_again)


def unchained() -> Patch:
    """What is published says that nothing is owed before it."""

    def admit(original: Callable[..., Sent], window: Window, entry: Any, prev: int, *rest: Any) -> Sent:
        return original(window, entry, 0, *rest)

    return around(Window, "admit", admit)


def no_drain() -> Patch:
    """A switch does not wait for the requests that are in flight: they are forgotten."""

    def begin_epoch(original: Callable[..., None], owner: Owner, fence: Fence) -> None:
        queues: Queues = owner.lanes.queues
        for run in list(queues.flights):
            queues.land(run)
            queues.enlist(run.key)
        original(owner, fence)

    return around(Owner, "begin_epoch", begin_epoch)


def failed_moves() -> Patch:
    """An event that fails makes the bus suspect, and moves the channel."""

    def answered(original: Callable[..., Any], owner: Owner, answer: AnswerDocument) -> Any:
        verdict = original(owner, answer)
        if answer.result == "failed" and owner.route is not None:
            owner.route.failover.trouble("an event failed", owner.works.clock.monotonic())
            owner.route.steer()
        return verdict

    return around(Owner, "answered", answered)


# -- the receiver ------------------------------------------------------------------------------------------


def noepoch() -> Patch:
    """An older epoch of the same generation is not stale."""

    def stale(memory: Memory, stamps: FenceStamps) -> bool:
        return stamps.generation < memory.generation

    return instead(chain, "is_stale", stale) + instead(applying, "is_stale", stale)


def noseq() -> Patch:
    """`flseq` is not looked at."""

    def entered(original: Callable[..., Memory], memory: Memory, stamps: FenceStamps) -> Memory:
        return msgspec.structs.replace(original(memory, stamps), seq=0)

    return around(chain, "entered", entered) + around(applying, "entered", entered)


def floor_back() -> Patch:
    """A commit of the inbox stores what its transaction read, whatever others have stored meanwhile."""
    return instead(tables, "_risen", lambda held, memory: memory)
