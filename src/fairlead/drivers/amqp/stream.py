# SPDX-License-Identifier: Apache-2.0
"""The client library's protocol on the event loop's own connections.

Its `AsyncioConnection` brings sockets, TLS and connection attempts of its own; here the loop does these, as
it does for HTTP. What is written in one turn of the loop leaves in one piece. Frames that come with every
message are handled here, all others by the library.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pika
import pika.connection
import pika.exceptions
import pika.frame

from fairlead.drivers.amqp import frames

Taker = Callable[[frames.Delivered, frames.Properties, bytes], object]
Confirms = Callable[[int, bool, bool], object]


class Stream(pika.connection.Connection, asyncio.Protocol):  # type: ignore[misc]  # the library has no types
    """A protocol for `loop.create_connection`.

    Args:
        on_open, on_error, on_close: given the connection, the last two also the exception; either `on_open`
            and later `on_close`, or `on_error`.

    Attributes:
        takers: by channel, who gets what is delivered.
        most_body_bytes: of a greater body nothing is kept.
        confirms: by channel, who gets confirms: tag, whether for all up to it, whether it is a refusal.
    """

    def __init__(
        self,
        parameters: pika.ConnectionParameters,
        on_open: Callable[[Any], object],
        on_error: Callable[[Any, BaseException], object],
        on_close: Callable[[Any, BaseException], object],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._rest = b""
        self._contents: dict[int, _Content] = {}
        self.most_body_bytes: int | None = None
        self.takers: dict[int, Taker] = {}
        self.confirms: dict[int, Confirms] = {}
        super().__init__(parameters, on_open, on_error, on_close, internal_connection_workflow=False)

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    # -- what the loop calls -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._on_stream_connected()

    def data_received(self, data: bytes) -> None:
        first = self.bytes_received == 0
        self.bytes_received += len(data)
        try:
            if first and data[0] != frames.METHOD:
                raise pika.exceptions.IncompatibleProtocolError("a web server, say, or another AMQP")
            self._read(data)
        except Exception as error:  # what came is not AMQP; or a defect, which must not pass unseen
            if not isinstance(error, pika.exceptions.AMQPError):
                context = {"message": "AMQP data could not be handled", "exception": error}
                self._loop.call_exception_handler(context)
            self._terminate_stream(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self.bytes_received == 0 and self._error is None:
            self._set_connection_state(self.CONNECTION_CLOSING)  # else it passes for another protocol
        if self._error is None or exc is not None:
            self._on_stream_terminated(pika.exceptions.StreamLostError(repr(exc)))
        else:
            self._on_stream_terminated(None)

    # -- what the library calls ----------------------------------------------------------------------------

    def _adapter_connect_stream(self) -> None:
        raise NotImplementedError("the loop connects")

    def _adapter_disconnect_stream(self) -> None:
        self._flush()
        if self._transport is not None:
            self._transport.abort()

    def _adapter_emit_data(self, data: bytes) -> None:
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(data)

    def _adapter_call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay, callback)

    def _adapter_remove_timeout(self, timeout_id: asyncio.TimerHandle) -> None:
        timeout_id.cancel()

    def _adapter_add_callback_threadsafe(self, callback: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(callback)

    def _flush(self) -> None:
        if self._unsent and self._transport is not None:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    # -- frames --------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send whole frames, behind those that were sent before."""
        self._adapter_emit_data(data)

    def _read(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at, length = 0, len(data)
        while length - at >= frames.OVERHEAD and self._transport is not None:
            kind, channel, size = frames.FRAME.unpack_from(data, at)
            end = at + frames.OVERHEAD + size
            if size > self.params.frame_max:
                raise pika.exceptions.InvalidFrameError("a frame is longer than agreed")
            if end > length:
                break
            if data[end - 1] != frames.END[0]:
                raise pika.exceptions.InvalidFrameError("a frame has no end")
            if not self._take(kind, channel, data, at + frames.FRAME.size, end - 1):
                _, frame = pika.frame.decode_frame(data[at:end])
                self._process_frame(frame)
            at = end
        self._rest = data[at:]

    def _take(self, kind: int, channel: int, data: bytes, at: int, end: int) -> bool:
        """Handle a frame that comes with every message; False for one that is the library's."""
        if kind == frames.METHOD:
            number = int.from_bytes(data[at : at + 4])
            if number == frames.DELIVER and channel in self.takers:
                self._contents[channel] = _Content(frames.read_deliver(data, at + 4))
            elif number in (frames.ACK, frames.NACK) and channel in self.confirms:
                tag, multiple = frames.read_confirm(data, at + 4)
                self.confirms[channel](tag, multiple, number == frames.NACK)
            else:
                return False
            return True
        content = self._contents.get(channel)
        if content is None:
            return False
        if kind == frames.HEADER:
            content.properties = frames.read_properties(data, at)
            content.missing = content.properties.size
        elif kind == frames.BODY:
            if content.properties is None:
                raise pika.exceptions.InvalidFrameError("a body comes before its header")
            content.missing -= end - at
            if self.most_body_bytes is None or content.properties.size <= self.most_body_bytes:
                content.pieces.append(data[at:end])
        else:
            return False
        if content.missing <= 0 and content.properties is not None:
            del self._contents[channel]
            take = self.takers.get(channel)
            if take is not None:
                take(content.delivered, self._judged(content.properties), b"".join(content.pieces))
        return True

    def _judged(self, properties: frames.Properties) -> frames.Properties:
        if self.most_body_bytes is None or properties.size <= self.most_body_bytes:
            return properties
        fault = f"the body has {properties.size} bytes; {self.most_body_bytes} are taken"
        return properties._replace(fault=fault)


class _Content:
    """A message of which not all has come."""

    __slots__ = ("delivered", "missing", "pieces", "properties")

    def __init__(self, delivered: frames.Delivered) -> None:
        self.delivered = delivered
        self.properties: frames.Properties | None = None
        self.pieces: list[bytes] = []
        self.missing = 0
