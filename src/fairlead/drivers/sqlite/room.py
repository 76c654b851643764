# SPDX-License-Identifier: Apache-2.0
"""How much room a database in WAL mode has left, so that what must still be written finds some.

Asked before what grows is written, it also notices that the files are gone.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
import time
from pathlib import Path

from fairlead.drivers.sqlite.in_place import InPlace

_PLENTY_BYTES = 1024**3
_PLENTY_SECONDS = 0.1
_PROBE_BYTES = 64 * 1024
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Room:
    """The room of one file; made when a connection is open that has read, and stays open.

    Args:
        path: the database.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._in_place = InPlace(path)
        self._plenty_bytes, self._plenty_until = 0, 0.0

    def free_bytes(self, connection: sqlite3.Connection) -> int:
        """What is left for this user.

        On the disk, once all that is committed is in the file and not in the WAL; and of deleted rows inside
        the file, as far as the disk has room for the WAL through which they are filled. Where there is plenty
        it is not measured each time: nobody writes a GiB in a tenth of a second.

        Raises:
            OSError: somebody removed or replaced the database or its WAL.
        """
        now = time.monotonic()
        if now < self._plenty_until:
            return self._plenty_bytes
        disk = os.statvfs(self._path)
        self._in_place.check()
        page_bytes, pages, deleted = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_size", "page_count", "freelist_count")
        )
        room = disk.f_bavail * disk.f_frsize - max(0, pages * page_bytes - self._path.stat().st_size)
        free = int(room + max(0, min(deleted * page_bytes, room)))
        if room > _PLENTY_BYTES:
            self._plenty_bytes, self._plenty_until = free, now + _PLENTY_SECONDS
        return free


def is_no_room(error: BaseException) -> bool:
    """Whether the system says by an error that the disk is full, or what its user may have of it used up."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def is_used_up(path: str | os.PathLike[str]) -> bool:
    """Whether nothing more can be written beside a file, by trying: of a quota nothing else tells.

    SQLite says of a quota that is used up what it says of a disk that fails.
    """
    try:
        with tempfile.TemporaryFile(dir=Path(path).absolute().parent) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return is_no_room(error)
    return False
