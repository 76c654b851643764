# SPDX-License-Identifier: Apache-2.0
"""Host names to addresses that may be called: resolved here, checked here, kept for a short time.

Nothing else resolves: the client connects to what it gets from here, so a name that changes its mind between
check and use gains nothing (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, Protocol

from fairlead.core.address import Endpoint
from fairlead.errors import ForbiddenSink, SendFailed

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""Addresses of a host and port; raises `socket.gaierror`, or another OSError."""

_MAX_ENTRIES = 4096
_threads = ThreadPoolExecutor(256, thread_name_prefix="fairlead-dns")  # each started when it is needed


class AddressCheck(Protocol):
    """What the resolver needs of `EgressPolicy`."""

    def check_address(self, address: str, host: str, *, tls: bool = True) -> None:
        """Raises ForbiddenSink for an address that may not be called."""


async def system_lookup(host: str, port: int) -> Sequence[str]:
    """The system's resolver, in threads of its own.

    A name whose servers are dead holds a thread for half a minute. The loop has four of them (uvloop) or a
    few, so that a handful of such names would hold up the look-ups of every other subscription.
    """
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    infos = await asyncio.get_running_loop().run_in_executor(_threads, ask)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


class _Known(NamedTuple):
    """What a name was resolved to, in the order to try; `preferred` answered where an earlier one did not."""

    until: float
    addresses: tuple[str, ...]
    preferred: str | None = None


class Resolver:
    """Checked addresses of endpoints, each name asked for at most once in `ttl_seconds`.

    Args:
        policy: checks every address; None lets all pass (for a client whose user named the server himself).
    """

    def __init__(
        self, policy: AddressCheck | None, *, ttl_seconds: float = 30.0, lookup: Lookup = system_lookup
    ) -> None:
        self._policy = policy
        self._ttl_seconds = ttl_seconds
        self._lookup = lookup
        self._known: dict[Endpoint, _Known] = {}
        self._asking: dict[Endpoint, asyncio.Task[tuple[str, ...] | SendFailed]] = {}

    def fresh(self, endpoint: Endpoint, now: float) -> tuple[str, ...] | None:
        """The addresses if they were resolved within the last `ttl_seconds`; `now` is loop time."""
        known = self._known.get(endpoint)
        return known.addresses if known is not None and now < known.until else None

    async def resolve(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Addresses that may be called, at least one, in the order to try.

        Calls at the same time share one look-up. Addresses that may not be called are left out. While DNS
        gives no answer at all, the last one stands.

        Raises:
            SendFailed: `dns` for a name without addresses, `forbidden` if none of them may be called.
        """
        fresh = self.fresh(endpoint, asyncio.get_running_loop().time())
        if fresh is not None:
            return fresh
        task = self._asking.get(endpoint)
        if task is None:
            task = self._asking[endpoint] = asyncio.create_task(self._ask(endpoint))
            task.add_done_callback(lambda _: self._asking.pop(endpoint, None))
        try:
            result = await asyncio.shield(task)  # one caller's deadline must not end the others' look-up
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if task.cancelled() and not (caller and caller.cancelling()):
                raise SendFailed("reset", "the HTTP client was closed") from None
            raise
        if isinstance(result, SendFailed):
            raise SendFailed(result.kind, result.detail)  # its own: others may be raising it too
        return result

    async def resolve_within(self, endpoint: Endpoint, timeout_seconds: float) -> tuple[str, ...]:
        """As `resolve`, and `timeout` where that takes longer."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self.resolve(endpoint)
        except TimeoutError:
            raise SendFailed("timeout", f"the host {endpoint.host} was not resolved in time") from None

    def prefer(self, endpoint: Endpoint, address: str) -> None:
        """Try this address first while the name leads to it: an earlier one did not answer."""
        known = self._known.get(endpoint)
        if known is not None and address in known.addresses:
            self._known[endpoint] = _Known(known.until, _with_first(known.addresses, address), address)

    async def close(self) -> None:
        """Give up the look-ups under way; idempotent."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, endpoint: Endpoint) -> tuple[str, ...] | SendFailed:
        """A failure is returned, not raised: it may be that nobody waits for it any more."""
        try:
            allowed = self._allowed(endpoint, await self._addresses(endpoint))
        except ForbiddenSink as error:
            self._known.pop(endpoint, None)
            return SendFailed("forbidden", error.detail)
        except OSError as error:
            known = self._known.get(endpoint)
            if known is None or getattr(error, "errno", None) != socket.EAI_AGAIN:
                self._known.pop(endpoint, None)
                reason = error.strerror or error
                return SendFailed("dns", f"the host {endpoint.host} cannot be resolved: {reason}")
            allowed = known.addresses
        now = asyncio.get_running_loop().time()
        if len(self._known) >= _MAX_ENTRIES:
            self._known = {key: value for key, value in self._known.items() if now < value.until}
        before = self._known.get(endpoint)
        preferred = None if before is None or before.preferred not in allowed else before.preferred
        allowed = allowed if preferred is None else _with_first(allowed, preferred)
        self._known[endpoint] = _Known(now + self._ttl_seconds, allowed, preferred)
        return allowed

    async def _addresses(self, endpoint: Endpoint) -> Sequence[str]:
        try:
            return [str(ipaddress.ip_address(endpoint.host))]
        except ValueError:
            addresses = await self._lookup(endpoint.host, endpoint.port)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        return addresses

    def _allowed(self, endpoint: Endpoint, addresses: Sequence[str]) -> tuple[str, ...]:
        if self._policy is None:
            return tuple(addresses)
        allowed: list[str] = []
        refused: ForbiddenSink | None = None
        for address in addresses:
            try:
                self._policy.check_address(address, endpoint.host, tls=endpoint.tls)
                allowed.append(address)
            except ForbiddenSink as error:
                refused = refused or error
        if refused is not None and not allowed:
            raise refused
        return tuple(allowed)


def _with_first(addresses: tuple[str, ...], first: str) -> tuple[str, ...]:
    return (first, *(other for other in addresses if other != first))
