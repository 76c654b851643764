# SPDX-License-Identifier: Apache-2.0
"""Rows and values: what the columns of the store mean in Python."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from fairlead.core.channel import Hold, HoldState, Progress, Skip, SkipReason
from fairlead.core.event import Event
from fairlead.core.log import Entry
from fairlead.core.outcome import Outcome
from fairlead.errors import StoreCorrupt

Row = tuple[Any, ...]

_END_OF_TIME = 2.0**38
"""Unix seconds, past the year 10000: no clock has said so."""

encode = msgspec.json.Encoder().encode
_ranges = msgspec.json.Decoder(tuple[tuple[int, int], ...]).decode
_outcome = msgspec.json.Decoder(Outcome).decode


def damaged(what: str) -> StoreCorrupt:
    """The error for something that does not hold what was written."""
    return StoreCorrupt(
        f"{what} does not hold what was written; run `fairlead store check` and restore a backup"
    )


def entry_of(partition: int, row: Row) -> Entry:
    """A row of the log (pos, key, attributes, data, form, digest, accepted_at), checked against its digest.

    Raises:
        StoreCorrupt: it is not what was written.
    """
    pos, key, attributes, data, form, digest, accepted_at = row
    try:
        event = Event.from_row(attributes, data, form)
        sound = event.digest == digest and event.key == key and 0.0 <= accepted_at < _END_OF_TIME
    except (ValueError, TypeError, KeyError, AttributeError):  # whatever a flipped bit makes of a row
        sound = False
    if not sound:
        raise damaged(f"event {partition}:{pos}")
    return Entry(partition, pos, key, event, accepted_at)


def progress_of(low_water: int, scan_pos: int, done_ranges: bytes) -> Progress:
    try:
        return Progress(low_water, scan_pos, _ranges(done_ranges))
    except (ValueError, TypeError) as error:
        raise damaged("progress.done_ranges") from error


def hold_of(row: Row) -> Hold:
    """A row of `hold` (key, head_pos, attempt, ready_at, state, since, last_outcome, last_at)."""
    key, head_pos, attempt, ready_at, state, since, last, last_at = row
    try:
        outcome = None if last is None else _outcome(last)
    except (ValueError, TypeError) as error:
        raise damaged("hold.last_outcome") from error
    return Hold(key, head_pos, attempt, ready_at, cast(HoldState, state), since, outcome, last_at)


def hold_row(subscription: str, partition: int, hold: Hold) -> Row:
    last = None if hold.last is None else encode(hold.last)
    return (
        subscription,
        partition,
        hold.key,
        hold.head_pos,
        hold.attempt,
        hold.ready_at,
        hold.state,
        hold.since,
        last,
        hold.last_at,
    )


def skip_row(subscription: str, generation: int, partition: int, skip: Skip) -> Row:
    return (
        subscription,
        generation,
        partition,
        skip.position,
        skip.key,
        skip.source,
        skip.id,
        skip.reason,
        skip.by,
        skip.at,
        skip.note,
    )


def skip_of(row: Row) -> Skip:
    """Columns (pos, key, source, id, reason, by, at, note) of a row of `skip`."""
    pos, key, source, id, reason, by, at, note = row
    return Skip(key, pos, source, id, cast(SkipReason, reason), by, at, note)
