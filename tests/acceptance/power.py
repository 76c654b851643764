# SPDX-License-Identifier: Apache-2.0
"""Power cuts and kills at named points, by a preload library (unsynced.c) under a real process.

The library notes what every write to a file overwrote, and which of it was fsynced. After a kill, `cut` puts
the files into a state in which a power cut could have left them: what was not fsynced is gone, or, as disks
write in any order, part of it is there and part is not.
"""

from __future__ import annotations

import os
import random
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Call = Literal["write", "sync"]
When = Literal["before", "after"]

_LIBRARY = Path(__file__).with_name("unsynced.c")
_NUMBERS = struct.Struct("<QQQQ")


@dataclass(frozen=True)
class _Change:
    """One write or truncation that was not known to be on disk."""

    path: str
    offset: int
    old_size: int
    size: int
    old: bytes
    at: int


@dataclass
class _File:
    changes: list[_Change] = field(default_factory=list)
    durable_until: int = 0


class Disk:
    """The disk under the files in `root`.

    Args:
        place: where the library and its log are; not within `root`.
    """

    def __init__(self, root: Path, place: Path) -> None:
        self._log = place / "unsynced"
        self._arm = place / "arm"
        self._library = place / "unsynced.so"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-o", self._library, _LIBRARY, "-ldl", "-lpthread"],
            check=True,
        )
        self.environment = {
            "LD_PRELOAD": str(self._library),
            "UNSYNCED_ROOT": os.path.realpath(root),
            "UNSYNCED_LOG": str(self._log),
            "UNSYNCED_ARM": str(self._arm),
        }

    def kill_at(self, call: Call, when: When, number: int = 1) -> None:
        """From now on, kill the process before or after its `number`-th write or fsync."""
        draft = self._arm.with_suffix(".draft")
        draft.write_text(f"{call} {when} {number}")
        draft.replace(self._arm)

    def disarm(self) -> None:
        """Forget an order that was not carried out."""
        self._arm.unlink(missing_ok=True)

    @property
    def unsynced(self) -> int:
        """How many writes would be lost now."""
        return sum(len(file.changes) for file in self._read().values())

    def cut(self, survivors: random.Random | None = None) -> int:
        """After the process is gone: put back what was not fsynced.

        Args:
            survivors: chooses what reached the disk all the same; nothing if None.

        Returns:
            How many writes were lost.
        """
        lost = 0
        for path, file in self._read().items():
            if file.changes and Path(path).exists():
                lost += _put_back(Path(path), file.changes, survivors)
        for memory in {Path(f"{path.removesuffix('-wal')}-shm") for path in self._read()}:
            memory.unlink(missing_ok=True)  # it was never on a disk
        self.forget()
        return lost

    def forget(self) -> None:
        """Take everything for durable, as after a mere kill."""
        self._log.unlink(missing_ok=True)

    def _read(self) -> dict[str, _File]:
        """What is not durable, by file."""
        files: dict[str, _File] = {}
        data = self._log.read_bytes() if self._log.exists() else b""
        at = 0
        while at < len(data):
            begin, kind = at, data[at : at + 1]
            (name_length,) = struct.unpack_from("<H", data, at + 1)
            at += 3
            path = data[at : at + name_length].decode()
            at += name_length
            first, second, size, length = _NUMBERS.unpack_from(data, at)
            at += _NUMBERS.size
            file = files.setdefault(path, _File())
            if kind == b"S":
                file.durable_until = max(file.durable_until, first)
            else:
                file.changes.append(_Change(path, first, second, size, data[at : at + length], begin))
                at += length
        for file in files.values():
            file.changes = [change for change in file.changes if change.at >= file.durable_until]
        return files


def _put_back(path: Path, changes: list[_Change], survivors: random.Random | None) -> int:
    final = path.read_bytes()
    with path.open("r+b") as file:
        for change in reversed(changes):
            file.truncate(change.old_size)
            file.seek(change.offset)
            file.write(change.old)
            file.truncate(change.old_size)
        kept = [change for change in changes if survivors is not None and survivors.random() < 0.5]
        for change in kept:
            file.seek(change.offset)
            file.write(final[change.offset : change.offset + change.size])
    return len(changes) - len(kept)
