# SPDX-License-Identifier: Apache-2.0
"""The receivers of a simulation; the names are those of the protocol's model.

lib     the library: inbox and effect in one transaction
split   the library behind a gateway that takes batches apart, and hands the events over in any order: only
        the chain keeps them in theirs
ext     the library with an effect outside the inbox's database: it begins, has its effect, commits, and may
        die in between
plain   no library: runs whatever comes
pos     no library, but ignores what is not newer than the last position of the key in that generation
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

import msgspec

from fairlead.core.answer import AnswerDocument, Result, Stale, encode_results
from fairlead.core.chain import conclude, decide
from fairlead.core.channel import ChannelId
from fairlead.core.codec import BATCH, FENCE, STRUCTURED, decode_batch, decode_structured
from fairlead.core.event import Event
from fairlead.core.stamps import FenceStamps, Stamps, read_batch_stamps, read_stamps
from fairlead.drivers.http_client.message import HttpAnswer
from fairlead.errors import InboxError, LockLost, Overloaded, Reject
from fairlead.sdk.inbox import tables
from fairlead.sdk.inbox.port import memory_of
from fairlead.sdk.receiving.applying import Applier
from fairlead.sdk.receiving.deliveries import deliver
from fairlead.sdk.receiving.handler import Call
from fairlead.sdk.receiving.reply import Reply, of_answer, of_problem, of_stale
from fairlead.testing.simulation.inbox import SimulatedInbox, SimulatedTransaction

Effect = Callable[[Stamps, str], None]


@dataclass(slots=True)
class Temper:
    """What the receiver's handler is like; probabilities.

    Attributes:
        fails, rejects: of each call. dies: its process, in the middle of a delivery.
        poison: the key whose events fail always.
        down: it refuses everything. gone: it answers 410.
    """

    fails: float = 0.2
    rejects: float = 0.0
    dies: float = 0.03
    poison: str | None = None
    down: bool = False
    gone: bool = False


class Receiver(Protocol):
    """Answers deliveries; None closes the connection instead."""

    temper: Temper

    async def serve(self, content_type: str, body: bytes) -> HttpAnswer | None: ...


class DiedError(BaseException):
    """The receiver's process died; no handler can catch it."""


class Handler:
    """The user's code: may fail, reject or die; else it has its effect."""

    def __init__(self, random: Random, temper: Temper, effect: Effect) -> None:
        self.random = random
        self.temper = temper
        self.effect = effect

    def try_it(self, key: str) -> None:
        """Raise what goes wrong before the effect."""
        temper, roll = self.temper, self.random.random
        if roll() < temper.dies:
            raise DiedError
        if key == temper.poison or roll() < temper.fails:
            raise RuntimeError("the handler fails")
        if roll() < temper.rejects:
            raise Reject("never")


def front_door(temper: Temper) -> HttpAnswer | None:
    """What a receiver answers that does not even look; None: it looks."""
    if temper.gone:
        return HttpAnswer(410, [], b"")
    return HttpAnswer(503, [], b"down") if temper.down else None


class LibraryReceiver:
    """`lib`: the real `deliver` and `Applier`; a delivery is one step."""

    def __init__(self, handler: Handler, inbox: SimulatedInbox) -> None:
        self.temper = handler.temper
        self._handler = handler
        self._applier = Applier(inbox, self._handle)

    def _handle(self, event: Event, transaction: SimulatedTransaction) -> None:
        handler, stamps = self._handler, _stamps_of(event)
        handler.try_it(event.key)
        transaction.effect(lambda: handler.effect(stamps, event.key))

    async def apply(self, event: Event, stamps: Stamps) -> AnswerDocument | Stale:
        """Take one event that came over the bus. Raises InboxError, DiedError."""
        return self._applier.apply(event, stamps)

    def fence(self, stamps: FenceStamps) -> AnswerDocument | Stale:
        """Take a fence that came over the bus. Raises InboxError."""
        return self._applier.fence(stamps)

    async def serve(self, content_type: str, body: bytes) -> HttpAnswer | None:
        if (closed := front_door(self.temper)) is not None:
            return closed
        try:
            return _answer(deliver(self._applier, content_type, body))
        except InboxError as error:
            return _answer(of_problem(Overloaded(str(error), retry_after_seconds=1)))
        except DiedError:
            return None


class SplittingReceiver(LibraryReceiver):
    """`split`: each event of a batch is tried whatever came of those before it."""

    async def serve(self, content_type: str, body: bytes) -> HttpAnswer | None:
        if content_type != BATCH or front_door(self.temper) is not None:
            return await super().serve(content_type, body)
        results = []
        parts = list(zip(decode_batch(body, 1000), read_batch_stamps(body), strict=True))
        self._handler.random.shuffle(parts)
        try:
            for event, stamps in parts:
                whole = Event.of({**event.attributes, **stamps.attributes()}, event.payload, event.form)
                answer = self._applier.apply(whole, stamps)
                reply = of_stale(answer) if isinstance(answer, Stale) else of_answer(answer)
                results.append(
                    Result(
                        partition=stamps.channel.partition,
                        position=stamps.pos,
                        status=reply.status,
                        answer=msgspec.Raw(reply.body),
                    )
                )
        except (InboxError, DiedError):
            return None
        return HttpAnswer(207, [], encode_results(results))


class OutsideReceiver:
    """`ext`: one event at a time, in steps, so that deliveries of many processes overlap.

    Attributes:
        breathe_seconds: how long the next step takes.
    """

    def __init__(self, handler: Handler, inbox: SimulatedInbox) -> None:
        self.temper = handler.temper
        self._handler = handler
        self._inbox = inbox
        self.breathe_seconds: Callable[[], float] = lambda: handler.random.random() * 0.3

    async def serve(self, content_type: str, body: bytes) -> HttpAnswer | None:
        if (closed := front_door(self.temper)) is not None:
            return closed
        try:
            if content_type == FENCE:
                return _answer(deliver(Applier(self._inbox, _ended(RuntimeError())), content_type, body))
            outcome = await self.apply(decode_structured(body), read_stamps(body))
            return _answer(of_stale(outcome) if isinstance(outcome, Stale) else of_answer(outcome))
        except InboxError as error:
            return _answer(of_problem(Overloaded(str(error), retry_after_seconds=1)))
        except DiedError:
            return None

    def fence(self, stamps: FenceStamps) -> AnswerDocument | Stale:
        """Take a fence that came over the bus. Raises InboxError."""
        return Applier(self._inbox, _ended(RuntimeError())).fence(stamps)

    async def apply(self, event: Event, stamps: Stamps) -> AnswerDocument | Stale:
        """`Applier.apply`, with time to breathe before and after the effect. Raises InboxError, DiedError."""
        transaction = await self._begin(stamps.channel, event.key)
        try:
            decision = decide(memory_of(transaction), stamps)
            if decision.ruling != "apply":
                transaction.rollback()
                return self._settle(event, stamps)
            await self._breathe()
            self._handler.try_it(event.key)
            self._handler.effect(stamps, event.key)
            await self._breathe()
            if self._handler.random.random() < self.temper.dies:
                raise DiedError
            done = conclude(decision.memory, stamps, applied=True)
            transaction.record(done)
            transaction.commit()
            return self._settle(event, stamps)  # what is applied is a duplicate by now
        except (RuntimeError, LockLost, Reject) as error:
            transaction.rollback()
            return self._settle(event, stamps, error)
        except DiedError:
            transaction.abandon()
            raise
        finally:
            transaction.rollback()

    def _settle(self, event: Event, stamps: Stamps, error: Exception | None = None) -> AnswerDocument | Stale:
        """The answer where the handler has run or is not to run, by the real `Applier`."""
        ended = _ended(error or RuntimeError("the handler must not run again"))
        return Applier(self._inbox, ended).apply(event, stamps)

    async def _begin(self, channel: ChannelId, key: str) -> SimulatedTransaction:
        if not self._inbox.snapshots:
            return self._inbox.begin(channel, key)
        snapshot = tables.read(self._inbox.connection, channel, key)
        await self._breathe()
        return self._inbox.begin(channel, key, snapshot)

    async def _breathe(self) -> None:
        await asyncio.sleep(self.breathe_seconds())


class PlainReceiver:
    """`plain` and `pos`: a web application without the library.

    Args:
        careful: the three lines of `pos`.
    """

    def __init__(self, handler: Handler, *, careful: bool) -> None:
        self.temper = handler.temper
        self._handler = handler
        self._careful = careful
        self._last: dict[tuple[int, str], tuple[int, int]] = {}

    async def serve(self, content_type: str, body: bytes) -> HttpAnswer | None:
        if (closed := front_door(self.temper)) is not None:
            return closed
        if content_type == STRUCTURED:
            items = [(decode_structured(body), read_stamps(body))]
        elif content_type == BATCH:
            items = list(zip(decode_batch(body, 1000), read_batch_stamps(body), strict=True))
        else:
            return HttpAnswer(415, [], b"")
        try:
            for event, stamps in items:
                self._take(event, stamps)
        except DiedError:
            return None
        except Reject:
            return HttpAnswer(422, [], b"")
        except RuntimeError:
            return HttpAnswer(500, [], b"")
        return HttpAnswer(200, [], b"")

    def _take(self, event: Event, stamps: Stamps) -> None:
        place, here = (stamps.channel.partition, event.key), (stamps.generation, stamps.pos)
        if self._careful and here <= self._last.get(place, (0, 0)):
            return
        self._handler.try_it(event.key)
        self._last[place] = here
        self._handler.effect(stamps, event.key)


def _stamps_of(event: Event) -> Stamps:
    """The stamps that `deliver` put on the event for the handler."""
    return read_stamps(event.head)


def _answer(reply: Reply) -> HttpAnswer:
    headers = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
    return HttpAnswer(reply.status, headers, reply.body)


def _ended(error: Exception) -> Call:
    """A handler that has run before, and how it ended."""

    def call(event: Event, transaction: object) -> None:
        raise error

    return call
