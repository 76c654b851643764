# SPDX-License-Identifier: Apache-2.0
"""The bare AMQP client as the yardstick: pika 1.4, 256 unconfirmed at once, 600-byte bodies, one ack each.

    python -m benchmarks.bare_amqp URL QUEUE SECONDS

Two processes, as relay and receiver are: this one publishes (persistent, mandatory, confirmed) for so many
seconds, its child consumes until it has everything. Prints messages a second, first publish to last ack.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pika
import uvloop
from pika.adapters.asyncio_connection import AsyncioConnection

BODY = b"x" * 600
WINDOW = 256
QUORUM = {"x-queue-type": "quorum", "x-single-active-consumer": True}


async def _channel(url: str) -> Any:
    ready = asyncio.get_running_loop().create_future()
    AsyncioConnection(
        pika.URLParameters(url),
        on_open_callback=lambda connection: connection.channel(on_open_callback=ready.set_result),
        on_open_error_callback=lambda _, error: ready.set_exception(error),
    )
    return await ready


async def _call(start: Callable[[Callable[[Any], None]], object]) -> None:
    answered = asyncio.get_running_loop().create_future()
    start(answered.set_result)
    await answered


async def publish(url: str, queue: str, seconds: float) -> tuple[int, float]:
    """Publish for so long; how many were confirmed, and when the first one was published."""
    channel = await _channel(url)
    await _call(lambda done: channel.queue_declare(queue, durable=True, arguments=QUORUM, callback=done))
    properties = pika.BasicProperties(delivery_mode=2, content_type="application/cloudevents+json")
    over = asyncio.get_running_loop().create_future()
    begun = time.monotonic()
    end, sent, confirmed = begun + seconds, 0, 0

    def fill() -> None:
        nonlocal sent
        while sent - confirmed < WINDOW and time.monotonic() < end:
            channel.basic_publish("", queue, BODY, properties, mandatory=True)
            sent += 1
        if sent == confirmed and not over.done():
            over.set_result(None)

    def on_confirm(frame: Any) -> None:
        nonlocal confirmed
        method = frame.method
        assert method.NAME == "Basic.Ack", method
        confirmed = max(confirmed, method.delivery_tag) if method.multiple else confirmed + 1
        fill()

    await _call(lambda done: channel.confirm_delivery(on_confirm, done))
    fill()
    await over
    return sent, begun


async def consume(url: str, queue: str) -> None:
    """Acknowledge everything; print when the last one was, each time nothing has come for a while."""
    channel = await _channel(url)
    await _call(lambda done: channel.basic_qos(prefetch_count=WINDOW, callback=done))
    taken, last_at = 0, 0.0

    def take(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        nonlocal taken, last_at
        channel.basic_ack(method.delivery_tag)
        taken, last_at = taken + 1, time.monotonic()

    await _call(lambda done: channel.basic_consume(queue, take, callback=done))
    told = 0
    while True:
        await asyncio.sleep(0.05)
        if taken != told and time.monotonic() - last_at > 0.2:
            told = taken
            print(taken, last_at, flush=True)


def main(url: str, queue: str, seconds: float) -> float:
    """Messages a second."""
    uvloop.run(publish(url, queue, 0.0))  # the queue is there
    command = [sys.executable, "-m", "benchmarks.bare_amqp", url, queue]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as consumer:
        assert consumer.stdout is not None
        try:
            sent, begun = uvloop.run(publish(url, queue, seconds))
            for line in consumer.stdout:
                taken, last_at = line.split()
                if int(taken) == sent:
                    break
        finally:
            consumer.kill()
    return sent / (float(last_at) - begun)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        uvloop.run(consume(*sys.argv[1:]))
    else:
        print(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
