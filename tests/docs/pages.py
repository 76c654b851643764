# SPDX-License-Identifier: Apache-2.0
"""The pages of the documentation and the blocks in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
NOT_RUN = "not run: "

_FENCE = re.compile(r"^```(\S*)[ ]?(.*?)\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: what language it is in, what else its first line says, and where it stands."""

    page: Path
    line: int
    language: str
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    source = page.read_text()
    for found in _FENCE.finditer(source):
        line = source.count("\n", 0, found.start()) + 1
        yield Block(page, line, found[1], found[2].strip(), found[3])


def name_of(page: Path) -> str:
    """A page's path from the root, for messages and test names."""
    return str(page.relative_to(ROOT))
