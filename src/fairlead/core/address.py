# SPDX-License-Identifier: Apache-2.0
"""Where a URL leads: its endpoint, and its host read the way a C library would (design, section 8, "Egress").

One parser for the guard and for the client: what is checked is what is connected to. A host that `inet_aton`
takes for an address (`2130706433`, `0x7f.1`, `127.1`) is that address here too.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import quote, urlsplit

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

SCHEMES = {"http": (80, False), "https": (443, True), "amqp": (5672, False), "amqps": (5671, True)}

_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\Z")
_NUMBER = re.compile(r"0x[0-9a-f]*\Z|[0-9]+\Z")
_PATH_SAFE = "/%:@!$&'()*+,;=~-._?[]|^`{}\"<>"  # only what is outside ASCII is encoded: the rest is as given


class Endpoint(NamedTuple):
    """What a connection is made to; `host` is a lower-case name, or an address in its usual spelling."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Url(NamedTuple):
    """A URL in parts; `authority` is the `Host` header, `target` the path with its query."""

    scheme: str
    endpoint: Endpoint
    authority: str
    target: str


def parse_url(url: str) -> Url:
    """Read an absolute URL of one of `SCHEMES`. The fragment is dropped: it never leaves a client.

    Raises:
        ValueError: says what is wrong: another scheme, no host, user information, characters that two parsers
            may read in two ways (white space, control characters, a backslash), a port or host that is none.
    """
    if _UNSAFE.search(url):
        raise ValueError("a URL holds no white space, control character or backslash; percent-encode them")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from None
    if parts.scheme not in SCHEMES:
        raise ValueError(f"the scheme is {parts.scheme!r}; expected one of {', '.join(SCHEMES)}")
    if "@" in parts.netloc:
        raise ValueError("user information does not belong in a URL; put it in sinkcredential")
    if not parts.hostname:
        raise ValueError("a URL needs a host: https://receiver.example/hook")
    if port == 0:
        raise ValueError("the port is 0; expected 1 to 65535")
    default_port, tls = SCHEMES[parts.scheme]
    host = normal_host(f"[{parts.hostname}]" if parts.netloc.startswith("[") else parts.hostname)
    endpoint = Endpoint(host, port or default_port, tls)
    bracketed = f"[{host}]" if ":" in host else host
    target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_PATH_SAFE)
    authority = bracketed if endpoint.port == default_port else str(endpoint)
    return Url(parts.scheme, endpoint, authority, target)


def normal_host(host: str) -> str:
    """A host in the one spelling that is compared, resolved and shown to TLS.

    Raises:
        ValueError: it is neither a host name nor an address.
    """
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")  # full-width digits become plain ones here
        except UnicodeError:
            raise ValueError(f"the host {host!r} is not a name that DNS can hold") from None
    literal = literal_address(host)
    if literal is not None:
        return str(literal)
    name = host.removesuffix(".").lower()
    if len(name) > 253 or not _NAME.match(name):
        raise ValueError(f"the host {host!r} is neither a name nor an address")
    return name


def literal_address(host: str) -> IpAddress | None:
    """The address that a host spells, with every number form of `inet_aton`; None for a name.

    Raises:
        ValueError: it begins like an address and is none (`[…` without IPv6, `1.2.3.4.5`, `256.1.1.1`).
    """
    if host.startswith("["):
        inner = host.removeprefix("[").removesuffix("]")
        if "%" in inner:
            raise ValueError(f"the host {host} has a zone; a zone means something on one machine only")
        try:
            return ipaddress.IPv6Address(inner)
        except ValueError:
            raise ValueError(f"the host {host} is not an IPv6 address") from None
    parts = host.lower().removesuffix(".").split(".")
    if not _NUMBER.match(parts[-1]):
        return None
    return _from_numbers(parts, host)


def _from_numbers(parts: list[str], host: str) -> ipaddress.IPv4Address:
    """`a`, `a.b`, `a.b.c`, `a.b.c.d`: decimal, octal or hexadecimal; the last one fills what is left."""
    wrong = ValueError(f"the host {host!r} ends like an IPv4 address and is none")
    if len(parts) > 4 or not all(_NUMBER.match(part) for part in parts):
        raise wrong
    try:
        *high, low = [_number(part) for part in parts]
    except ValueError:
        raise wrong from None
    if any(number > 255 for number in high) or low >= 256 ** (4 - len(high)):
        raise wrong
    return ipaddress.IPv4Address(sum(n << (24 - 8 * place) for place, n in enumerate(high)) + low)


def _number(text: str) -> int:
    if len(text) > 16:  # longer than 2**32 in any base; spares int() a million digits
        raise ValueError(text)
    if text.startswith("0x"):
        return int(text[2:] or "0", 16)
    return int(text, 8) if text.startswith("0") else int(text)
