# SPDX-License-Identifier: Apache-2.0
"""One durable store: six nouns over one database (design, section 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fairlead.errors import StoreFailed
from fairlead.ports.channels import Channels
from fairlead.ports.log import Log
from fairlead.ports.records import Attempts, Keys, Rejects, Subscriptions


class Store(Protocol):
    """One durable store: six nouns over one database.

    `shared` says that several nodes may share it (a filter change then waits for one answer first).
    `on_failed` is called once, on any thread, with the StoreFailed that ended serving.
    """

    shared: bool
    on_failed: Callable[[StoreFailed], None] | None

    @property
    def log(self) -> Log: ...
    @property
    def channels(self) -> Channels: ...
    @property
    def attempts(self) -> Attempts: ...
    @property
    def subscriptions(self) -> Subscriptions: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def rejects(self) -> Rejects: ...

    async def note(self, source: str, subject: str, text: str | None = None) -> str | None:
        """The small text remembered so far (bridges' last ids); with `text`, that one is remembered now."""

    def time_commits(self, observe: Callable[[float], None]) -> None:
        """Have the seconds that each commit takes observed, on one thread, whichever."""

    async def has_room(self) -> bool:
        """Whether the disk has room for events, and had it for all else that was to be stored last.

        Answers while the disk hangs, too.

        Raises:
            StoreError: the store is closed, or has failed.
        """

    async def check(self) -> list[str]:
        """Every damage found, as one line each; empty when sound. May take long."""

    async def close(self) -> None:
        """Commit what waits and let go of the database; idempotent."""
