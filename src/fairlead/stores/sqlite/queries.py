# SPDX-License-Identifier: Apache-2.0
"""The SQL of the SQLite store, by file and name.

Statements live in `stores/sql/*.sql`, each under a line `-- name: …`; the schema is what the numbered files
in `stores/sql/migrations` make of an empty database, one after the other.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from fairlead.drivers.sqlite.file import Connection, Error

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"--[^\n]*\n|;\s*\Z")
_SQL = files("fairlead.stores").joinpath("sql")


@cache
def queries(file: str) -> dict[str, str]:
    """The statements of one file by name, without comments."""
    parts = _NAME.split(_SQL.joinpath(f"{file}.sql").read_text("utf-8"))[1:]
    return {
        name: _COMMENT.sub("", body).strip().rstrip(";")
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }


@cache
def migrations() -> tuple[tuple[int, str], ...]:
    """Every migration with its number, ascending from 1 without a gap."""
    found = sorted(
        (int(file.name[:4]), file.read_text("utf-8")) for file in _SQL.joinpath("migrations").iterdir()
    )
    if [number for number, _ in found] != list(range(1, len(found) + 1)):
        raise RuntimeError(f"migrations are not numbered 1, 2, 3 …: {[number for number, _ in found]}")
    return tuple(found)


def newest_version() -> int:
    """The `user_version` of a store that this Fairlead writes."""
    return len(migrations())


def migrate(connection: Connection, version: int) -> None:
    """Bring a database from `version` to the newest, one transaction per migration."""
    for number, script in migrations()[version:]:
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
        except Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
