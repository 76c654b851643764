# SPDX-License-Identifier: Apache-2.0
"""Why a sound SQLite file cannot be opened now, and what whoever opens it can do."""

from __future__ import annotations

import os
import sqlite3

from fairlead.drivers.sqlite.file import trouble_of
from fairlead.drivers.sqlite.room import is_no_room, is_used_up
from fairlead.errors import StoreError, StoreLocked

# Without room for the files that it keeps beside the database SQLite speaks of these.
_NO_ROOM_PERHAPS = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
_DENIED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)


def refusal(path: str | os.PathLike[str], error: sqlite3.Error | OSError) -> StoreError | None:
    """What an error at the opening of a file says of its surroundings; None if the file is to blame itself.

    Returns:
        StoreLocked: another program keeps it locked. StoreError: no room on the disk, no permission, or the
            disk fails.
    """
    name = os.fspath(path)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if trouble_of(error) == "busy":
        return StoreLocked(f"{name} is locked by another program: {error}; close it and start again")
    perhaps = code in _NO_ROOM_PERHAPS
    if trouble_of(error) == "full" or is_no_room(error) or (perhaps and is_used_up(name)):
        return StoreError(f"{name} cannot be used: the disk is full; free some space and try again")
    if isinstance(error, OSError) or code in _DENIED:
        reason = error.strerror if isinstance(error, OSError) else error
        return StoreError(
            f"{name} cannot be opened for writing: {reason}; its directory must exist, and both must be "
            f"writable for user {os.geteuid()}"
        )
    if code == sqlite3.SQLITE_IOERR:
        return StoreError(f"{name} cannot be used: {error}; look at its disk first: the file may be sound")
    return None
