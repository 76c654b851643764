# SPDX-License-Identifier: Apache-2.0
"""One delivery against the inbox: rules 1 to 6, the handler, the answer (design, section 6)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fairlead.core.answer import CHAIN_URN, MOST_DETAIL_LETTERS, AnswerDocument, AnswerResult, Stale
from fairlead.core.chain import Memory, Ruling, conclude, decide, entered, is_stale
from fairlead.core.event import Event
from fairlead.core.stamps import FenceStamps, Stamps
from fairlead.errors import InboxError, LockLost, Reject
from fairlead.sdk.inbox.port import Inbox, Together, Transaction, memory_of, together
from fairlead.sdk.receiving.handler import Call

log = logging.getLogger("fairlead.receiver")

MOST_AT_ONCE = 64
Answered = AnswerDocument | Stale
_RESULTS: dict[Ruling, AnswerResult] = {"apply": "applied", "duplicate": "duplicate", "chain": "chain"}


class Application:
    """One delivery in its transaction: `decide`, `handle` if it is `due`; the commit is others' work.

    Attributes:
        due: the handler is to run.
        answer: what is answered once the transaction is committed; None for what the handler did not take.
    """

    __slots__ = ("answer", "due", "event", "refusal", "stamps", "transaction")

    def __init__(self, event: Event | None, stamps: FenceStamps, transaction: Transaction) -> None:
        self.event, self.stamps, self.transaction = event, stamps, transaction
        self.due = False
        self.answer: Answered | None = None
        self.refusal: tuple[AnswerResult, str] = ("failed", "")

    def decide(self) -> None:
        """Rules 1 to 4, and what is recorded by rule 6."""
        held = memory_of(self.transaction)
        if is_stale(held, self.stamps):
            self.answer = Stale.of(held.generation, held.epoch)
            return
        if self.event is None or not isinstance(self.stamps, Stamps):
            self.transaction.record(conclude(entered(held, self.stamps), self.stamps))
            self.answer = _answer("fence", self.stamps, None, None)
            return
        decision = decide(held, self.stamps)
        self.due = decision.ruling == "apply"
        memory = conclude(decision.memory, self.stamps, applied=self.due)
        self.transaction.record(memory)
        self.answer = _answer(_RESULTS[decision.ruling], self.stamps, self.event.key, memory)

    def handle(self, inbox: Together, call: Call) -> bool:
        """Rule 5: run the handler while the key's lock is held; whether it took the event.

        Raises:
            InboxError: the handler is not to blame: no answer, no attempt counted.
        """
        self.due = False
        try:
            if self.event is not None:
                call(self.event, self.transaction)
            inbox.handled(self.transaction)
        except Reject as error:
            self.refuse("rejected", str(error) or "the handler rejected the event")
        except LockLost as error:
            self.refuse("failed", str(error))
        except InboxError:
            self.transaction.rollback()
            raise
        except Exception as error:  # whatever a handler raises means "again, later"
            log.exception("A handler failed; the event will come again", extra=self._extra)
            self.refuse("failed", f"the handler raised {type(error).__name__}")
        return self.answer is not None

    @property
    def _extra(self) -> dict[str, object]:
        key = None if self.event is None else self.event.key
        position = getattr(self.stamps, "pos", None)
        return {"subscription": self.stamps.channel.subscription, "key": key, "position": position}

    def refuse(self, result: AnswerResult, detail: str) -> None:
        """Nothing of the handler is stored; of what it said goes into the answer what JSON can hold."""
        said = detail.encode(errors="replace").decode()[:MOST_DETAIL_LETTERS]
        self.answer, self.refusal = None, (result, said)
        self.transaction.rollback()


class Applier:
    """Applies deliveries; called from many threads at once, each with its own.

    Args:
        call: runs the handler to its end in this thread's name.

    Attributes:
        most_at_once: deliveries that may be begun together.
    """

    def __init__(self, inbox: Inbox, call: Call) -> None:
        self._inbox, self._together = inbox, together(inbox)
        self.most_at_once = MOST_AT_ONCE if isinstance(inbox, Together) else 1
        self._call = call

    def apply(self, event: Event, stamps: Stamps) -> Answered:
        """Take one event: at most one handler call, in one inbox transaction.

        Raises:
            InboxError: the inbox cannot serve now; nothing was stored.
        """
        return self._alone(event, stamps)

    def fence(self, stamps: FenceStamps) -> Answered:
        """Take a fence delivery: rules 1 and 6 only. Raises as `apply`."""
        return self._alone(None, stamps)

    def _alone(self, event: Event | None, stamps: FenceStamps) -> Answered:
        key = None if event is None else event.key
        one = Application(event, stamps, self._inbox.begin(stamps.channel, key))
        try:
            one.decide()
            if not one.due or self.handle(one):
                (error,) = self.commit([one])
                if error is not None:
                    raise error
        finally:
            one.transaction.rollback()
        return self.answer(one)

    # -- several at once, of keys that differ --------------------------------------------------------------

    def begin(self, wanted: Sequence[tuple[Event | None, FenceStamps]]) -> list[Application | InboxError]:
        """Begin and decide deliveries in one go; an error in the place of what cannot begin now."""
        places = [(stamps.channel, None if event is None else event.key) for event, stamps in wanted]
        begun: list[Application | InboxError] = []
        for (event, stamps), transaction in zip(wanted, self._together.begin_all(places), strict=True):
            if isinstance(transaction, InboxError):
                begun.append(transaction)
                continue
            one = Application(event, stamps, transaction)
            one.decide()
            begun.append(one)
        return begun

    def handle(self, one: Application) -> bool:
        """See `Application.handle`."""
        return one.handle(self._together, self._call)

    def waited_seconds(self, one: Application) -> float:
        """How long its handler has waited for others."""
        return self._together.waited_seconds(one.transaction)

    def commit(self, applications: Sequence[Application]) -> list[InboxError | None]:
        """Store what was decided and handled, in one go; an error in the place of what was not stored.

        One that has lost its lock is refused; its `answer` says so.
        """
        errors: list[InboxError | None] = []
        transactions = [one.transaction for one in applications if not isinstance(one.answer, Stale)]
        stored = iter(self._together.commit_all(transactions))
        for one in applications:
            if isinstance(one.answer, Stale):
                one.transaction.rollback()
                errors.append(None)
                continue
            error = next(stored)
            if isinstance(error, LockLost):
                one.refuse("failed", str(error))
                error = None
            errors.append(error)
        return errors

    def answer(self, one: Application) -> Answered:
        """What to answer, once it was handled and, if it was taken, committed. Raises as `apply`.

        Of what was refused nothing is stored, but the fence and the floor are: a zombie stays locked out.
        Read again, for another delivery may have applied the event or begun a generation meanwhile.
        """
        if one.answer is not None:
            return one.answer
        if one.event is None or not isinstance(one.stamps, Stamps):
            return self.fence(one.stamps)  # a newer generation came in between: it decides, and that is stale
        transaction = self._inbox.begin(one.stamps.channel, one.event.key)
        try:
            decision = decide(memory_of(transaction), one.stamps)
            if decision.ruling == "stale":
                return Stale.of(*transaction.fence)
            memory = conclude(decision.memory, one.stamps)
            transaction.record(memory)
            transaction.commit()
        finally:
            transaction.rollback()
        result, detail = one.refusal
        if decision.ruling == "duplicate":
            result, detail = "duplicate", ""
        return _answer(result, one.stamps, one.event.key, memory, detail)


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
