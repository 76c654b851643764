# SPDX-License-Identifier: Apache-2.0
"""Reading one lane's events in small pages: a lane may be long and its events large."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from fairlead.core.log import Entry
from fairlead.engine.revisions import Wants
from fairlead.ports import Log

PAGE = 32


class Span(NamedTuple):
    """The events of a key from `first` up to and with `last`."""

    partition: int
    key: str
    first: int
    last: int


async def wanted(log: Log, span: Span, wants: Wants, *, page: int = PAGE) -> AsyncIterator[Entry]:
    """Those that the channel wants, ascending."""
    partition, key, first, last = span
    while first <= last:
        entries = await log.read_lane(partition, key, first, last, page)
        for entry in entries:
            if wants(entry):
                yield entry
        if len(entries) < page:
            return
        first = entries[-1].position + 1


async def first_wanted(log: Log, span: Span, wants: Wants) -> Entry | None:
    """The first of them: a lane's real head."""
    async for entry in wanted(log, span, wants, page=4):
        return entry
    return None


async def head_and_count(log: Log, span: Span, wants: Wants, *, most: int) -> tuple[Entry | None, int]:
    """A lane's real head, and how many events there are with it; counted up to `most`."""
    head, count = None, 0
    async for entry in wanted(log, span, wants):
        head = head or entry
        count += 1
        if count == most:
            break
    return head, count
