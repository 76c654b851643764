# SPDX-License-Identifier: Apache-2.0
"""What the relay counts while it works: plain numbers, shown as Prometheus text (interface, section 6).

The names are API. Counting is an addition to an attribute: no lock (one event loop counts), no dependency,
nothing to switch off. Counters begin at 0 with the process.

    telemetry = Telemetry()
    telemetry.accepted.value += 1
    telemetry.deliveries.of("console", "delivered").value += 1
    telemetry.delivery_seconds.observe(0.004)
    text = telemetry.render()
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Counter:
    """A number that only rises; add to `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Counters:
    """Counters of one name, told apart by label values."""

    __slots__ = ("_by_values", "labels")

    def __init__(self, *labels: str) -> None:
        self.labels = labels
        self._by_values: dict[tuple[str, ...], Counter] = {}

    def of(self, *values: str) -> Counter:
        """The counter of these label values, in the order of `labels`; made at first use."""
        counter = self._by_values.get(values)
        if counter is None:
            counter = self._by_values[values] = Counter()
        return counter

    def forget(self, first_value: str) -> None:
        """Drop every counter whose first label has this value: its subscription is gone."""
        for values in [values for values in self._by_values if values[0] == first_value]:
            del self._by_values[values]

    def __iter__(self) -> Iterator[tuple[tuple[str, ...], int]]:
        return iter([(values, counter.value) for values, counter in sorted(self._by_values.items())])


class Histogram:
    """Durations in seconds, counted in buckets."""

    __slots__ = ("_buckets", "count", "total_seconds")

    def __init__(self) -> None:
        self._buckets = [0] * (len(SECONDS) + 1)
        self.count = 0
        self.total_seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._buckets[bisect_left(SECONDS, seconds)] += 1
        self.count += 1
        self.total_seconds += seconds

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """Each bucket's upper bound with how many durations lie at or below it."""
        running = 0
        for bound, count in zip((*map(repr, SECONDS), "+Inf"), self._buckets, strict=True):
            running += count
            yield bound, running


class Telemetry:
    """Every number that is counted; gauges are read when they are shown (`engine/queries/status.py`)."""

    def __init__(self) -> None:
        self.accepted = Counter()
        self.duplicates = Counter()
        self.deliveries = Counters("subscription", "outcome")
        self.skipped = Counter()
        self.switches = Counter()
        self.accept_seconds = Histogram()
        self.delivery_seconds = Histogram()
        self.commit_seconds = Histogram()

    def render(self, subscriptions: frozenset[str] | None = None) -> str:
        """All of it in Prometheus' text format 0.0.4; counters of other than `subscriptions` are left out."""
        seen = (
            (dict(zip(self.deliveries.labels, values, strict=True)), value)
            for values, value in self.deliveries
            if subscriptions is None or values[0] in subscriptions
        )
        return "".join(
            (
                _single("fairlead_events_accepted_total", "Events accepted and stored.", self.accepted),
                _single(
                    "fairlead_events_duplicates_total", "Events that the log held already.", self.duplicates
                ),
                family("fairlead_deliveries_total", "counter", "Attempts by what came of them.", seen),
                _histogram(
                    "fairlead_delivery_seconds", "Time of one delivery request.", self.delivery_seconds
                ),
                _histogram("fairlead_accept_seconds", "Time to accept one request.", self.accept_seconds),
                _single("fairlead_skipped_total", "Events skipped, on record.", self.skipped),
                _histogram("fairlead_commit_seconds", "Time of one commit.", self.commit_seconds),
                _single("fairlead_switches_total", "Changes of a channel's target.", self.switches),
            )
        )


def family(
    name: str,
    kind: Literal["counter", "gauge", "histogram"],
    description: str,
    samples: Iterable[tuple[Mapping[str, str], float]],
) -> str:
    """One metric with its samples, as text."""
    lines = [f"# HELP {name} {description}\n# TYPE {name} {kind}\n"]
    lines += [f"{name}{_labels(labels)} {_number(value)}\n" for labels, value in samples]
    return "".join(lines)


def _single(name: str, description: str, counter: Counter) -> str:
    return family(name, "counter", description, [({}, counter.value)])


def _histogram(name: str, description: str, histogram: Histogram) -> str:
    lines = [f"# HELP {name} {description}\n# TYPE {name} histogram\n"]
    lines += [f'{name}_bucket{{le="{bound}"}} {count}\n' for bound, count in histogram.cumulative()]
    lines.append(f"{name}_sum {_number(histogram.total_seconds)}\n{name}_count {histogram.count}\n")
    return "".join(lines)


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items()) + "}"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))
