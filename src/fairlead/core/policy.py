# SPDX-License-Identifier: Apache-2.0
"""Who may do what: principals and grants, default deny (design, section 8; interface, section 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Action = Literal["publish", "subscribe", "read", "operate", "admin"]
ACTIONS: tuple[Action, ...] = ("publish", "subscribe", "read", "operate", "admin")


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to do `may` on what matches; a pattern may end in `*`; None means all."""

    may: tuple[Action, ...]
    sources: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None
    subscriptions: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who logged in, with what they were granted."""

    name: str
    grants: tuple[Grant, ...]

    def may(
        self,
        action: Action,
        *,
        source: str | None = None,
        type: str | None = None,
        subscription: str | None = None,
    ) -> bool:
        """Whether any grant allows `action` on the named things; `admin` allows everything it covers."""
        for grant in self.grants:
            if (
                (action in grant.may or "admin" in grant.may)
                and _covers(grant.sources, source)
                and _covers(grant.types, type)
                and _covers(grant.subscriptions, subscription)
            ):
                return True
        return False


ANYONE = Principal("anonymous", (Grant(("admin",)),))
"""Whoever calls while no authentication is configured (loopback only)."""


def matches(pattern: str, value: str) -> bool:
    """Whether `value` is `pattern`, or begins with it where it ends in `*`."""
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern


def _covers(patterns: Sequence[str] | None, value: str | None) -> bool:
    return patterns is None or value is None or any(matches(pattern, value) for pattern in patterns)
