# SPDX-License-Identifier: Apache-2.0
"""The HTTP client keeps its contract, on both event loops."""

from __future__ import annotations

import resource
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from fairlead.testing.http_client_bounds import MANY_CONNECTIONS
from fairlead.testing.http_client_contract import HttpClientContract


@pytest.fixture(autouse=True, scope="module")
def enough_descriptors() -> Iterator[None]:
    """Two per connection, as client and server live in one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * MANY_CONNECTIONS + 500
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestOnAsyncio(HttpClientContract):
    pass


class TestOnUvloop(HttpClientContract):
    def run_loop(self, main: Coroutine[Any, Any, None]) -> None:
        uvloop.run(main)
