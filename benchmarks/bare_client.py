# SPDX-License-Identifier: Apache-2.0
"""The bare client, fixed as the yardstick: pyreqwest 0.15.1, uvloop, 64 requests at once, 600-byte bodies."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import timedelta

import uvloop
from pyreqwest.client import ClientBuilder

BODY = b"x" * 600
AT_ONCE = 64


async def measure(url: str, seconds: float) -> float:
    """Requests a second."""
    async with ClientBuilder().no_proxy().timeout(timedelta(seconds=15)).build() as client:
        done = 0
        end = time.monotonic() + seconds

        async def worker() -> None:
            nonlocal done
            while time.monotonic() < end:
                response = await client.post(url).body_bytes(BODY).build().send()
                assert response.status == 204
                done += 1

        begun = time.monotonic()
        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        return done / (time.monotonic() - begun)


if __name__ == "__main__":
    print(uvloop.run(measure(sys.argv[1], float(sys.argv[2]))))
