# SPDX-License-Identifier: Apache-2.0
"""From the publish request's first byte to the delivery's arrival, at 500 events a second."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import uvloop

from benchmarks.bare_work import bare_work
from benchmarks.figures import Figure
from benchmarks.machine import relay

RATE = 500
EVENTS = 5000
ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Arrivals:
    """A sink in this process that notes when each event arrived, by the same clock as the publisher."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                arrived = time.monotonic()
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                event = msgspec.json.decode(await reader.readexactly(length))
                self.at[event["id"]] = arrived
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def publish(url: str, sent: dict[str, float]) -> None:
    """Publish at an even pace over kept connections, whether or not earlier answers have come."""
    parts = urlsplit(url)
    idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(64):
        idle.put_nowait(await asyncio.open_connection(parts.hostname, parts.port))

    async def one(number: int) -> None:
        reader, writer = await idle.get()
        body = (
            f'{{"specversion":"1.0","id":"{number}","source":"/bench","type":"t",'
            f'"subject":"k{number % 1000}","datacontenttype":"application/json",'
            f'"data":{{"pad":"{"x" * 450}"}}}}'
        ).encode()
        head = f"POST /events HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n"
        sent[str(number)] = time.monotonic()
        writer.write(head.encode() + b"Content-Type: application/cloudevents+json\r\n\r\n" + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 202"), answer
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        idle.put_nowait((reader, writer))

    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(EVENTS):
            await asyncio.sleep(max(0.0, begun + number / RATE - time.monotonic()))
            group.create_task(one(number))


async def run(folder: Path) -> list[float]:
    arrivals, sent = Arrivals(), dict[str, float]()
    server = await asyncio.start_server(arrivals.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with relay(folder) as process:
        await asyncio.to_thread(process.subscribe, "bench", f"http://127.0.0.1:{port}/hook")
        await publish(process.url, sent)
        async with asyncio.timeout(60):
            while len(arrivals.at) < EVENTS:
                await asyncio.sleep(0.05)
    server.close()
    return sorted((arrivals.at[id] - at) * 1000 for id, at in sent.items())


def measure(folder: Path) -> list[Figure]:
    with bare_work() as taken:
        delays = uvloop.run(run(folder))
        work = taken()
    p50, p99 = delays[len(delays) // 2], delays[int(len(delays) * 0.99)]
    bare_p50, bare_p99 = work[len(work) // 2], work[int(len(work) * 0.99)]
    detail = (
        f"{EVENTS:,} events at {RATE}/s, from the publish request to the arrival; worst {delays[-1]:.1f} ms; "
        f"{bare_p50:.2f} ms of bare Python took p99 {bare_p99:.1f}, worst {work[-1]:.1f} ms meanwhile"
    )
    return [
        Figure("accept to delivered at 500/s, p50", p50, 5.0, "ms", True, detail),
        Figure("accept to delivered at 500/s, p99", p99, 25.0, "ms", True, detail),
    ]
