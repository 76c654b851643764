# SPDX-License-Identifier: Apache-2.0
"""Durations, sizes, times and near names: what is printed is read back, what is wrong is told."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.durations import (
    MAX_DURATION_SECONDS,
    format_duration,
    format_size,
    format_time,
    nearest,
    parse_duration,
    parse_size,
    parse_time,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25), ("15s", 15), ("5m", 300), ("2h", 7200), ("3d", 259_200), ("1.5s", 1.5), ("0s", 0),
        ("0.5ms", 0.0005), ("007s", 7),
    ],
)  # fmt: skip
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "", "15", "s", "15 s", " 15s", "15s ", "-1s", "+1s", "1e3s", "15S", "1w", "1.s", ".5s", "1m30s",
        "\u0661s", "1s\n",
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match='such as "250ms"'):
        parse_duration(text)


def test_a_duration_beyond_ten_years_is_refused() -> None:
    assert parse_duration("3650d") == MAX_DURATION_SECONDS
    with pytest.raises(ValueError, match="at most"):
        parse_duration("999999999999999d")


@given(st.integers(0, MAX_DURATION_SECONDS * 1_000_000))
def test_a_printed_duration_is_read_back(micros: int) -> None:
    seconds = micros / 1_000_000
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-7)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.005, "5ms"), (1.5, "1500ms"), (60, "1m"), (90, "90s"), (86_400, "1d"), (0.0005, "0.5ms")],
)
def test_a_duration_is_printed_in_the_greatest_whole_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("64KiB", 65_536), ("1MiB", 2**20), ("1.5MiB", 1_572_864), ("512B", 512), ("512", 512), ("2GiB", 2**31)],
)
def test_a_size_is_read(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "1MB", "1 MiB", "-1", "1mib", "KiB", "1e3", "0x10", "1KiB\n"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as"):
        parse_size(text)


def test_half_a_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number"):
        parse_size("0.5B")


@given(st.integers(0, 2**50))
def test_a_printed_size_is_read_back(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


@given(st.integers(0, 253_402_300_799_999_999))
def test_a_printed_time_is_read_back(micros: int) -> None:
    unix = micros / 1_000_000
    assert parse_time(format_time(unix)) == pytest.approx(unix, abs=2e-5)
    assert format_time(unix).endswith("Z")


@given(st.datetimes(datetime(1971, 1, 1), datetime(9998, 1, 1)), st.integers(-1439, 1439))
def test_an_offset_is_taken_into_account(moment: datetime, minutes: int) -> None:
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    text = f"{moment.isoformat(timespec='seconds')}{sign}{hours:02}:{rest:02}"
    expected = moment.replace(microsecond=0, tzinfo=UTC).timestamp() - minutes * 60
    assert parse_time(text) == expected


def test_a_leap_second_is_the_number_of_the_next_one() -> None:
    assert parse_time("2016-12-31T23:59:60Z") == parse_time("2017-01-01T00:00:00Z")


@pytest.mark.parametrize(
    "text",
    [
        "", "2026-11-22", "2026-11-22T10:00:00", "2026-11-22 10:00:00Z", "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z", "2026-11-22T24:00:00Z", "2026-11-22T10:00:00+24:00", "1969-12-31T23:59:59Z",
        "2026-11-22T10:00:00.Z", "2026-11-22T10:00:00Z\n",
        "\u0662026-11-22T10:00:00Z", "0000-01-01T00:00:00Z",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be an RFC 3339|calendar|offset|1970"):
        parse_time(text)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("event_byte", "event_bytes"),
        ("Sink", "sink"),
        ("sink-credential", "sinkcredential"),
        ("zzz", None),
        ("", None),
    ],
)
def test_the_nearest_name_is_found(name: str, meant: str | None) -> None:
    assert nearest(name, ["event_bytes", "sink", "sinkcredential"]) == meant


@given(st.text())
def test_any_text_has_a_nearest_name_or_none(name: str) -> None:
    assert nearest(name, ["sink", "source"]) in ("sink", "source", None)


@given(st.text())
def test_parsers_raise_nothing_but_value_errors(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_time):
        with contextlib.suppress(ValueError):
            parse(text)
