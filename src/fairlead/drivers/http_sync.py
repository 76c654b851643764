# SPDX-License-Identifier: Apache-2.0
"""A plain blocking HTTP client for one origin, on the standard library.

No proxies from the environment, no redirects, TLS verified; one connection, kept open between requests.
"""

from __future__ import annotations

# `getaddrinfo` imports it at its first call; a fork during that import leaves the child a codec that cannot
# be found, for life, and with it no host.
import encodings.idna  # noqa: F401
import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_ANSWER_BYTES = 16 * 1024 * 1024


class UnreachableError(Exception):
    """No answer: refused, timed out, broken off, TLS or DNS; the message says which."""


@dataclass(frozen=True, slots=True)
class OriginAnswer:
    """One answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpOrigin:
    """One origin and a path prefix. Requests come from one thread; `abort` from any.

    Args:
        url: `http://` or `https://`, host, optional port and path; no user information, query or fragment.
        timeout_seconds: for connecting, and for each silence on the connection.
        ca_file: further certificate authorities, PEM.
        max_answer_bytes: what is read of an answer; None for all of it.

    Raises:
        ValueError: the URL is not of that kind.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float,
        ca_file: str | None = None,
        max_answer_bytes: int | None = MAX_ANSWER_BYTES,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not a URL of a relay; expected http://host:port or https://host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("the relay's URL carries a password; give it as api_key instead")
        if parts.query or parts.fragment:
            raise ValueError(f"{url!r} has a query or fragment; expected http://host:port or https://host")
        self._host, self._port = parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self._timeout, self._max_answer_bytes = timeout_seconds, max_answer_bytes
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        if self._tls is not None and ca_file is not None:
            self._tls.load_verify_locations(cafile=ca_file)
        self._guard = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None
        self._aborted = False

    def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> OriginAnswer:
        """Send one request; on a kept connection that turns out to be closed, once more on a new one.

        Raises:
            UnreachableError: no whole answer came; the request may have been carried out.
        """
        reused = self._connection is not None
        try:
            return self._send(method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not reused or self._aborted or isinstance(error, TimeoutError):
                raise UnreachableError(_describe(error)) from error
        try:
            return self._send(method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise UnreachableError(_describe(error)) from error

    def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> OriginAnswer:
        connection = self._connected()
        connection.request(method, self._prefix + path, body, dict(headers))
        response = connection.getresponse()
        content = response.read(self._max_answer_bytes)
        answer = OriginAnswer(response.status, {k.lower(): v for k, v in response.getheaders()}, content)
        if response.will_close or not response.isclosed():
            self.close()
        return answer

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            if self._tls is not None:
                connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                    self._host, self._port, timeout=self._timeout, context=self._tls
                )
            else:
                connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
            connection.connect()
            with self._guard:
                self._connection = connection
        if self._aborted:
            raise ConnectionAbortedError("the client is closing")
        return self._connection

    def abort(self) -> None:
        """Break off the request under way, and every later one."""
        self._aborted = True
        with self._guard:
            sock = self._connection.sock if self._connection is not None else None
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it was not connected any more, which is what was wanted

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        with self._guard:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _describe(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
