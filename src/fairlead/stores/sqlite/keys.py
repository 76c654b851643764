# SPDX-License-Identifier: Apache-2.0
"""API keys on SQLite: `fairlead.ports.Keys`."""

from __future__ import annotations

import msgspec

from fairlead.core.policy import Grant
from fairlead.drivers.sqlite.file import Connection
from fairlead.ports import ApiKey
from fairlead.stores.sqlite.queries import queries
from fairlead.stores.sqlite.reader import Reader
from fairlead.stores.sqlite.rows import Row, damaged, encode
from fairlead.stores.sqlite.writer import Writer

_SQL = queries("access")
_grants = msgspec.json.Decoder(tuple[Grant, ...]).decode


class SqliteKeys:
    """API keys, by the digest of what callers present."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def add_key(self, key: ApiKey) -> None:
        row = (
            key.id,
            key.name,
            key.digest,
            encode(key.grants),
            key.created_at,
            key.expires_at,
            key.last_used_at,
        )
        await self._writer.write(lambda transaction: transaction.execute(_SQL["add_key"], row), guarded=False)

    async def keys(self) -> list[ApiKey]:
        return await self._reader.run(
            lambda connection: [_key_of(row) for row in connection.execute(_SQL["keys"])]
        )

    async def find_key(self, digest: bytes) -> ApiKey | None:
        def read(connection: Connection) -> ApiKey | None:
            row = connection.execute(_SQL["find_key"], (digest,)).fetchone()
            return None if row is None else _key_of(row)

        return await self._reader.run(read)

    async def touch_key(self, id: str, used_at: float) -> None:
        await self._writer.write(
            lambda transaction: transaction.execute(_SQL["touch_key"], (used_at, id)), guarded=False
        )

    async def delete_key(self, id: str) -> bool:
        return await self._writer.write(
            lambda transaction: transaction.execute(_SQL["delete_key"], (id,)).rowcount > 0, guarded=False
        )


def _key_of(row: Row) -> ApiKey:
    id, name, digest, grants, created_at, expires_at, last_used_at = row
    try:
        return ApiKey(id, name, digest, _grants(grants), created_at, expires_at, last_used_at)
    except (ValueError, TypeError) as error:
        raise damaged(f"API key {id!r}") from error
