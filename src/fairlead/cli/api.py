# SPDX-License-Identifier: Apache-2.0
"""Calling a relay's API from the command line."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from fairlead.drivers import http_sync

DEFAULT_URL = "http://127.0.0.1:3247"
JSON = "application/json"
TIMEOUT_SECONDS = 60.0


class UnreachableError(Exception):
    """The relay did not answer; the message says where it was looked for, and why it failed.

    Attributes:
        remedy: what to do.
    """

    remedy = "start one with fairlead serve, or say with --url where it is"


class RefusedError(Exception):
    """The relay answered with a problem.

    Attributes:
        status: the HTTP status.
        problem: the RFC 9457 document; made up from the status where the answer was none.
        body: the answer as it came.
    """

    def __init__(self, status: int, problem: Mapping[str, Any], body: bytes, retry_after: str | None) -> None:
        super().__init__(problem.get("detail") or problem.get("title") or f"status {status}")
        self.status = status
        self.problem = problem
        self.body = body
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Reply:
    """A 2xx answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def document(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.body) if self.body else None


class Api:
    """One relay, called over a connection that is kept.

    Args:
        url: where it is, as `check_url` takes it; a path in it is put before every call's.
        key: an API key, None for no login.
    """

    def __init__(self, url: str = DEFAULT_URL, key: str | None = None) -> None:
        self.url = url
        self.key = key
        parts = urlsplit(url)
        place = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        self._origin = http_sync.HttpOrigin(place, timeout_seconds=TIMEOUT_SECONDS, max_answer_bytes=None)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Make one call.

        Args:
            path: already quoted; see `path_of`.
            body: bytes as they are (with a content-type in `headers`), None for none, else written as JSON.

        Raises:
            UnreachableError: no connection, or no answer. RefusedError: the answer is a problem.
        """
        sent = {"user-agent": "fairlead-cli", "accept": JSON, **(headers or {})}
        if self.key:
            sent["authorization"] = f"Bearer {self.key}"
        payload = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        if payload is not None:
            sent.setdefault("content-type", JSON)
        asked = {name: str(value) for name, value in (query or {}).items() if value is not None}
        target = path + (f"?{urlencode(asked)}" if asked else "")
        try:
            answer = self._origin.send(method, target, payload, sent)
        except http_sync.UnreachableError as error:
            raise UnreachableError(f"no relay answers at {self.url}: {_reason(error.__cause__)}") from None
        reply = Reply(answer.status, answer.headers, answer.body)
        if reply.status >= 300:
            raise RefusedError(reply.status, _problem(reply), reply.body, reply.headers.get("retry-after"))
        return reply

    def close(self) -> None:
        self._origin.close()


def check_url(url: str) -> None:
    """Check that a relay can be at `url`. Raises ValueError."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    plain = url.isascii() and url.isprintable() and " " not in url
    if not host or parts.scheme not in ("http", "https") or not plain:
        raise ValueError(f"{url!r} is not a relay's URL, which is one such as {DEFAULT_URL}")


def path_of(*parts: str) -> str:
    """A path of its segments, each quoted."""
    return "".join("/" + quote(part, safe="") for part in parts)


def _problem(reply: Reply) -> Mapping[str, Any]:
    try:
        document = json.loads(reply.body)
    except ValueError:
        document = None
    if isinstance(document, dict) and "title" in document:
        return document
    return {
        "status": reply.status,
        "title": f"the answer was {reply.status}, and not one of a Fairlead relay",
    }


def _reason(error: BaseException | None) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return "it does not speak TLS as https:// wants it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
