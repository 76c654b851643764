# SPDX-License-Identifier: Apache-2.0
"""One delivery against the inbox: rules 1 to 6, the handler, the answer (design, section 6)."""

from __future__ import annotations

import logging

from fairlead.core.answer import CHAIN_URN, AnswerDocument, AnswerResult, Stale
from fairlead.core.chain import Memory, conclude, decide, entered, is_stale
from fairlead.core.event import Event
from fairlead.core.stamps import FenceStamps, Stamps
from fairlead.errors import InboxError, LockLost, Reject
from fairlead.sdk.handler import Call
from fairlead.sdk.inbox import Inbox, Transaction, memory_of

log = logging.getLogger("fairlead.receiver")


class Applier:
    """Applies deliveries one by one; called from many threads at once, each with its own delivery.

    Args:
        call: runs the handler to its end in this thread's name.
    """

    def __init__(self, inbox: Inbox, call: Call) -> None:
        self._inbox = inbox
        self._call = call

    def apply(self, event: Event, stamps: Stamps) -> AnswerDocument | Stale:
        """Take one event: at most one handler call, in one inbox transaction.

        Raises:
            InboxError: the inbox cannot serve now; nothing was stored.
        """
        transaction = self._inbox.begin(stamps.channel, event.key)
        try:
            decision = decide(memory_of(transaction), stamps)
            if decision.verdict == "stale":
                return _stale(transaction)
            if decision.verdict == "apply":
                return self._handle(transaction, decision.memory, event, stamps)
            memory = conclude(decision.memory, stamps)
            transaction.record(memory)
            transaction.commit()
            return _answer(decision.verdict, stamps, event.key, memory)
        finally:
            transaction.rollback()

    def fence(self, stamps: FenceStamps) -> AnswerDocument | Stale:
        """Take a fence delivery: rules 1 and 6 only. Raises as `apply`."""
        transaction = self._inbox.begin(stamps.channel, None)
        try:
            held = memory_of(transaction)
            if is_stale(held, stamps):
                return _stale(transaction)
            transaction.record(conclude(entered(held, stamps), stamps))
            transaction.commit()
        except LockLost:
            transaction.rollback()
            return self.fence(stamps)  # a newer generation came in between: it decides, and that is stale
        finally:
            transaction.rollback()
        return _answer("fence", stamps, None, None)

    def _handle(
        self, transaction: Transaction, memory: Memory, event: Event, stamps: Stamps
    ) -> AnswerDocument | Stale:
        """Rule 5: the handler runs while the key's lock is held, and commits with the inbox or not at all."""
        result: AnswerResult = "failed"
        try:
            done = conclude(memory, stamps, applied=True)
            transaction.record(done)
            self._call(event, transaction)
            transaction.commit()
            return _answer("applied", stamps, event.key, done)
        except Reject as error:
            result, detail = "rejected", str(error) or "the handler rejected the event"
        except LockLost as error:
            detail = str(error)
        except InboxError:
            raise  # the handler is not to blame: no answer, no attempt counted
        except Exception as error:  # whatever a handler raises means "again, later"
            detail = f"the handler raised {type(error).__name__}"
            extra = {"subscription": stamps.channel.subscription, "key": event.key, "position": stamps.pos}
            log.exception("A handler failed; the event will come again", extra=extra)
        transaction.rollback()
        return self._note(result, detail, event, stamps)

    def _note(
        self, result: AnswerResult, detail: str, event: Event, stamps: Stamps
    ) -> AnswerDocument | Stale:
        """Nothing of the handler is stored, but the fence and the floor are: a zombie stays locked out.

        Read again, for another delivery may have applied the event or begun a generation meanwhile.
        """
        transaction = self._inbox.begin(stamps.channel, event.key)
        try:
            decision = decide(memory_of(transaction), stamps)
            if decision.verdict == "stale":
                return _stale(transaction)
            memory = conclude(decision.memory, stamps)
            transaction.record(memory)
            transaction.commit()
        finally:
            transaction.rollback()
        if decision.verdict == "duplicate":
            result, detail = "duplicate", ""
        return _answer(result, stamps, event.key, memory, detail)


def _answer(
    result: AnswerResult, stamps: FenceStamps, key: str | None, memory: Memory | None, detail: str = ""
) -> AnswerDocument:
    return AnswerDocument(
        subscription=stamps.channel.subscription,
        partition=stamps.channel.partition,
        generation=stamps.generation,
        epoch=stamps.epoch,
        seq=stamps.seq if isinstance(stamps, Stamps) else None,
        key=key,
        result=result,
        applied=None if memory is None else memory.settled,
        detail=detail or None,
        type=CHAIN_URN if result == "chain" else None,
    )


def _stale(transaction: Transaction) -> Stale:
    generation, epoch = transaction.fence
    return Stale.of(generation, epoch)
