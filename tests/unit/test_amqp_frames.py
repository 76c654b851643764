# SPDX-License-Identifier: Apache-2.0
"""Our own frames against those of the client library: what one writes the other reads as the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pika
import pika.frame
import pika.spec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.drivers.amqp import frames
from fairlead.drivers.amqp.message import Message
from fairlead.drivers.amqp.stream import Stream

FRAME_MAX = 8192
names = st.text(max_size=60)
short = st.none() | names
values = st.recursive(
    st.text(max_size=300)
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.none()
    | st.binary(max_size=50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
headers = st.dictionaries(names, values, max_size=5)
messages = st.builds(
    Message, st.binary(max_size=30_000), content_type=short, message_id=short, reply_to=short, headers=headers
).filter(lambda message: len(repr(message.headers).encode("utf-8", "replace")) < FRAME_MAX // 2)


deliveries = st.builds(frames.Delivered, st.integers(1, 2**63), st.booleans(), names, names)


def read_by_library(data: bytes) -> list[Any]:
    found = []
    while data:
        used, frame = pika.frame.decode_frame(data)
        assert used
        found.append(frame)
        data = data[used:]
    return found


def written_by_library(message: Message, delivered: frames.Delivered) -> bytes:
    """What a broker sends for a message."""
    properties = pika.BasicProperties(
        content_type=message.content_type,
        content_encoding="utf-8",
        headers=dict(message.headers),
        delivery_mode=2,
        priority=3,
        correlation_id="c",
        reply_to=message.reply_to,
        expiration="9",
        message_id=message.message_id,
        timestamp=1795359012,
        app_id="a",
    )
    deliver = pika.spec.Basic.Deliver("ctag", *delivered)
    body, most = message.body, FRAME_MAX - frames.OVERHEAD
    data = pika.frame.Method(7, deliver).marshal() + pika.frame.Header(7, len(body), properties).marshal()
    pieces = [pika.frame.Body(7, body[at : at + most]).marshal() for at in range(0, len(body), most)]
    return bytes(data + b"".join(pieces))


@given(messages, names, names)
def test_the_library_reads_what_we_publish(message: Message, exchange: str, key: str) -> None:
    data = frames.publish_frame(7, exchange, key) + frames.content_frames(7, message, FRAME_MAX)
    method, header, *bodies = read_by_library(data)
    assert (method.channel_number, method.method.exchange, method.method.routing_key) == (7, exchange, key)
    assert method.method.mandatory
    assert not method.method.immediate
    properties = header.properties
    assert header.body_size == len(message.body)
    assert b"".join(body.fragment for body in bodies) == message.body
    assert all(len(body.marshal()) <= FRAME_MAX for body in bodies)
    assert properties.delivery_mode == 2
    assert (properties.content_type, properties.message_id, properties.reply_to) == (
        message.content_type,
        message.message_id,
        message.reply_to,
    )
    assert (properties.headers or {}) == message.headers


def connected() -> Stream:
    stream = Stream(pika.ConnectionParameters(frame_max=FRAME_MAX), print, print, print)
    stream._transport = _Transport(stream)
    return stream


@given(messages, deliveries, st.data())
def test_we_read_what_the_library_writes_in_whatever_pieces_it_comes(
    message: Message, sent: frames.Delivered, data: st.DataObject
) -> None:
    wire = written_by_library(message, sent) * 2
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    got: list[tuple[frames.Delivered, frames.Properties, bytes]] = []

    async def main() -> None:
        stream = connected()
        stream.takers[7] = lambda *content: got.append(content)
        for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
            if end > start:
                stream.data_received(wire[start:end])

    asyncio.run(main())
    assert len(got) == 2
    delivered, properties, body = got[1]
    assert delivered == sent
    assert body == message.body
    assert properties.fault == ""
    assert properties[1:5] == (message.content_type, message.headers, message.reply_to, message.message_id)


@given(st.integers(1, 2**63), st.booleans(), st.booleans())
def test_acknowledgements_are_the_librarys_too(tag: int, multiple: bool, refused: bool) -> None:
    (ack,) = read_by_library(frames.ack_frame(7, tag, multiple))
    assert (ack.channel_number, ack.method.delivery_tag, ack.method.multiple) == (7, tag, multiple)
    word = pika.spec.Basic.Nack(tag, multiple, True) if refused else pika.spec.Basic.Ack(tag, multiple)
    heard: list[tuple[int, bool, bool]] = []

    async def main() -> None:
        stream = connected()
        stream.confirms[7] = lambda *confirm: heard.append(confirm)
        stream.data_received(pika.frame.Method(7, word).marshal())

    asyncio.run(main())
    assert heard == [(tag, multiple, refused)]


@given(st.binary(max_size=200))
def test_properties_that_cannot_be_read_are_a_fault_and_no_exception(junk: bytes) -> None:
    start = (60).to_bytes(2) + bytes(2) + (5).to_bytes(8)
    properties = frames.read_properties(start + junk, 0)
    assert properties.size == 5
    assert isinstance(properties.headers, dict)


@given(st.binary(min_size=1, max_size=200))
def test_bytes_that_are_no_frames_end_the_connection_and_nothing_else(junk: bytes) -> None:
    ends: list[BaseException] = []

    async def main() -> None:
        stream = Stream(pika.ConnectionParameters(), print, lambda _, error: ends.append(error), print)
        transport = _Transport(stream)
        stream.connection_made(transport)
        stream.data_received(junk)
        transport.abort()

    asyncio.run(main())
    assert len(ends) == 1


class _Transport(asyncio.Transport):
    """Takes everything, and ends when it is told to."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream: Stream | None = stream

    def write(self, data: Any) -> None: ...

    def abort(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream.connection_lost(None)


@pytest.mark.parametrize(
    "wrong",
    [
        Message(b"", message_id="x" * 256),
        Message(b"", reply_to="\u20ac" * 86),
        Message(b"", headers={"x" * 256: "a"}),
        Message(b"", headers={"a": object()}),
        Message(b"", headers={"a": 2**64}),
        Message(b"", headers={"a": "x" * FRAME_MAX}),
    ],
)
def test_what_amqp_has_no_place_for_is_named(wrong: Message) -> None:
    with pytest.raises(ValueError, match=r"AMQP|possible"):
        frames.content_frames(1, wrong, FRAME_MAX)
    with pytest.raises(ValueError, match="AMQP"):
        frames.publish_frame(1, "x" * 256, "k")


def test_a_body_before_its_header_ends_the_connection() -> None:
    wire = written_by_library(Message(b"x" * 10), frames.Delivered(1, False, "x", "k"))
    body = pika.frame.Body(7, b"x" * 10).marshal()
    ended: list[object] = []

    async def main() -> None:
        stream = connected()
        stream._terminate_stream = ended.append
        stream.takers[7] = print
        stream.data_received(wire[: wire.index(b"\xce") + 1] + body)

    asyncio.run(main())
    assert len(ended) == 1
