# SPDX-License-Identifier: Apache-2.0
"""Getting answers to the relay: to its reply queue, confirmed by the broker; else by POST; else later."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol

from fairlead.core.answer import MOST_ANSWERS
from fairlead.core.signature import ID
from fairlead.drivers.amqp.message import Message, Result
from fairlead.sdk.bus.answer import BusAnswer, body_of, signed, together
from fairlead.sdk.bus.posting import AnswerPost

log = logging.getLogger("fairlead.receiver")

REPLY_QUEUES = "fairlead.acks."
MOST_KEPT = 10_000
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 15.0


class Publishes(Protocol):
    """What is needed of `drivers.amqp.session.Session`."""

    @property
    def up(self) -> bool: ...

    def publish(
        self, exchange: str, routing_key: str, message: Message, done: Callable[[Result], None]
    ) -> None: ...


class _Sent(NamedTuple):
    """Answers in one message that wait for its confirm until `deadline` (loop time)."""

    answers: Sequence[BusAnswer]
    deadline: float


class BusAnswers:
    """Sends answers. One that does not get through costs a duplicate and no event: the relay sends again.

    Answers that are ready at once go in one message where the relay takes that, and one by one elsewhere.
    One for which there is neither a confirm in time nor a POST is kept, and tried again on both ways with
    growing pauses; beyond 10,000 the oldest is dropped. Its calls are for the loop on which it was made.

    Args:
        post: None where the relay's URL is not known.
        confirm_seconds: how long the broker may take to confirm.
    """

    def __init__(
        self,
        session: Publishes,
        post: AnswerPost | None,
        *,
        confirm_seconds: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._session, self._post = session, post
        self._confirm_seconds, self._clock = confirm_seconds, clock
        self._loop = asyncio.get_running_loop()
        self._leaving: list[BusAnswer] = []
        self._sent: dict[int, _Sent] = {}  # in the order of their deadlines
        self._number = 0
        self._failed: deque[BusAnswer] = deque()
        self._open = 0  # answers that have not got through
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._wake = asyncio.Event()
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._timer: asyncio.TimerHandle | None = None
        self._failing = False
        self._poster = ThreadPoolExecutor(1, thread_name_prefix="fairlead-answers")
        self._task = self._loop.create_task(self._try_again())

    def send(self, answer: BusAnswer) -> None:
        """Get an answer to the relay, sooner or later."""
        self._open += 1
        self._none_open.clear()
        if not self._leaving:
            self._loop.call_soon(self._leave)
        self._leaving.append(answer)

    def _leave(self) -> None:
        answers, self._leaving = self._leaving, []
        for group in together(answers):
            if group[0].joins:
                self._publish(group)
            else:
                for answer in group:
                    self._publish((answer,))

    def _publish(self, answers: Sequence[BusAnswer]) -> None:
        """In one message; they are of one reply queue."""
        first = answers[0]
        if first.reply_to is None or not _names_reply_queue(first):
            self._fail(answers, f"the delivery names no reply queue ({REPLY_QUEUES}…)")
            return
        body = body_of(answers)
        headers = signed(first.secret, first.id, body, self._clock())
        message = Message(body, first.content_type, headers.pop(ID), None, headers)
        number = self._number = self._number + 1
        self._sent[number] = _Sent(answers, self._loop.time() + self._confirm_seconds)
        self._session.publish("", first.reply_to, message, partial(self._on_result, number))
        if self._timer is None:
            self._timer = self._loop.call_later(self._confirm_seconds, self._on_late)

    async def close(self, grace_seconds: float = 5.0) -> None:
        """Give what is under way a last chance; then end. Idempotent."""
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await self._none_open.wait()
        if self._timer is not None:
            self._timer.cancel()
        self._task.cancel()
        if self._post is not None:
            self._post.abort()
        await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.to_thread(self._poster.shutdown)
        if self._post is not None:
            self._post.close()

    # -- what becomes of a publish -------------------------------------------------------------------------

    def _on_result(self, number: int, result: Result) -> None:
        sent = self._sent.pop(number, None)
        if sent is None:
            return  # too late: it went another way
        if result.kind != "confirmed":
            self._fail(sent.answers, f"{result.kind}: {result.detail}")
            return
        self._through(len(sent.answers))
        self._pause_seconds = FIRST_PAUSE_SECONDS
        if self._failing:
            self._failing = False
            log.info("Answers reach the reply queue again")

    def _on_late(self) -> None:
        now = self._loop.time()
        self._timer = None
        while self._sent:
            number, sent = next(iter(self._sent.items()))
            if sent.deadline > now:
                self._timer = self._loop.call_at(sent.deadline, self._on_late)
                return
            del self._sent[number]
            self._fail(sent.answers, f"the broker did not confirm it within {self._confirm_seconds:g} s")

    def _fail(self, answers: Sequence[BusAnswer], why: str) -> None:
        if not self._failing:
            self._failing = True
            how = "they are kept and tried again" if self._post is None else "they go by POST to the relay"
            log.warning("Answers do not reach the reply queue: %s; %s", why, how, extra={"id": answers[0].id})
        for answer in answers:
            self._keep(answer)

    def _keep(self, answer: BusAnswer) -> None:
        if self._post is None and not _names_reply_queue(answer):
            self._through(1)  # there is no way to the relay at all: it was said, and the relay sends again
            return
        if len(self._failed) == MOST_KEPT:
            self._failed.popleft()
            self._through(1)
        self._failed.append(answer)
        self._wake.set()

    def _through(self, count: int) -> None:
        self._open -= count
        if self._open == 0:
            self._none_open.set()

    # -- the other way -------------------------------------------------------------------------------------

    async def _try_again(self) -> None:
        while True:
            await self._wake.wait()
            answers = [self._failed.popleft() for _ in range(min(len(self._failed), MOST_ANSWERS))]
            if not self._failed:
                self._wake.clear()
            left = await self._posted(answers)
            self._through(len(answers) - len(left))
            if not left:
                self._pause_seconds = FIRST_PAUSE_SECONDS
                continue
            await asyncio.sleep(self._pause_seconds)
            self._pause_seconds = min(LONGEST_PAUSE_SECONDS, self._pause_seconds * 2)
            if self._session.up:
                self._leaving += left
                self._leave()
            else:
                for answer in left:
                    self._keep(answer)

    async def _posted(self, answers: Sequence[BusAnswer]) -> Sequence[BusAnswer]:
        """Post them; those that did not get through."""
        if self._post is None:
            return answers
        return await self._loop.run_in_executor(self._poster, self._post.post, answers)


def _names_reply_queue(answer: BusAnswer) -> bool:
    """Whether it may go where its delivery says.

    Only where relays listen: that name is not signed, and it is our login that writes there.
    """
    return answer.reply_to is not None and answer.reply_to.startswith(REPLY_QUEUES)
