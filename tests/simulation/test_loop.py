# SPDX-License-Identifier: Apache-2.0
"""The simulator's event loop: virtual time, processes that can be killed, nothing left behind."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from fairlead.testing.simulation.loop import Process, SimulatedLoop


def new_loop(seed: int = 1, *, orderly: bool = True) -> SimulatedLoop:
    return SimulatedLoop(Random(seed), orderly=orderly)  # type: ignore[abstract]  # what it lacks needs a world


def test_time_jumps_to_the_next_timer() -> None:
    loop = new_loop()

    async def main() -> float:
        await asyncio.sleep(86_400)
        return loop.time()

    assert loop.run(main()) == pytest.approx(86_400)


def test_a_timeout_comes_in_virtual_time() -> None:
    loop = new_loop()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()

    loop.run(main())
    assert loop.time() == pytest.approx(5)


def test_a_killed_process_runs_no_further_step_and_its_callers_are_told() -> None:
    loop, process, done = new_loop(), Process("relay"), []

    async def work() -> None:
        try:
            await asyncio.sleep(1)
            done.append("after")
        finally:
            if not loop.over:
                done.append("finally")

    async def main() -> None:
        loop.spawn(process, work())
        call: asyncio.Future[None] = loop.create_future()
        process.calls[call] = None
        await asyncio.sleep(0.5)
        loop.kill(process)
        await asyncio.sleep(5)
        with pytest.raises(ConnectionError):
            await call

    loop.run(main())
    assert done == []


def test_within_a_process_callbacks_keep_their_order() -> None:
    seen: list[int] = []
    loop = new_loop()

    async def main() -> None:
        for number in range(20):
            loop.call_soon(seen.append, number)
        await asyncio.sleep(0)

    loop.run(main())
    assert seen == list(range(20))


def test_a_disorderly_loop_mixes_what_is_ready() -> None:
    seen: list[int] = []
    loop = new_loop(orderly=False)

    async def main() -> None:
        for number in range(20):
            loop.call_soon(seen.append, number)
        await asyncio.sleep(1)

    loop.run(main())
    assert sorted(seen) == list(range(20)) != seen


def test_between_processes_the_seed_decides() -> None:
    def order(seed: int) -> str:
        loop, seen = new_loop(seed), []

        async def step(name: str) -> None:
            seen.append(name)

        async def main() -> None:
            for name in "abcdefgh":
                loop.spawn(Process(name), step(name))
            await asyncio.sleep(1)

        loop.run(main())
        return "".join(seen)

    assert order(1) == order(1)
    assert len({order(seed) for seed in range(5)}) > 1


def test_a_deadlock_is_told() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="deadlock"):
        new_loop().run(main())


def test_an_exception_that_nobody_takes_is_a_defect() -> None:
    loop = new_loop()

    async def fail() -> None:
        raise ValueError("nobody looks")

    async def main() -> None:
        loop.spawn(Process("relay"), fail())
        await asyncio.sleep(1)

    loop.run(main())
    assert "nobody looks" in loop.defects[0]
