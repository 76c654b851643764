# SPDX-License-Identifier: Apache-2.0
"""How people write durations, sizes and times (interface, section 1), and what they may have meant.

Every value printed by a `format_…` is read back by its `parse_…` as the same number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from fractions import Fraction

_UNIT_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_SIZE_UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_NUMBER = r"([0-9]{1,18}(?:\.[0-9]{1,9})?)"
_DURATION = re.compile(_NUMBER + r"(ms|s|m|h|d)")
_SIZE = re.compile(_NUMBER + r"(B|KiB|MiB|GiB|TiB|)")
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,18}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_10000 = 253_402_300_800
MAX_DURATION_SECONDS = 3650 * 86_400
"""Ten years: longer ones are mistakes, and no sum of two of them leaves the calendar."""


def parse_duration(text: str) -> float:
    """The seconds that a duration names: `"250ms" "15s" "5m" "2h" "3d"`; fractions as `"1.5s"`.

    Raises:
        ValueError: not a duration, or longer than ten years; the message says what one looks like.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError('must be a duration such as "250ms", "15s", "5m", "2h" or "3d"')
    seconds = Fraction(match[1]) * _UNIT_MS[match[2]] / 1000
    if seconds > MAX_DURATION_SECONDS:
        raise ValueError('must be at most "3650d"')
    return float(seconds)


def format_duration(seconds: float) -> str:
    """A duration in the greatest unit that leaves it a whole number: `"5m"`, `"1500ms"`, `"0s"`.

    What is no whole number of milliseconds is written with a fraction of them, to the microsecond.
    """
    micros = round(seconds * 1_000_000)
    if micros == 0:
        return "0s"
    for unit, unit_ms in _UNIT_MS.items():
        if micros % (unit_ms * 1000) == 0:
            return f"{micros // (unit_ms * 1000)}{unit}"
    return f"{micros // 1000}.{micros % 1000:03d}".rstrip("0") + "ms"


def parse_size(text: str) -> int:
    """The bytes that a size names: `"64KiB" "1MiB" "512B" "512"`; fractions as `"1.5MiB"`.

    Raises:
        ValueError: not a size, or not a whole number of bytes; the message says what one looks like.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError('must be a size such as "512B", "64KiB", "1MiB" or "2GiB"')
    size = Fraction(match[1]) * _SIZE_UNITS[match[2]]
    if size.denominator != 1:
        raise ValueError("must be a whole number of bytes")
    return int(size)


def format_size(size_bytes: int) -> str:
    """A size in the greatest unit that leaves it a whole number: `"1MiB"`, `"1025B"`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size_bytes and size_bytes % _SIZE_UNITS[unit] == 0:
            return f"{size_bytes // _SIZE_UNITS[unit]}{unit}"
    return f"{size_bytes}B"


def parse_time(text: str) -> float:
    """The Unix seconds of an RFC 3339 time with any offset, from 1970 on; kept to the microsecond.

    Raises:
        ValueError: not such a time; the message says what one looks like.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError('must be an RFC 3339 time such as "2026-11-22T10:00:00Z"')
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    leap = second == 60  # RFC 3339 allows leap seconds; Unix time gives them the number of the next one
    try:
        moment = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"is no time of the calendar: {error}") from None
    hours, minutes = int(match[9] or 0), int(match[10] or 0)
    if hours > 23 or minutes > 59:
        raise ValueError("has an offset from UTC that no place has")
    offset = (hours * 3600 + minutes * 60) * (-1 if match[8] == "-" else 1)
    seconds = (moment - _EPOCH) // timedelta(seconds=1) + leap - offset
    if not 0 <= seconds < _YEAR_10000:
        raise ValueError("must lie between the years 1970 and 9999")
    return seconds + int((match[7] or "").ljust(6, "0")[:6]) / 1_000_000


def format_time(unix: float) -> str:
    """An RFC 3339 time in UTC: `"2026-11-22T10:00:00Z"`, with as many decimals as it needs, up to six."""
    # A float this far from 1970 holds no microseconds, so the calendar's last moment rounds up, out of it.
    micros = min(round(unix * 1_000_000), _YEAR_10000 * 1_000_000 - 1)
    moment = _EPOCH + timedelta(microseconds=micros)
    fraction = f".{moment.microsecond:06d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was most likely meant to be, or None where nothing is near."""
    by_lower = {candidate.lower().replace("-", "_"): candidate for candidate in known}
    close = get_close_matches(name[:64].lower().replace("-", "_"), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None
