# SPDX-License-Identifier: Apache-2.0
"""In which line of a TOML text a key stands: `tomllib` does not say."""

from __future__ import annotations

import re
from typing import NamedTuple

_HEADER = re.compile(r"\s*\[{1,2}\s*([^\[\]#]+?)\s*\]{1,2}\s*(?:#.*)?\Z")
_ASSIGNMENT = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")


class Place(NamedTuple):
    """A key in its table; `tables` is empty at the top level."""

    tables: tuple[str, ...]
    key: str

    @property
    def parts(self) -> tuple[str, ...]:
        return (*self.tables, self.key)


def line_of(source: str, place: Place) -> int | None:
    """The line, from 1, that gives `place`, or the nearest table around it; None where neither is seen.

    Understands headers, dotted keys and inline tables (the line on which they begin). It is for messages
    only: a key inside a multi-line string can mislead it.
    """
    best: tuple[int, int] | None = None
    header: tuple[str, ...] = ()
    for number, line in enumerate(source.splitlines(), start=1):
        if found := _HEADER.match(line):
            header = seen = _parts(found[1])
        elif assigned := _ASSIGNMENT.match(line):
            seen = (*header, *_parts(assigned[1]))
        else:
            continue
        if place.parts[: len(seen)] == seen and (best is None or len(seen) > best[0]):
            best = (len(seen), number)
    return None if best is None else best[1]


def line_in_array(source: str, array: str, at: int, key: str | None) -> int | None:
    """The line that gives `key` in the table number `at`, from 0, of the array of tables `array`.

    With no key, or where it is not seen, the table's header, `[[array]]`; where there is none (`array =
    [{…}]`) the line on which the array begins.
    """
    best = line_of(source, Place((), array)) if f"[[{array}]]" not in source.replace(" ", "") else None
    header: tuple[str, ...] = ()
    seen = -1
    for number, line in enumerate(source.splitlines(), start=1):
        if found := _HEADER.match(line):
            header = _parts(found[1])
            if header == (array,) and line.lstrip().startswith("[["):
                seen += 1
                best = number if seen == at else best
            elif seen == at and key is not None and header == (array, *_parts(key)):
                return number
        elif (
            seen == at
            and header[:1] == (array,)
            and (assigned := _ASSIGNMENT.match(line))
            and ".".join((*header[1:], *_parts(assigned[1]))) == key
        ):
            return number
    return best


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
