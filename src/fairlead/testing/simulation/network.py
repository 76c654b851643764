# SPDX-License-Identifier: Apache-2.0
"""The network between relays and the receiver: it loses, repeats and delays, in both directions.

`Wire` stands in for `drivers.http_client.client.HttpClient`, so all above it is the real transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random

from fairlead.core.address import Endpoint
from fairlead.drivers.http_client.message import HttpAnswer, Route
from fairlead.errors import SendFailed
from fairlead.testing.simulation.loop import Process, SimulatedLoop

Serve = Callable[[str, bytes], Awaitable[HttpAnswer | None]]


@dataclass(slots=True)
class Weather:
    """How bad the network is; probabilities.

    Attributes:
        lost_request, lost_answer: it never arrives.
        repeated: a proxy sends the same bytes again, whenever it likes.
        late: a request or an answer takes longer than its relay waits.
        slow_seconds: how late that is at most.
        noise: something in between answers in the receiver's place.
    """

    lost_request: float = 0.04
    lost_answer: float = 0.08
    repeated: float = 0.08
    late: float = 0.06
    slow_seconds: float = 4.0
    noise: float = 0.04


CALM = Weather(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
GONE = Weather(1.0)
NOISES = (
    HttpAnswer(500, [], b""),
    HttpAnswer(502, [], b"<html>bad gateway</html>"),
    HttpAnswer(302, [(b"location", b"http://elsewhere.example/")], b""),
    HttpAnswer(404, [], b""),
    HttpAnswer(409, [], b"{}"),
    HttpAnswer(503, [(b"retry-after", b"1")], b""),
    HttpAnswer(429, [(b"retry-after", b"1")], b""),
)


class Network:
    """Everything between the relays and one receiver.

    Attributes:
        weather: as it is now.
        serve: the receiver.
        under_way: how many requests are on their way, or at the receiver.
    """

    def __init__(self, loop: SimulatedLoop, random: Random, serve: Serve) -> None:
        self.weather = Weather()
        self.under_way = 0
        self._loop = loop
        self._random = random
        self.serve = serve
        self._process = Process("network")

    def carry(self, content_type: str, body: bytes) -> asyncio.Future[HttpAnswer]:
        """Send a request on its way; the future may never be done."""
        answered = self._loop.create_future()
        self._loop.spawn(self._process, self._travel(content_type, body, answered))
        return answered

    async def _travel(self, content_type: str, body: bytes, answered: asyncio.Future[HttpAnswer]) -> None:
        weather, roll = self.weather, self._random.random
        if roll() < weather.lost_request:
            if roll() < 0.5:
                _fail(answered, "connect", "refused")
            return
        if roll() < weather.repeated:
            self._loop.spawn(self._process, self._repeat(content_type, body))
        answer = await self._deliver(content_type, body, self._delay())
        if answer is None:
            _fail(answered, "reset", "the receiver went away")
        elif roll() < self.weather.noise:
            _answer(answered, self._random.choice(NOISES))
        elif roll() >= self.weather.lost_answer:
            await asyncio.sleep(self._delay())
            _answer(answered, answer)
        elif roll() < 0.5 or not self.weather.late:
            _fail(answered, "reset", "the answer was lost")

    async def _repeat(self, content_type: str, body: bytes) -> None:
        at_most = self.weather.slow_seconds if self._random.random() < 0.5 else 0.3
        await self._deliver(content_type, body, self._random.random() * at_most)

    async def _deliver(self, content_type: str, body: bytes, delay_seconds: float) -> HttpAnswer | None:
        self.under_way += 1
        try:
            await asyncio.sleep(delay_seconds)
            return await self.serve(content_type, body)
        finally:
            self.under_way -= 1

    def _delay(self) -> float:
        roll = self._random.random
        if roll() < self.weather.late:
            return roll() * self.weather.slow_seconds
        return roll() * 0.02


class Wire:
    """One relay's HTTP client on the simulated network."""

    def __init__(self, network: Network) -> None:
        self._network = network

    async def send(self, route: Route, extra: bytes, body: bytes, timeout_seconds: float) -> HttpAnswer:
        """As `HttpClient.send`."""
        answered = self._network.carry(_content_type(extra), body)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await answered
        except TimeoutError:
            raise SendFailed("timeout", f"no answer within {timeout_seconds:g} s") from None

    async def resolve(self, endpoint: Endpoint, *, timeout_seconds: float) -> Sequence[str]:
        """As `HttpClient.resolve`."""
        return [endpoint.host]

    async def close(self) -> None:
        """As `HttpClient.close`."""


def _content_type(extra: bytes) -> str:
    for line in extra.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        if name == b"content-type":
            return value.decode()
    return ""


def _answer(answered: asyncio.Future[HttpAnswer], answer: HttpAnswer) -> None:
    if not answered.done():
        answered.set_result(answer)


def _fail(answered: asyncio.Future[HttpAnswer], kind: str, detail: str) -> None:
    if not answered.done():
        answered.set_exception(SendFailed(kind, detail))  # type: ignore[arg-type]
