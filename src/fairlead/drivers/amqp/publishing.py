# SPDX-License-Identifier: Apache-2.0
"""Publishing to one exchange over one connection, with confirms.

Each exchange has a channel of its own: a broker closes the channel of whoever publishes to an exchange that
is missing or forbidden, and that must not take others' messages with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from fairlead.core.target_health import REFUSED
from fairlead.drivers.amqp.channel import Channel
from fairlead.drivers.amqp.connection import Wire
from fairlead.drivers.amqp.frames import content_frames, publish_frame
from fairlead.drivers.amqp.message import CONFIRMED, Message, Result
from fairlead.errors import BrokerFailed

Done = Callable[[Result], object]


_REFUSING_SECONDS = 1.0
_MUTE_SECONDS = 60.0
_MOST_WAYS = 1024


class _Pending(NamedTuple):
    """A publish without a result."""

    routing_key: str
    message: Message
    done: Done


class Publishing:
    """A confirming channel; what is published before it is open waits for it, in order."""

    def __init__(self, wire: Wire, exchange: str) -> None:
        self._wire = wire
        self._exchange = exchange
        self._channel: Channel | None = None
        self._waiting: list[_Pending] = []
        self._outstanding: dict[int, _Pending] = {}
        self._oldest = 1  # no publish below this tag is outstanding
        self._last = 0
        self._ways: dict[str, bytes] = {}  # by routing key: the method frame
        self._returned: dict[tuple[str, str | None], tuple[int, str]] = {}
        self._loop = asyncio.get_running_loop()
        self._refusing_since: float | None = None
        self._heard_at = 0.0  # when the broker spoke last of what was published, or had nothing to say
        self._opening = self._loop.create_task(self._open())
        self.ended = False

    @property
    def spent(self) -> bool:
        """Whether the next message is for another channel: it ended, or is of no use any more.

        A channel that published to a quorum queue without a leader goes on to refuse when there is one again
        (RabbitMQ 3.10); a new one does not. And on one that confirms nothing for a minute what was published
        would be kept without an end.
        """
        now = self._loop.time()
        refuses = self._refusing_since is not None and now - self._refusing_since > _REFUSING_SECONDS
        if self._outstanding:
            return self.ended or now - self._heard_at > _MUTE_SECONDS
        return self.ended or refuses

    def publish(self, routing_key: str, message: Message, done: Done) -> None:
        """Hand over one message; `done` is called once, later. Not to be called when `spent`."""
        pending = _Pending(routing_key, message, done)
        if self._channel is None:
            self._waiting.append(pending)
        else:
            self._send(self._channel, pending)

    def end(self, detail: str) -> None:
        """Nothing comes any more: what has no result is lost. Idempotent."""
        if self.ended:
            return
        self.ended = True
        self._opening.cancel()
        if self._channel is not None:
            self._channel.close()
        lost = [*self._outstanding.values(), *self._waiting]
        self._outstanding.clear()
        self._waiting.clear()
        result = Result("lost", detail)
        for pending in lost:
            pending.done(result)

    async def _open(self) -> None:
        try:
            channel = await self._wire.channel()
            channel.raw.add_on_return_callback(self._on_return)
            channel.confirm(self._on_confirm)
            await channel.ask(lambda done: channel.raw.confirm_delivery(_elsewhere, done))
        except BrokerFailed as failure:
            self.end(failure.detail)
            return
        channel.over.add_done_callback(lambda over: self.end(over.result().detail))
        self._channel = channel
        waiting, self._waiting = self._waiting, []
        for pending in waiting:
            self._send(channel, pending)

    def _send(self, channel: Channel, pending: _Pending) -> None:
        try:
            frames = self._frames(channel, pending)
        except ValueError as error:
            result = Result("impossible", f"AMQP cannot carry the message: {error}")
            self._loop.call_soon(pending.done, result)
            return
        if not channel.is_open:
            result = Result("lost", f"the channel to {self._wire.where} ended")
            self._loop.call_soon(pending.done, result)
            return
        channel.send(frames)
        if not self._outstanding:
            self._heard_at = self._loop.time()
        self._last += 1
        self._outstanding[self._last] = pending

    def _frames(self, channel: Channel, pending: _Pending) -> bytes:
        way = self._ways.get(pending.routing_key)
        if way is None:
            if len(self._ways) >= _MOST_WAYS:
                self._ways.clear()
            way = publish_frame(channel.number, self._exchange, pending.routing_key)
            self._ways[pending.routing_key] = way
        return way + content_frames(channel.number, pending.message, channel.frame_max)

    # -- what the broker says ------------------------------------------------------------------------------

    def _on_return(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        """Comes before the confirm of the same message.

        It names no tag. Every message outstanding now that is not told apart from it counts as returned: at
        worst one is published twice, and none is taken for delivered that was not.
        """
        way = f"bound to exchange {self._exchange!r} by the routing key {method.routing_key!r}"
        reason = f"no queue is {way} ({method.reply_code} {method.reply_text})"
        self._returned[(method.routing_key, properties.message_id)] = (self._last, reason)

    def _on_confirm(self, tag: int, multiple: bool, refused: bool) -> None:
        self._heard_at = self._loop.time()
        if not multiple:
            pending = self._outstanding.pop(tag, None)
            if pending is not None:
                self._settle(tag, pending, refused)
            return
        newest = min(tag, self._last)  # whatever number a broker may name
        oldest, self._oldest = self._oldest, max(self._oldest, newest + 1)
        for each in range(oldest, newest + 1):
            pending = self._outstanding.pop(each, None)
            if pending is not None:
                self._settle(each, pending, refused)

    def _settle(self, tag: int, pending: _Pending, refused: bool) -> None:
        if refused:
            self._refusing_since = self._refusing_since or self._loop.time()
            pending.done(Result("refused", f"{self._wire.where} {REFUSED}"))
            return
        self._refusing_since = None
        if not self._returned:
            pending.done(CONFIRMED)
        else:
            last, reason = self._returned.get((pending.routing_key, pending.message.message_id), (0, ""))
            pending.done(CONFIRMED if tag > last else Result("unroutable", reason))
            if not self._outstanding:
                self._returned.clear()


def _elsewhere(_frame: Any) -> None:
    """The library wants somebody for confirms; `Channel.confirm` has one."""
