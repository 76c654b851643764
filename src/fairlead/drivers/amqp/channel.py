# SPDX-License-Identifier: Apache-2.0
"""One channel of a connection: questions, and its end. A broker refuses by closing the channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pika.exceptions

from fairlead.drivers.amqp import failures as amqp_failures
from fairlead.drivers.amqp.stream import Confirms, Stream, Taker
from fairlead.errors import BrokerFailed

ANSWER_SECONDS = 10.0
"""How long a broker may take to answer what it is asked on a channel."""

Start = Callable[[Callable[[Any], None]], object]
"""Asks, and has the answer's frame given to its argument."""


class Channel:
    """`open_channel` makes it.

    Attributes:
        raw: the library's own, for what has no answer.
        over: done, with the reason, when it is closed, by whomever.
    """

    def __init__(self, stream: Stream, where: str) -> None:
        self.where = where
        self.raw: Any = None
        self._stream = stream
        self._taker: Taker | None = None
        self._confirms: Confirms | None = None
        self.over: asyncio.Future[BrokerFailed] = asyncio.get_running_loop().create_future()

    @property
    def is_open(self) -> bool:
        return bool(self.raw.is_open) and not self.over.done()

    @property
    def number(self) -> int:
        return int(self.raw.channel_number)

    @property
    def frame_max(self) -> int:
        """The longest frame that was agreed upon, in bytes."""
        return int(self._stream.params.frame_max)

    def send(self, data: bytes) -> None:
        """Send whole frames; not to be called when it is not open."""
        self._stream.send(data)

    def take(self, taker: Taker) -> None:
        """Give all that is delivered to `taker`."""
        self._taker = self._stream.takers[self.number] = taker

    def confirm(self, confirms: Confirms) -> None:
        """Give all confirms to `confirms`."""
        self._confirms = self._stream.confirms[self.number] = confirms

    async def ask(self, start: Start) -> Any:
        """The frame that the broker answers.

        Raises:
            BrokerFailed: it says no, or nothing in time.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def on_answer(frame: Any) -> None:
            if not answer.done():
                answer.set_result(frame)

        try:
            start(on_answer)
        except pika.exceptions.AMQPError as error:
            raise amqp_failures.on_channel(error, self.where) from None
        await asyncio.wait((answer, self.over), timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if self.over.done():
            failure = self.over.result()
            raise BrokerFailed(failure.kind, failure.detail)
        raise BrokerFailed("away", f"{self.where} did not answer within {ANSWER_SECONDS:.0f} s")

    def end(self, failure: BrokerFailed) -> None:
        """It is of no more use, for this reason. Idempotent."""
        if self.over.done():
            return
        self.over.set_result(failure)
        takers, confirms = self._stream.takers, self._stream.confirms
        if self._taker is not None and takers.get(self.number) is self._taker:
            del takers[self.number]
        if self._confirms is not None and confirms.get(self.number) is self._confirms:
            del confirms[self.number]

    def close(self) -> None:
        """Close it; idempotent."""
        self.end(BrokerFailed("away", f"the channel to {self.where} was closed"))
        if self.raw.is_open:
            self.raw.close()


async def open_channel(stream: Stream, where: str, why: Callable[[BaseException], BrokerFailed]) -> Channel:
    """A new channel of an open connection.

    Args:
        why: says why it was closed.

    Raises:
        BrokerFailed: it was not opened.
    """
    channel = Channel(stream, where)

    def start(opened: Callable[[Any], None]) -> None:
        channel.raw = stream.channel(on_open_callback=opened)
        channel.raw.add_on_close_callback(lambda _, reason: channel.end(why(reason)))

    await channel.ask(start)
    return channel
