# SPDX-License-Identifier: Apache-2.0
"""Subscriptions on SQLite: `fairlead.ports.Subscriptions`.

The record holds what was asked for; what changes beside it (state, revision, generation) has columns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from fairlead.core.subscription import Matching, State, Subscription
from fairlead.core.subscription_record import from_record, matching_from_json, matching_to_json, to_record
from fairlead.drivers.sqlite.file import Connection
from fairlead.errors import NotFound, RevisionMismatch, SubscriptionExists
from fairlead.stores.sqlite import log as sqlite_log
from fairlead.stores.sqlite.jobs import Transaction
from fairlead.stores.sqlite.queries import queries
from fairlead.stores.sqlite.reader import Reader
from fairlead.stores.sqlite.rows import Row, damaged
from fairlead.stores.sqlite.writer import Writer

_SQL = queries("subscription")
_CHANNEL = queries("channel")
_OWNED = ("channels", "progress", "holds", "skips", "filters", "matchings", "attempts")


class SqliteSubscriptions:
    """What was asked for, and the channels that carry it out."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def create(self, subscription: Subscription, now_ms: int) -> Subscription:
        return await self._writer.write(lambda transaction: _create(transaction, subscription, now_ms))

    async def replace(self, subscription: Subscription, expected_revision: int) -> Subscription:
        return await self._writer.write(
            lambda transaction: store_revision(transaction, subscription, expected_revision)
        )

    async def set_state(self, id: str, state: str, reason: str | None, now: float) -> Subscription:
        return await self._writer.write(lambda transaction: _set_state(transaction, id, state, reason, now))

    async def get(self, id: str) -> Subscription | None:
        return await self._reader.run(lambda connection: find(connection, id))

    async def all(self) -> list[Subscription]:
        return await self._reader.run(
            lambda connection: [_subscription_of(row) for row in connection.execute(_SQL["all"])]
        )

    async def delete(self, id: str) -> bool:
        return await self._writer.write(lambda transaction: _delete(transaction, id))

    async def matching(self, id: str, revision: int) -> Matching:
        row = await self._reader.run(
            lambda connection: connection.execute(_SQL["matching"], (id, revision)).fetchone()
        )
        if row is None:
            raise NotFound(f"there is no revision {revision} of a subscription {id!r}")
        try:
            return matching_from_json(row[0])
        except (ValueError, TypeError) as error:
            raise damaged(f"the filter of subscription {id!r}") from error


def not_found(id: str) -> NotFound:
    return NotFound(f"there is no subscription {id!r}")


def find(connection: Connection, id: str) -> Subscription | None:
    """A subscription as it stands, with its revision, state and generation."""
    row = connection.execute(_SQL["get"], (id,)).fetchone()
    return None if row is None else _subscription_of(row)


def raise_generation(transaction: Transaction, id: str, now_ms: int) -> int:
    """A generation greater than every earlier one of that name, stored."""
    return int(transaction.execute(_SQL["raise_generation"], (id, now_ms)).fetchone()[0])


def store_revision(
    transaction: Transaction, subscription: Subscription, expected_revision: int | None = None
) -> Subscription:
    """Store a new revision; what stands gives state, reason, times and generation.

    Raises:
        RevisionMismatch: another revision than `expected_revision` stands. NotFound: there is none.
    """
    standing = find(transaction.connection, subscription.id)
    if standing is None:
        raise not_found(subscription.id)
    if expected_revision is not None and standing.revision != expected_revision:
        raise RevisionMismatch(
            f"subscription {subscription.id!r} is at revision {standing.revision}, not {expected_revision}; "
            "read it again and repeat the change",
            members={"revision": standing.revision},
        )
    stored = replace(
        subscription,
        revision=standing.revision + 1,
        state=standing.state,
        reason=standing.reason,
        since=standing.since,
        created_at=standing.created_at,
        generation=standing.generation,
    )
    row = (stored.revision, stored.state, stored.reason, stored.since, to_record(stored), stored.id)
    transaction.execute(_SQL["update"], row)
    if stored.matching != standing.matching:
        transaction.execute(
            _SQL["put_matching"], (stored.id, stored.revision, matching_to_json(stored.matching))
        )
    return stored


def _subscription_of(row: Row) -> Subscription:
    id, revision, state, reason, since, created_at, record, generation = row
    try:
        subscription = from_record(record)
    except (ValueError, TypeError) as error:
        raise damaged(f"subscription {id!r}") from error
    return replace(
        subscription,
        id=id,
        revision=revision,
        state=cast(State, state),
        reason=reason,
        since=since,
        created_at=created_at,
        generation=generation,
    )


def _create(transaction: Transaction, subscription: Subscription, now_ms: int) -> Subscription:
    now = now_ms / 1000
    stored = replace(
        subscription,
        revision=1,
        since=subscription.since or now,
        created_at=subscription.created_at or now,
        generation=0,
    )
    row = (stored.id, 1, stored.state, stored.reason, stored.since, stored.created_at, to_record(stored))
    if not transaction.execute(_SQL["insert"], row).rowcount:
        raise SubscriptionExists(
            f"subscription {stored.id!r} exists; "
            "choose another id, or replace it with PUT and its ETag in If-Match"
        )
    generation = raise_generation(transaction, stored.id, now_ms)
    transaction.execute(_SQL["put_matching"], (stored.id, 1, matching_to_json(stored.matching)))
    for partition, first in _starts(transaction, stored).items():
        transaction.execute(_SQL["insert_channel"], (stored.id, partition, generation))
        transaction.execute(_SQL["insert_progress"], (stored.id, partition, first - 1, first - 1, b"[]"))
        transaction.execute(_CHANNEL["put_filter"], (stored.id, partition, 1, 1))
    return replace(stored, generation=generation)


def _starts(transaction: Transaction, subscription: Subscription) -> dict[int, int]:
    """The first position of every channel."""
    transaction.write_heads()  # the appends of this very commit come before this subscription
    start = subscription.start
    if start.at == "beginning":
        return sqlite_log.oldest(transaction.connection)
    if start.at == "time" and start.time is not None:
        return sqlite_log.first_at(transaction.connection, start.time)
    return {partition: head + 1 for partition, head in enumerate(transaction.heads)}


def _set_state(transaction: Transaction, id: str, state: str, reason: str | None, now: float) -> Subscription:
    standing = find(transaction.connection, id)
    if standing is None:
        raise not_found(id)
    changed = standing.state != state
    stored = replace(
        standing, state=cast(State, state), reason=reason, since=now if changed else standing.since
    )
    transaction.execute(_SQL["put_state"], (stored.state, stored.reason, stored.since, id))
    if changed:
        transaction.execute(_CHANNEL["raise_epochs"], (id,))
    return stored


def _delete(transaction: Transaction, id: str) -> bool:
    if not transaction.execute(_SQL["delete"], (id,)).rowcount:
        return False
    for owned in _OWNED:
        transaction.execute(_SQL[f"delete_{owned}"], (id,))
    return True
