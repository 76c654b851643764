# SPDX-License-Identifier: Apache-2.0
"""Attempts on SQLite: `fairlead.ports.Attempts`.

Nearly every delivery succeeds at once; those of one flush share a row, so that looking back costs deliveries
next to nothing. Failures, and successes after one, have a row of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import msgspec

from fairlead.core.channel import Attempt, ChannelId
from fairlead.core.outcome import Outcome, OutcomeKind
from fairlead.drivers.sqlite.file import Connection
from fairlead.stores.sqlite.jobs import Transaction
from fairlead.stores.sqlite.queries import queries
from fairlead.stores.sqlite.reader import Reader
from fairlead.stores.sqlite.rows import Row, damaged, encode
from fairlead.stores.sqlite.writer import Writer

_SQL = queries("attempt")
_PACK = 1024  # attempts a row may hold; a row's number times this, plus the place in it, numbers an attempt

Packed = tuple[int, str, int, float, int, int | None]
_unpack = msgspec.json.Decoder(list[Packed]).decode


class SqliteAttempts:
    """What users look at."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def attempts(
        self,
        subscription: str,
        *,
        key: str | None = None,
        outcome: str | None = None,
        partition: int | None = None,
        position: int | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> list[tuple[int, ChannelId, Attempt]]:
        before = after if after is not None else 1 << 62
        arguments = {
            "subscription": subscription,
            "before": before // _PACK + 1,
            "outcome": outcome,
            "partition": partition,
            "position": position,
            "key": key,
            "packed_key": None if key is None else encode(key),
        }

        def read(connection: Connection) -> list[tuple[int, ChannelId, Attempt]]:
            found: list[tuple[int, ChannelId, Attempt]] = []
            for row in connection.execute(_SQL["list"], arguments):
                channel = ChannelId(subscription, row[1])
                for number, attempt in _attempts_of(row):
                    if (
                        number < before
                        and (key is None or attempt.key == key)
                        and (position is None or attempt.position == position)
                    ):
                        found.append((number, channel, attempt))
                        if len(found) >= limit:
                            return found
            return found

        return await self._reader.run(read)

    async def last_error(self, subscription: str) -> tuple[float, Outcome] | None:
        def read(connection: Connection) -> tuple[float, Outcome] | None:
            row = connection.execute(_SQL["last_error"], (subscription,)).fetchone()
            return None if row is None else (row[0], Outcome(cast(OutcomeKind, row[1]), row[2], row[3]))

        return await self._reader.run(read)

    async def prune_attempts(self, older_than: float, limit: int) -> int:
        arguments = {"older_than": older_than, "limit": limit}
        return await self._writer.write(
            lambda transaction: transaction.execute(_SQL["prune"], arguments).rowcount, guarded=False
        )


def record(transaction: Transaction, channel: ChannelId, attempts: Sequence[Attempt]) -> None:
    """Store what one flush says was tried: first-try successes together, in the order of the flush."""
    packed = []
    for attempt in attempts:
        if attempt.attempt == 1 and attempt.outcome.kind == "delivered":
            packed.append(attempt)
        else:
            transaction.execute(_SQL["insert"], _row(channel, attempt))
    for start in range(0, len(packed), _PACK):
        transaction.execute(_SQL["insert"], _packed_row(channel, packed[start : start + _PACK]))


def _row(channel: ChannelId, attempt: Attempt) -> Row:
    outcome = attempt.outcome
    return (
        *channel,
        attempt.position,
        attempt.position,
        attempt.key,
        attempt.attempt,
        attempt.target,
        attempt.started_at,
        attempt.duration_ms,
        outcome.kind,
        outcome.status,
        outcome.detail,
        None,
    )


def _packed_row(channel: ChannelId, attempts: Sequence[Attempt]) -> Row:
    positions = [attempt.position for attempt in attempts]
    newest = max(attempt.started_at for attempt in attempts)
    pack = encode(
        [(a.position, a.key, a.target, a.started_at, a.duration_ms, a.outcome.status) for a in attempts]
    )
    return (*channel, min(positions), max(positions), None, 1, 0, newest, 0, "delivered", None, "", pack)


def _attempts_of(row: tuple[Any, ...]) -> Iterator[tuple[int, Attempt]]:
    """The attempts of one row, newest first, each with its number."""
    number, _, position, key, attempt, target, started_at, duration_ms, kind, status, detail, packed = row
    if packed is None:
        outcome = Outcome(kind, status, detail)
        yield number * _PACK, Attempt(position, key, attempt, target, started_at, duration_ms, outcome)
        return
    try:
        items = _unpack(packed)
    except (ValueError, TypeError) as error:
        raise damaged(f"attempt {number}") from error
    for place in range(len(items) - 1, -1, -1):
        position, key, target, started_at, duration_ms, status = items[place]
        yield (
            number * _PACK + place,
            Attempt(position, key, 1, target, started_at, duration_ms, Outcome("delivered", status)),
        )
