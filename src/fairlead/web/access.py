# SPDX-License-Identifier: Apache-2.0
"""Who may call: logins, the loopback rule, and what browsers are not to do (design, section 8)."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from fairlead.core.policy import Principal
from fairlead.errors import Fault, ForeignHost, ForeignOrigin, Unauthenticated
from fairlead.ports import Authenticator, Credentials


class Access:
    """Decides on every request before anything else does.

    Args:
        authenticators: asked in turn; the first that knows the credentials decides.
        configured: whether authentication is configured: then every call needs a login.
        loopback: the relay listens on loopback only; else every call needs a login in any case.
    """

    def __init__(
        self,
        authenticators: Sequence[Authenticator],
        configured: Callable[[], Awaitable[bool]],
        *,
        loopback: bool,
    ) -> None:
        self._authenticators = authenticators
        self._configured = configured
        self._loopback = loopback

    async def open(self) -> bool:
        """Whether calls need no login."""
        return self._loopback and not await self._configured()

    def check_browser(
        self, host: bytes | None, origin: bytes | None, *, is_open: bool, is_probe: bool = False
    ) -> None:
        """Refuse what only a browser sends on somebody else's behalf.

        A page of another origin may not call: it could use a login that the browser remembers. While no
        login is needed, the Host must be loopback too, or any name that resolves to 127.0.0.1 were a way in.

        Args:
            is_probe: a call on health, which may also come without any Host: load balancers speak HTTP/1.0,
                browsers always send one.

        Raises:
            ForeignOrigin, ForeignHost
        """
        nameless = host is None and is_probe
        if is_open and not nameless and not is_loopback(host or b""):
            shown = "missing" if host is None else repr(host.decode("latin-1"))
            raise ForeignHost(
                f"the Host header is {shown}; while no authentication is configured only 127.0.0.1, [::1] "
                "and localhost are served",
                faults=[Fault(header="host", detail="must be a loopback name", hint="call it 127.0.0.1")],
            )
        if origin is not None and not _same_origin(origin, host or b""):
            shown = origin.decode("latin-1")[:200]
            raise ForeignOrigin(
                f"the Origin header is {shown!r}, which is not this relay",
                faults=[Fault(header="origin", detail="must be absent or this relay's own")],
            )

    async def principal(self, headers: Mapping[str, str]) -> Principal:
        """Who calls, by the request's headers (names in lower case).

        Raises:
            Unauthenticated: nobody that an authenticator knows.
        """
        credentials = Credentials(headers)
        for authenticator in self._authenticators:
            principal = await authenticator.authenticate(credentials)
            if principal is not None:
                return principal
        raise Unauthenticated(
            "this relay takes no call without a login; send Authorization: Bearer with an API key",
            faults=[Fault(header="authorization", detail="is missing or of an unknown kind")],
        )


@lru_cache(maxsize=256)
def is_loopback(host: bytes) -> bool:
    """Whether a Host header, with or without a port, names this machine and nothing else."""
    name = _host_of(host.decode("latin-1"))
    if name is None:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_loopback_peer(client: Sequence[object] | None) -> bool:
    """Whether the other end of a connection is this machine."""
    try:
        return client is not None and ipaddress.ip_address(str(client[0])).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=256)
def _same_origin(origin: bytes, host: bytes) -> bool:
    """Whether an Origin names the authority that was called; the scheme may end at a proxy before us."""
    try:
        parts = urlsplit(origin.decode("latin-1"))
        there = (parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme))
        called = urlsplit(f"{parts.scheme}://{host.decode('latin-1')}")
        here = (called.hostname, called.port or {"http": 80, "https": 443}.get(called.scheme))
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and there[0] is not None and there == here


def _host_of(authority: str) -> str | None:
    """The host of `host[:port]`, without brackets, in lower case; None where there is more to it."""
    if any(character in authority for character in "/@?#\\ ,"):
        return None
    try:
        parts = urlsplit(f"//{authority}")
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname
