# SPDX-License-Identifier: Apache-2.0
"""Which addresses the relay may call (design, section 8, "Egress").

Every outgoing connection whose address comes over the API is checked here: at creation by its URL, and again,
address by address, each time the host is resolved.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Literal

from fairlead.core.address import IpAddress, Url, literal_address, normal_host, parse_url
from fairlead.errors import ConfigError, Fault, ForbiddenSink

AddressKind = Literal["public", "loopback", "link-local", "metadata", "private", "reserved", "multicast"]

_NETWORKS: tuple[tuple[AddressKind, tuple[str, ...]], ...] = (
    # The first match names the address. Spelt out, as Python's own tables differ from version to version.
    (
        "metadata",  # where clouds hand out credentials; some of them outside every private range
        (
            "169.254.169.254/32",
            "169.254.170.2/32",
            "100.100.100.200/32",
            "168.63.129.16/32",
            "192.0.0.192/32",
            "fd00:ec2::254/128",
            "fd20:ce::254/128",
        ),
    ),
    ("loopback", ("127.0.0.0/8", "::1/128")),
    ("link-local", ("169.254.0.0/16", "fe80::/10")),
    ("private", ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10")),
    ("multicast", ("224.0.0.0/4", "ff00::/8")),
    (
        "reserved",  # "this host", protocol assignments, documentation, benchmarks, tunnels to elsewhere
        (
            "0.0.0.0/8",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "240.0.0.0/4",
            "::/128",
            "64:ff9b:1::/48",
            "100::/64",
            "2001::/23",
            "2001:db8::/32",
            "3fff::/20",
            "5f00::/16",
        ),
    ),
)
_KINDS = [(kind, ipaddress.ip_network(text)) for kind, networks in _NETWORKS for text in networks]
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")


def unwrapped(address: IpAddress) -> IpAddress:
    """The IPv4 address inside an IPv6 one that leads to it (mapped, compatible, 6to4, NAT64), or itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and (address in _NAT64 or (address in _COMPATIBLE and int(address) > 1)):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address if inner is None else inner


def kind_of(address: IpAddress) -> AddressKind:
    """What an unwrapped address is; "public" is all that no table names."""
    for kind, network in _KINDS:
        if address in network:  # False where the versions differ
            return kind
    return "public"


class EgressPolicy:
    """Public addresses over TLS, and beyond that only what `allow` names.

    Args:
        allow: CIDRs, addresses and host names. A host name opens the addresses it resolves to, but never
            link-local or metadata ones.
        loopback_allowed: loopback needs no name. True while `allow` is empty and no authentication is
            configured; may be set later, from the next resolution on it holds.

    Raises:
        ConfigError: an entry is neither a CIDR nor a host name.
    """

    def __init__(self, allow: Sequence[str] = (), *, loopback_allowed: bool = False) -> None:
        self.loopback_allowed = loopback_allowed
        self._allow = tuple(allow)
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._names: set[str] = set()
        for entry in allow:
            self._add(entry)

    def _add(self, entry: str) -> None:
        try:
            if "/" in entry:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
                return
            literal = literal_address(f"[{entry}]" if ":" in entry else entry)
            if literal is None:
                self._names.add(normal_host(entry))
            else:
                self._networks.append(ipaddress.ip_network(unwrapped(literal)))
        except ValueError:
            raise ConfigError(
                f"[egress] allow: {entry!r} is neither a CIDR nor a host name; "
                'expected for example "10.1.0.0/16" or "receiver.internal", without scheme or port'
            ) from None

    def check_url(self, url: str) -> Url:
        """Check what can be told of a URL without resolving it; return it in parts.

        Raises:
            ForbiddenSink: it is no URL for a sink, or a literal address in it may not be called.
        """
        try:
            parts = parse_url(url)
        except ValueError as error:
            fault = Fault(pointer="/sink", detail=str(error))
            raise ForbiddenSink(f"the sink cannot be used: {error}", faults=[fault]) from None
        try:
            address = ipaddress.ip_address(parts.endpoint.host)
        except ValueError:
            return parts  # a name: the addresses it resolves to decide
        self.check_address(str(address), parts.endpoint.host, tls=parts.endpoint.tls)
        return parts

    def check_address(self, address: str, host: str, *, tls: bool = True) -> None:
        """Check one address that `host` resolved to.

        Raises:
            ForbiddenSink: it may not be called; the detail holds the line that would allow it.
        """
        ip = unwrapped(ipaddress.ip_address(address))
        kind = kind_of(ip)
        if any(ip in network for network in self._networks):
            return
        name_counts = kind not in ("link-local", "metadata")
        if name_counts and host in self._names:
            return
        if (kind == "loopback" and self.loopback_allowed) or (kind == "public" and tls):
            return
        where = host if host == address else f"{host} ({address})"
        line = self._line(str(ipaddress.ip_network(ip)) if host == address or not name_counts else host)
        if kind == "public":
            why = "would be called without TLS"
            hint = f"use https or amqps, or allow it in the configuration: {line}"
        else:
            why, hint = f"is a {kind} address, which the relay may not call", f"to allow it: {line}"
        fault = Fault(pointer="/sink", detail=f"{where} {why}", hint=hint)
        raise ForbiddenSink(f"{where} {why}; {hint}", faults=[fault])

    def check_unresolved(self, host: str, *, tls: bool) -> None:
        """Check a name that has no address now, and may have one later.

        Raises:
            ForbiddenSink: without TLS only what is known to be loopback, or what `allow` names, is called.
        """
        if tls or host in self._names:
            return
        why = "cannot be resolved now, and would be called without TLS"
        hint = f"use https or amqps, or allow it in the configuration: {self._line(host)}"
        fault = Fault(pointer="/sink", detail=f"{host} {why}", hint=hint)
        raise ForbiddenSink(f"{host} {why}; {hint}", faults=[fault])

    def _line(self, entry: str) -> str:
        entries = ", ".join(f'"{known}"' for known in (*self._allow, entry))
        return f"[egress] allow = [{entries}]"
