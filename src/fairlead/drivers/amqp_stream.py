# SPDX-License-Identifier: Apache-2.0
"""The client library's protocol on the event loop's own connections.

Its `AsyncioConnection` brings sockets, TLS and connection attempts of its own; here the loop does these, as
it does for HTTP. What is written in one turn of the loop leaves in one piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pika
import pika.connection
import pika.exceptions
import pika.frame
import pika.spec

_FIRST_BYTES = b"\x01A"  # of a method, and of the protocol that a broker would rather speak


class Stream(pika.connection.Connection, asyncio.Protocol):  # type: ignore[misc]  # the library has no types
    """A protocol for `loop.create_connection`.

    Args:
        on_open, on_error, on_close: given the connection, the last two also the exception; either `on_open`
            and later `on_close`, or `on_error`.
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
        if self.bytes_received == 0 and data[0] not in _FIRST_BYTES:
            error = pika.exceptions.IncompatibleProtocolError("these are no AMQP frames")
            self._terminate_stream(error)  # a web server, say; its first letters would pass for a length
            return
        try:
            self._on_data_available(data)
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

    # -- a message whose properties cannot be read ----------------------------------------------------------

    def _read_frame(self) -> tuple[int, Any]:
        """One frame of what has come.

        A time beyond the year 9999, say, must not end the connection: the broker would deliver the message
        again, and so on for ever. Its properties are empty then, with the reason in `fault`.
        """
        try:
            return super()._read_frame()  # type: ignore[no-any-return]
        except pika.exceptions.InvalidFrameError:
            raise
        except Exception as error:  # whatever a decoder may meet in bytes that others wrote
            data = self._frame_buffer
            if data[0] != pika.spec.FRAME_HEADER:
                raise
            properties = pika.BasicProperties()
            properties.fault = f"{type(error).__name__}: {error}"[:200]
            channel, length = int.from_bytes(data[1:3]), int.from_bytes(data[3:7])
            return length + 8, pika.frame.Header(channel, int.from_bytes(data[11:19]), properties)
