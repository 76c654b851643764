# SPDX-License-Identifier: Apache-2.0
"""What a row of the table says, and how the table is written."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt  # after the back end is chosen


@dataclass(frozen=True)
class Figure:
    """One measure against its limit, from one run.

    Attributes:
        limit: what is to be reached; `at_most` says on which side of it.
        detail: what stood behind the number in this run.
    """

    measure: str
    value: float
    limit: float
    unit: str
    at_most: bool
    detail: str

    @property
    def reached(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    @property
    def share(self) -> float:
        """1.0 is exactly the limit, more is better."""
        return self.limit / max(self.value, 1e-9) if self.at_most else self.value / self.limit


def write(figures: list[Figure], folder: Path) -> str:
    """Write results.json, results.md and results.svg; return the table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps([asdict(one) for one in figures], indent=1) + "\n")
    table = _table(figures)
    (folder / "results.md").write_text(table)
    _plot(figures, folder / "results.svg")
    return table


def _table(figures: list[Figure]) -> str:
    machine = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    lines = [
        f"Measured {datetime.now(UTC):%Y-%m-%d}, {machine}, single run.",
        "",
        "| measure | this run | limit | reached | behind the number |",
        "|---|---|---|---|---|",
    ]
    for one in figures:
        sign = "≤" if one.at_most else "≥"
        mark = "yes" if one.reached else "**no**"
        limit = f"{sign} {one.limit:g} {one.unit}".strip()
        lines.append(f"| {one.measure} | {one.value:.3g} {one.unit} | {limit} | {mark} | {one.detail} |")
    return "\n".join(lines) + "\n"


def _plot(figures: list[Figure], path: Path) -> None:
    names = [one.measure for one in figures]
    shares = [min(one.share, 4.0) for one in figures]
    colours = ["#2a7f62" if one.reached else "#b23a48" for one in figures]
    figure, axes = plt.subplots(figsize=(5, 0.35 * len(figures) + 1))  # the bars; names come on top of it
    bars = axes.barh(names, shares, color=colours)
    axes.axvline(1.0, color="black", linewidth=1)
    for label in axes.bar_label(bars, [f"{one.value:.3g} {one.unit}" for one in figures], padding=3):
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})  # legible across the limit
    axes.set_xlabel("share of the limit (1 = reached, longer is better, cut at 4)")
    axes.margins(x=0.15, y=0.01)
    axes.invert_yaxis()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)
