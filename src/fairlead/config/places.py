# SPDX-License-Identifier: Apache-2.0
"""Settings that name a place: the address to listen on, the store, where deliveries may go."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import unquote

from fairlead.config.kinds import Kind, matching, strings
from fairlead.core.egress import EgressPolicy
from fairlead.errors import ConfigError

STORE_SCHEME = "sqlite:///"


class Listen(NamedTuple):
    """A host and a port to listen on; port 0 lets the system choose."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(value: object) -> Listen:
    """`HOST:PORT` or `[IPv6]:PORT`; ValueError says what was expected."""
    wanted = ValueError('must be an address and a port such as "127.0.0.1:3247" or "[::1]:3247"')
    if not isinstance(value, str):
        raise wanted
    host, colon, port = value.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise wanted
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise wanted
    if not host or any(character.isspace() or character in "/[]" for character in host):
        raise wanted
    return Listen(host, int(port))


def store_path(url: str) -> str:
    """The file that a store URL names (`:memory:` for a store that dies with the process).

    `sqlite:///relative/path` and `sqlite:////absolute/path`, percent-encoding allowed.

    Raises:
        ValueError: it is not a store URL; says what was expected.
    """
    if not url.startswith(STORE_SCHEME) or len(url) == len(STORE_SCHEME) or "?" in url or "#" in url:
        raise ValueError(
            'must be "sqlite:///fairlead.db" (relative) or "sqlite:////var/lib/fairlead/store.db"'
        )
    path = unquote(url.removeprefix(STORE_SCHEME))
    if "\0" in path or path.endswith("/"):
        raise ValueError("must have the path of a file after sqlite:///")
    return path


def _parse_store(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError('must be a store URL such as "sqlite:///fairlead.db"')
    store_path(value)
    return value


listen_address: Kind[Listen] = Kind("address", "", parse_listen, str)
store_url: Kind[str] = Kind("store URL", "", _parse_store, str)


def _parse_allowed(value: object) -> tuple[str, ...]:
    entries = strings.parse(value)
    for entry in entries:
        try:
            EgressPolicy([entry])
        except ConfigError:
            raise ValueError(
                'must hold CIDRs and host names such as "10.1.0.0/16" or "receiver.internal", without scheme'
                f" or port, which {entry!r} is not"
            ) from None
    return entries


allowed_places: Kind[tuple[str, ...]] = replace(strings, parse=_parse_allowed)
host_name: Kind[str] = matching(
    "host name", r"(?=.{1,253}\Z)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", 'a host name such as "relay.example"'
)
