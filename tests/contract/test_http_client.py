# SPDX-License-Identifier: Apache-2.0
"""The HTTP client keeps its contract, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from fairlead.errors import SendFailed
from fairlead.testing.http_client_bounds import MANY_CONNECTIONS
from fairlead.testing.http_client_contract import HttpClientContract
from fairlead.testing.http_peer import NO_CONTENT, answering, closing, peer


@pytest.fixture(autouse=True, scope="module")
def enough_descriptors() -> Iterator[None]:
    """Two per connection, as client and server live in one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * MANY_CONNECTIONS + 500
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def no_descriptor_free() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(1))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for one in taken:
            os.close(one)


class DescriptorTests(HttpClientContract):
    """What happens where the process has no more descriptors."""

    def test_a_new_connection_takes_the_place_of_the_one_that_was_idle_longest(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            async with (
                peer(answering(NO_CONTENT)) as longest,
                peer(answering(NO_CONTENT)) as other,
                closing(self.client()) as c,
            ):
                for server in (other, longest, other):
                    await c.request("POST", server.url(), timeout_seconds=20)
                    now = loop.time()
                    while loop.time() == now:  # uvloop's goes by milliseconds
                        await asyncio.sleep(0)
                with socket.create_server(("127.0.0.1", 0)) as listener:
                    listener.setblocking(False)
                    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
                    with no_descriptor_free():
                        request = asyncio.create_task(c.request("POST", url, timeout_seconds=20))
                        while not request.done() and not longest.ended:
                            await asyncio.sleep(0)
                        while not request.done() and c.open_connections < 2:
                            await asyncio.sleep(0)
                    assert not request.done(), request.exception()
                    accepted, _ = await loop.sock_accept(listener)
                    with accepted:
                        await loop.sock_sendall(accepted, NO_CONTENT)
                        assert (await request).status == 204
                        assert await loop.sock_recv(accepted, 1 << 16)
                        assert not await loop.sock_recv(accepted, 1)  # it is not kept
                assert (longest.ended, other.ended) == (1, 0)

        with caplog.at_level(logging.WARNING):
            self.run_loop(main())
        (record,) = caplog.records
        assert record.getMessage() == "file descriptors are short: connections are closed after use"

    def test_where_no_connection_is_idle_the_request_fails(self) -> None:
        async def main() -> None:
            async with peer(answering(NO_CONTENT)) as server, closing(self.client()) as c:
                with no_descriptor_free(), pytest.raises(SendFailed, match="Too many open files"):
                    await c.request("POST", server.url(), timeout_seconds=20)

        self.run_loop(main())


class ClientTests(DescriptorTests):
    """What the event loops do differently."""

    def test_a_connection_whose_maker_leaves_as_it_is_made_is_not_waited_for(self) -> None:
        async def main() -> None:
            client = self.client()
            async with peer(answering(NO_CONTENT)) as server:
                for turns in range(10):  # in one of them it is made already, and its maker does not know yet
                    request = asyncio.create_task(client.request("POST", server.url(), timeout_seconds=20))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    request.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await request
                async with asyncio.timeout(20):
                    await client.close()
            assert client.open_connections == 0

        self.run_loop(main())


class TestOnAsyncio(ClientTests):
    pass


class TestOnUvloop(ClientTests):
    def run_loop(self, main: Coroutine[Any, Any, None]) -> None:
        uvloop.run(main)
