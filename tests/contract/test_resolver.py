# SPDX-License-Identifier: Apache-2.0
"""Names become checked addresses: shared look-ups, short memory, and what stands while DNS is down."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from fairlead.core.address import Endpoint
from fairlead.core.egress import EgressPolicy
from fairlead.drivers.resolver import Resolver, system_lookup
from fairlead.errors import SendFailed

A = Endpoint("a.example", 443, True)


class Names:
    """A name server in a test's hands: what it says next, and how often it was asked."""

    def __init__(self, *addresses: str) -> None:
        self.says: Sequence[str] | OSError = list(addresses)
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def lookup(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        await self.may_answer.wait()
        if isinstance(self.says, OSError):
            raise self.says
        return self.says


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_what_may_not_be_called_is_left_out() -> None:
    async def main() -> None:
        names = Names("10.0.0.1", "93.184.215.14", "169.254.169.254")
        assert await Resolver(EgressPolicy(), lookup=names.lookup).resolve(A) == ("93.184.215.14",)
        assert await Resolver(None, lookup=names.lookup).resolve(A) == tuple(names.says)  # type: ignore[arg-type]

    run(main())


def test_calls_at_the_same_time_share_a_look_up_and_one_leaving_does_not_end_it() -> None:
    async def main() -> None:
        names = Names("93.184.215.14")
        names.may_answer.clear()
        resolver = Resolver(EgressPolicy(), lookup=names.lookup)
        first, second = (asyncio.create_task(resolver.resolve(A)) for _ in range(2))
        while not names.asked:
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        names.may_answer.set()
        assert await second == ("93.184.215.14",)
        assert names.asked == 1

    run(main())


def test_an_answer_is_remembered_for_its_time_and_no_longer() -> None:
    async def main() -> None:
        names = Names("93.184.215.14")
        now = asyncio.get_running_loop().time()
        resolver = Resolver(EgressPolicy(), lookup=names.lookup, ttl_seconds=30.0)
        assert resolver.fresh(A, now) is None
        await resolver.resolve(A)
        assert resolver.fresh(A, now + 29) == ("93.184.215.14",)
        assert resolver.fresh(A, now + 31 + 60) is None

    run(main())


def test_while_dns_gives_no_answer_the_last_one_stands() -> None:
    async def main() -> None:
        names = Names("93.184.215.14")
        resolver = Resolver(EgressPolicy(), lookup=names.lookup, ttl_seconds=0.0)
        await resolver.resolve(A)
        names.says = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        assert await resolver.resolve(A) == ("93.184.215.14",)

    run(main())


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_NONAME, "Name or service not known"), None])
def test_a_name_that_is_gone_is_forgotten(error: OSError | None) -> None:
    async def main() -> None:
        names = Names("93.184.215.14")
        resolver = Resolver(EgressPolicy(), lookup=names.lookup, ttl_seconds=0.0)
        await resolver.resolve(A)
        names.says = error or []
        with pytest.raises(SendFailed, match=r"a\.example cannot be resolved: .+") as raised:
            await resolver.resolve(A)
        assert raised.value.kind == "dns"
        names.says = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        with pytest.raises(SendFailed):
            await resolver.resolve(A)

    run(main())


def test_the_policy_in_force_counts_at_each_resolution() -> None:
    async def main() -> None:
        policy = EgressPolicy(loopback_allowed=True)
        resolver = Resolver(policy, lookup=Names("127.0.0.1").lookup, ttl_seconds=0.0)
        await resolver.resolve(A)
        policy.loopback_allowed = False
        with pytest.raises(SendFailed) as raised:
            await resolver.resolve(A)
        assert raised.value.kind == "forbidden"

    run(main())


def test_an_address_that_answered_is_tried_first_from_then_on() -> None:
    async def main() -> None:
        resolver = Resolver(None, lookup=Names("::1", "127.0.0.1").lookup)
        await resolver.resolve(A)
        resolver.prefer(A, "127.0.0.1")
        assert await resolver.resolve(A) == ("127.0.0.1", "::1")

    run(main())


def test_an_address_that_answered_stays_the_first_when_the_name_is_asked_for_again() -> None:
    async def main() -> None:
        names = Names("::1", "127.0.0.1")
        resolver = Resolver(None, lookup=names.lookup, ttl_seconds=0)
        await resolver.resolve(A)
        resolver.prefer(A, "127.0.0.1")
        assert await resolver.resolve(A) == ("127.0.0.1", "::1")
        names.says = ["::1"]
        assert await resolver.resolve(A) == ("::1",)

    run(main())


def test_a_literal_is_never_asked_for() -> None:
    async def main() -> None:
        names = Names()
        resolver = Resolver(EgressPolicy(), lookup=names.lookup)
        assert await resolver.resolve(Endpoint("8.8.8.8", 443, True)) == ("8.8.8.8",)
        assert names.asked == 0

    run(main())


def test_memory_does_not_grow_with_the_names_asked_for() -> None:
    async def main() -> None:
        resolver = Resolver(EgressPolicy(), lookup=Names("93.184.215.14").lookup, ttl_seconds=0.0)
        for number in range(5000):
            await resolver.resolve(Endpoint(f"n{number}.example", 443, True))
        assert len(resolver._known) <= 4096

    run(main())


def test_closing_gives_up_what_is_under_way() -> None:
    async def main() -> None:
        names = Names("93.184.215.14")
        names.may_answer.clear()
        resolver = Resolver(EgressPolicy(), lookup=names.lookup)
        waiting = asyncio.create_task(resolver.resolve(A))
        while not names.asked:
            await asyncio.sleep(0)
        await resolver.close()
        with pytest.raises(SendFailed, match="closed"):
            await waiting
        await resolver.close()

    run(main())


def test_the_systems_resolver_knows_localhost() -> None:
    async def main() -> None:
        assert set(await system_lookup("localhost", 80)) <= {"127.0.0.1", "::1"}

    run(main())


def test_names_without_an_answer_hold_up_no_other_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    may_answer = threading.Event()

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        if host.startswith("dead"):
            may_answer.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def main() -> None:
        dead = [asyncio.create_task(system_lookup(f"dead-{number}", 443)) for number in range(50)]
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(10):
                assert await system_lookup("alive", 443) == ["192.0.2.1"]
        finally:
            may_answer.set()
            await asyncio.gather(*dead)

    run(main())
