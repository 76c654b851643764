# SPDX-License-Identifier: Apache-2.0
"""What the clients of an HTTP server may take of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What one connection, and all together, may take.

    Attributes:
        header_bytes, headers: the request line with all headers; beyond either 431.
        request_timeout_seconds: for the headers, and again for the body, to arrive; beyond it 408. Who takes
            nothing of an answer for so long is cut off.
        connections: further ones get 503 for each request, and beyond twice as many are dropped unheard.
        unread_bytes: of a body that the app did not want are thrown away, so that its answer arrives.
    """

    header_bytes: int = 64 * 1024
    headers: int = 100
    request_timeout_seconds: float = 30.0
    connections: int = 1024
    unread_bytes: int = 16 * 1024 * 1024
