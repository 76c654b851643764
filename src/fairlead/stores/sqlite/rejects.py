# SPDX-License-Identifier: Apache-2.0
"""Rejects and notes on SQLite: `fairlead.ports.Rejects`, and the small texts that the bridges remember."""

from __future__ import annotations

import msgspec

from fairlead.core.log import PAGE_BYTES
from fairlead.drivers.sqlite.file import Connection
from fairlead.ports import Reject
from fairlead.stores.sqlite.jobs import Transaction
from fairlead.stores.sqlite.queries import queries
from fairlead.stores.sqlite.reader import Reader
from fairlead.stores.sqlite.rows import Row, damaged, encode
from fairlead.stores.sqlite.writer import Writer

_SQL = queries("access")
_ROW_BYTES = 512
_headers = msgspec.json.Decoder(dict[str, str]).decode


class SqliteRejects:
    """What could not be taken as an event; refused, like an append, where it would use the disk reserve."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def add_reject(self, reject: Reject) -> None:
        row = (
            reject.id,
            reject.source,
            reject.received_at,
            reject.reason,
            encode(dict(reject.headers)),
            reject.body,
            reject.size_bytes,
        )
        await self._writer.append(
            lambda transaction: transaction.execute(_SQL["add_reject"], row),
            guarded=False,
            size_bytes=_ROW_BYTES + len(reject.body),
        )

    async def has_like(self, reject: Reject, header: str) -> bool:
        named = encode({header: reject.headers[header]})[1:-1]  # no other text of such JSON has it in it
        arguments = {
            "source": reject.source,
            "body": reject.body,
            "size_bytes": reject.size_bytes,
            "header": named,
        }
        return await self._reader.run(
            lambda connection: bool(connection.execute(_SQL["has_like"], arguments).fetchone()[0])
        )

    async def rejects(self, source: str | None, after: str | None, limit: int) -> list[Reject]:
        arguments = {"source": source, "after": after or "", "limit": limit}

        def read(connection: Connection) -> list[Reject]:
            found: list[Reject] = []
            room_bytes = PAGE_BYTES
            for row in connection.execute(_SQL["rejects"], arguments):
                found.append(_reject_of(row))
                room_bytes -= len(found[-1].body)
                if room_bytes <= 0:
                    break
            return found

        return await self._reader.run(read)

    async def reject(self, id: str) -> Reject | None:
        def read(connection: Connection) -> Reject | None:
            row = connection.execute(_SQL["reject"], (id,)).fetchone()
            return None if row is None else _reject_of(row)

        return await self._reader.run(read)

    async def delete_reject(self, id: str) -> bool:
        return await self._writer.write(
            lambda transaction: transaction.execute(_SQL["delete_reject"], (id,)).rowcount > 0, guarded=False
        )

    async def prune_rejects(self, older_than: float, limit: int) -> int:
        arguments = {"older_than": older_than, "limit": limit}
        return await self._writer.write(
            lambda transaction: transaction.execute(_SQL["prune_rejects"], arguments).rowcount, guarded=False
        )


def note(transaction: Transaction, source: str, subject: str, text: str) -> str | None:
    """Remember a text; what was remembered before."""
    standing = read_note(transaction.connection, source, subject)
    if standing != text:
        transaction.execute(_SQL["put_note"], (source, subject, text))
    return standing


def read_note(connection: Connection, source: str, subject: str) -> str | None:
    """The text that is remembered, None for none."""
    row = connection.execute(_SQL["note"], (source, subject)).fetchone()
    return None if row is None else str(row[0])


def _reject_of(row: Row) -> Reject:
    id, source, received_at, reason, headers, body, size_bytes = row
    try:
        return Reject(id, source, received_at, reason, _headers(headers), body, size_bytes)
    except (ValueError, TypeError) as error:
        raise damaged(f"reject {id!r}") from error
