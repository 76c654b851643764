# SPDX-License-Identifier: Apache-2.0
"""Whether the files of an open database are still where they were.

SQLite would go on with files that were removed or replaced, and nothing of what it writes to them would be
there after the end of the process.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path


class InPlace:
    """The files of one database; made when a connection is open that has read, and stays open.

    Args:
        path: the database.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        database = Path(path)
        # While a connection is open SQLite neither removes nor replaces its WAL; it may only be empty.
        wal = database.with_name(database.name + "-wal")
        self._opened = [(file, file.stat()) for file in (database, wal) if file.exists()]

    def check(self) -> None:
        """Raise OSError if somebody removed or replaced the database or its WAL."""
        for file, opened in self._opened:
            try:
                found = os.stat(file)  # noqa: PTH116  # at every commit: half the time of Path.stat
            except FileNotFoundError:
                found = None
            if found is None or not os.path.samestat(found, opened):
                raise OSError(errno.ESTALE, f"{file.name} was removed or replaced while it was in use")
