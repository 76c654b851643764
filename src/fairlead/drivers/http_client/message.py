# SPDX-License-Identifier: Apache-2.0
"""The values of the HTTP client: what is asked, what is answered, and the bounds on both."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from fairlead.core.address import Endpoint, Url, parse_url

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE", "TRACE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bounds on what a server may cost.

    Attributes:
        max_body_bytes: of an answer's body, kept; beyond it the connection is closed and the answer stands.
        max_header_bytes: of an answer's status line and headers, interim answers counted.
        max_idle_per_host: connections kept open to one endpoint.
        idle_timeout_seconds: for which a connection is kept without a request.
    """

    max_body_bytes: int = 64 * 1024
    max_header_bytes: int = 64 * 1024
    max_idle_per_host: int = 256
    idle_timeout_seconds: float = 30.0

    @property
    def max_answer_bytes(self) -> int:
        """All that one answer may take on the wire: a body in chunks of one byte still fits."""
        return self.max_header_bytes + 16 * self.max_body_bytes


class Route(NamedTuple):
    """The part of a request that does not change from one to the next, ready for the wire."""

    endpoint: Endpoint
    head: bytes
    method: str


class HttpAnswer(NamedTuple):
    """One answer. `truncated` says that the body went on past the limit."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    truncated: bool = False

    def header(self, name: str) -> str | None:
        """The first value of a header, by its name in lower case."""
        wanted = name.encode("ascii")
        for key, value in self.headers:
            if key.lower() == wanted:
                return value.decode("latin-1").strip()
        return None


def route_to(url: str | Url, *, method: str = "POST", headers: Iterable[tuple[str, str]] = ()) -> Route:
    """Prepare requests of one method to one URL with headers that stay the same.

    Raises:
        ValueError: the URL, the method or a header cannot be sent.
    """
    parts = parse_url(url) if isinstance(url, str) else url
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"the scheme is {parts.scheme!r}; expected http or https")
    if not _TOKEN.match(method):
        raise ValueError(f"{method!r} is not an HTTP method")
    start = f"{method} {parts.target} HTTP/1.1\r\nhost: {parts.authority}\r\naccept-encoding: identity\r\n"
    return Route(parts.endpoint, start.encode("ascii") + header_block(headers), method)


def header_block(headers: Iterable[tuple[str, str]]) -> bytes:
    """Headers as they go on the wire, each with its line end.

    Raises:
        ValueError: a name is not a token, or a value holds a control character (it could end the header).
    """
    lines: list[str] = []
    for name, value in headers:
        if not _TOKEN.match(name):
            raise ValueError(f"{name!r} is not a header name")
        if _CONTROL.search(value):
            raise ValueError(f"the value of header {name!r} holds a control character")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("utf-8")


def request_bytes(route: Route, extra: bytes, body: bytes) -> bytes:
    """The whole request, for one write."""
    if not body and route.method in _BODILESS:
        return b"%b%b\r\n" % (route.head, extra)
    return b"%b%bcontent-length: %d\r\n\r\n%b" % (route.head, extra, len(body), body)
