# SPDX-License-Identifier: Apache-2.0
"""The text format of Prometheus, and counting that only rises."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from fairlead.telemetry import SECONDS, Histogram, Telemetry, family

NAMES = (
    "fairlead_events_accepted_total",
    "fairlead_events_duplicates_total",
    "fairlead_deliveries_total",
    "fairlead_delivery_seconds",
    "fairlead_accept_seconds",
    "fairlead_skipped_total",
    "fairlead_commit_seconds",
    "fairlead_switches_total",
)
LINE = re.compile(r'[a-z_]+(\{[a-z]+="(\\["\\n]|[^"\\\n])*"(,[a-z]+="(\\["\\n]|[^"\\\n])*")*\})? \S+')


def test_every_metric_is_announced_once_even_before_anything_happened() -> None:
    text = Telemetry().render()
    for name in NAMES:
        assert len(re.findall(f"^# TYPE {name} ", text, re.MULTILINE)) == 1
        assert len(re.findall(f"^# HELP {name} ", text, re.MULTILINE)) == 1


def test_deliveries_are_told_apart_by_subscription_and_outcome() -> None:
    telemetry = Telemetry()
    telemetry.deliveries.of("console", "delivered").value += 2
    telemetry.deliveries.of("audit", "unavailable").value += 1
    assert 'fairlead_deliveries_total{subscription="console",outcome="delivered"} 2\n' in telemetry.render()
    assert "audit" not in telemetry.render(frozenset({"console"}))
    telemetry.deliveries.forget("console")
    assert "console" not in telemetry.render()


@given(st.text())
def test_a_label_of_any_text_stays_one_line(value: str) -> None:
    text = family("x", "gauge", "X.", [({"label": value}, 1.5)])
    *_, line, end = text.split("\n")
    assert end == ""
    assert LINE.fullmatch(line)
    assert text.count("\n") == 3


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_a_histogram_counts_each_duration_in_every_bucket_that_holds_it(durations: list[float]) -> None:
    histogram = Histogram()
    for seconds in durations:
        histogram.observe(seconds)
    buckets = dict(histogram.cumulative())
    for bound in SECONDS:
        assert buckets[repr(bound)] == sum(seconds <= bound for seconds in durations)
    assert buckets["+Inf"] == histogram.count == len(durations)


def test_every_line_is_a_comment_or_a_sample() -> None:
    telemetry = Telemetry()
    telemetry.accept_seconds.observe(0.002)
    telemetry.deliveries.of("a", "gone").value += 1
    for line in telemetry.render().splitlines():
        assert line.startswith("# ") or re.fullmatch(r"[a-z_]+(\{[^{}]*\})? [0-9.e+-]+|.*\+Inf.*", line)
