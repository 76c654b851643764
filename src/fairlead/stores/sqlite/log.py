# SPDX-License-Identifier: Apache-2.0
"""The log on SQLite: `fairlead.ports.Log`.

Positions come from the writer's memory of the heads, so accepting an event is one INSERT, and those of a
commit one statement; a duplicate is what that INSERT finds in its way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairlead.core.event import Event, partition_of
from fairlead.core.log import PAGE_BYTES, Appended, Entry, EventQuery
from fairlead.drivers.sqlite.file import Connection
from fairlead.errors import EventConflict, Fault
from fairlead.stores.sqlite.jobs import Transaction
from fairlead.stores.sqlite.queries import queries
from fairlead.stores.sqlite.reader import Reader
from fairlead.stores.sqlite.rows import Row, damaged, entry_of
from fairlead.stores.sqlite.writer import Writer

_SQL = queries("log")
_APPEND = _SQL["append"]
_ROW_BYTES = 1024  # about what a row takes beside its attributes and data, indexes included

Prepared = tuple[Event, int, str, Row]


class SqliteLog:
    """The append-only sequence of accepted events.

    Args:
        partitions: how many partitions the store has; fixed when it was made.
        pages: the reader of what deliveries wait for; `lists` that of what people ask for.
    """

    def __init__(self, writer: Writer, *, pages: Reader, lists: Reader, partitions: int) -> None:
        self.partitions = partitions
        self._writer = writer
        self._pages = pages
        self._lists = lists

    async def append(self, events: Sequence[Event], accepted_at: float) -> list[Appended]:
        if not events:
            return []
        prepared = [_prepare(event, self.partitions, accepted_at) for event in events]
        size = sum([_ROW_BYTES + event.size for event in events])
        # One event that conflicts has written nothing; several need their savepoint.
        return await self._writer.append(
            lambda transaction: _append(transaction, prepared, accepted_at),
            guarded=len(prepared) > 1,
            size_bytes=size,
            propose=lambda transaction: _propose(transaction, prepared, accepted_at),
        )

    async def heads(self) -> dict[int, int]:
        return await self._lists.run(_heads)

    async def oldest(self) -> dict[int, int]:
        return await self._lists.run(oldest)

    async def read(self, partition: int, after: int, limit: int) -> list[Entry]:
        return await self._pages.run(
            lambda connection: _page(
                connection, partition, _SQL["page"], (partition, after, limit), PAGE_BYTES
            )
        )

    async def read_lane(self, partition: int, key: str, first: int, last: int, limit: int) -> list[Entry]:
        return await self._pages.run(
            lambda connection: _entries(
                connection, partition, _SQL["lane"], (partition, key, first, last, limit)
            )
        )

    async def search(self, query: EventQuery) -> list[Entry]:
        return await self._lists.run(lambda connection: _search(connection, query, self.partitions))

    async def first_at(self, accepted_at: float) -> dict[int, int]:
        return await self._lists.run(lambda connection: first_at(connection, accepted_at))

    async def prune(self, partition: int, positions: Sequence[int]) -> int:
        return await self._writer.write(
            lambda transaction: delete_entries(transaction, partition, positions), guarded=False
        )

    async def size_bytes(self) -> int:
        return await self._pages.run(_size_bytes)  # intake asks for it: no search may hold that up


def _prepare(event: Event, partitions: int, accepted_at: float) -> Prepared:
    key = event.key
    partition = partition_of(key, partitions)
    row = (
        partition,
        key,
        event.source,
        event.id,
        event.type,
        event.subject,
        event.time,
        event.datacontenttype,
        event.form,
        event.head,
        event.payload,
        event.digest,
        accepted_at,
    )
    return event, partition, key, row


def _propose(
    transaction: Transaction, prepared: Sequence[Prepared], accepted_at: float
) -> tuple[list[Row], list[Appended]]:
    """The rows of events that are all new, at the next positions, and what their append will say."""
    heads, touched = transaction.heads, transaction.touched
    rows: list[Row] = []
    appended: list[Appended] = []
    for event, partition, key, row in prepared:
        pos = heads[partition] = heads[partition] + 1
        touched.add(partition)
        rows.append((*row, pos))
        appended.append(Appended(Entry(partition, pos, key, event, accepted_at), False))
    return rows, appended


def _append(transaction: Transaction, prepared: Sequence[Prepared], accepted_at: float) -> list[Appended]:
    execute, heads, touched = transaction.execute, transaction.heads, transaction.touched
    appended: list[Appended] = []
    conflicts: list[tuple[int, Entry]] = []
    for index, (event, partition, key, row) in enumerate(prepared):
        pos = heads[partition] + 1
        if execute(_APPEND, (*row, pos)).rowcount:
            heads[partition] = pos
            touched.add(partition)
            appended.append(Appended(Entry(partition, pos, key, event, accepted_at), False))
            continue
        standing = _standing(transaction, partition, event)
        if standing.event.same_as(event):
            appended.append(Appended(standing, True))
        else:
            conflicts.append((index, standing))
    if conflicts:
        raise _refusal(prepared, conflicts)
    return appended


def _standing(transaction: Transaction, partition: int, event: Event) -> Entry:
    """What stood in the way of an event."""
    row = transaction.execute(_SQL["standing"], (partition, event.source, event.id, event.key)).fetchone()
    if row is None:  # then the position was taken: the counter is below the log
        raise damaged(f"partition_head of partition {partition}")
    return entry_of(partition, row)


def _refusal(prepared: Sequence[Prepared], conflicts: Sequence[tuple[int, Entry]]) -> EventConflict:
    """What is wrong with events that would have to change: by their index, with what stands in the way."""
    first: dict[tuple[str, str, str], int] = {}
    for index, (event, _, key, _) in enumerate(prepared):
        first.setdefault((event.source, event.id, key), index)
    faults = []
    for index, standing in conflicts:
        event, _, key, _ = prepared[index]
        name, before = f"{event.id!r} of {event.source!r}", first[event.source, event.id, key]
        detail = f"another event was accepted as {name}, at position {standing.partition}:{standing.position}"
        if before < index:
            detail = f"another event of the same batch, at index {before}, is {name} too"
        hint = "an event never changes: give what has changed an id of its own"
        faults.append(Fault(detail=detail, index=index, pointer="/id", hint=hint))
    return EventConflict(faults[0].detail, faults=faults)


def _entries(connection: Connection, partition: int, sql: str, arguments: Any) -> list[Entry]:
    return [entry_of(partition, row) for row in connection.execute(sql, arguments)]


def _page(connection: Connection, partition: int, sql: str, arguments: Any, room_bytes: int) -> list[Entry]:
    """As `_entries`, until `room_bytes` are used up; at least one."""
    found: list[Entry] = []
    for row in connection.execute(sql, arguments):
        entry = entry_of(partition, row)
        found.append(entry)
        room_bytes -= entry.event.size
        if room_bytes <= 0:
            break
    return found


def _heads(connection: Connection) -> dict[int, int]:
    return dict(connection.execute(_SQL["heads"]).fetchall())


def oldest(connection: Connection) -> dict[int, int]:
    """The lowest position kept in every partition; head + 1 where nothing is kept."""
    return {
        partition: connection.execute(_SQL["oldest"], (partition,)).fetchone()[0] or head + 1
        for partition, head in _heads(connection).items()
    }


def first_at(connection: Connection, accepted_at: float) -> dict[int, int]:
    """The first position accepted at or after a time in every partition; head + 1 where there is none."""
    return {
        partition: connection.execute(_SQL["first_at"], (partition, accepted_at)).fetchone()[0] or head + 1
        for partition, head in _heads(connection).items()
    }


def _search(connection: Connection, query: EventQuery, partitions: int) -> list[Entry]:
    where: Sequence[int] = range(partitions)
    if query.key is not None:
        name, where = "search_key", [partition_of(query.key, partitions)]
    else:
        name = "search_identity" if query.source is not None and query.id is not None else "search_scan"
    after = dict(query.after)
    arguments = {
        "key": query.key,
        "source": query.source,
        "id": query.id,
        "subject": query.subject,
        "type": query.type,
        "accepted_after": query.accepted_after,
    }
    found: list[Entry] = []
    for partition in where:
        room_bytes = PAGE_BYTES - sum(entry.event.size for entry in found)
        if len(found) >= query.limit or room_bytes <= 0:
            break
        place = {"partition": partition, "after": after.get(partition, 0), "limit": query.limit - len(found)}
        found += _page(connection, partition, _SQL[name], arguments | place, room_bytes)
    return found


def delete_entries(transaction: Transaction, partition: int, positions: Sequence[int]) -> int:
    """Delete entries, and the filters that nothing kept needs any more; how many entries there were."""
    deleted = transaction.connection.executemany(
        _SQL["prune"], ((partition, position) for position in positions)
    ).rowcount
    if deleted > 0:
        lowest = oldest(transaction.connection)[partition]
        transaction.execute(_SQL["forget_filters"], {"partition": partition, "oldest": lowest})
        transaction.execute(_SQL["forget_matchings"])
    return max(deleted, 0)


def _size_bytes(connection: Connection) -> int:
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
