# SPDX-License-Identifier: Apache-2.0
"""What one request's body may be (interface, sections 3 and 9)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """`[limits]` as the web needs it.

    Attributes:
        event_bytes: the greatest event, and the greatest body of a bridge.
        request_bytes: the greatest body of any call.
        batch_events: the most events in one `POST /events`.
    """

    event_bytes: int = 1024 * 1024
    request_bytes: int = 8 * 1024 * 1024
    batch_events: int = 1000
