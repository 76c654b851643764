# SPDX-License-Identifier: Apache-2.0
"""A receiver as a WSGI application.

A sync handler runs in the request's thread, an async one on an event loop in the background.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fairlead.sdk.receiving.reply import Reply

if TYPE_CHECKING:
    from fairlead.sdk.receiving.receiver import Receiver

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]


class ReceiverWsgi:
    """The WSGI callable."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        reply = self._reply(environ)
        headers = list(reply.headers.items())
        if reply.status != HTTPStatus.NO_CONTENT:
            headers.append(("content-length", str(len(reply.body))))
        start_response(f"{reply.status} {_phrase(reply.status)}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [reply.body]

    def _reply(self, environ: Environ) -> Reply:
        length = environ.get("CONTENT_LENGTH") or ""
        if length.isdigit():
            size = int(length)
            refusal = self._receiver.too_large(size)
            if refusal is not None:
                return refusal
        else:
            # A chunked body has an end only where the server says so; elsewhere reading would wait for ever.
            size = self._receiver.max_body_bytes + 1 if environ.get("wsgi.input_terminated") else 0
        body = environ["wsgi.input"].read(size) if size else b""
        return self._receiver.handle(environ["REQUEST_METHOD"], _headers(environ), body)


def _headers(environ: Environ) -> dict[str, str]:
    headers = {
        name[5:].replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    if environ.get("CONTENT_TYPE"):
        headers["content-type"] = environ["CONTENT_TYPE"]
    return headers


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
