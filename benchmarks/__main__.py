# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks [row …]`: measure, print the table, write benchmarks/out."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.figures import Figure, write
from benchmarks.rows import (
    backlog_batches,
    bus_and_oslo,
    bus_and_rest,
    bus_failover,
    bus_route,
    end_to_end,
    fan_out,
    held_lanes,
    latency,
    openstack_notify,
)

ROWS = {
    "end_to_end": end_to_end.measure,
    "backlog_batches": backlog_batches.measure,
    "latency": latency.measure,
    "fan_out": fan_out.measure,
    "held_lanes": held_lanes.measure,
    "openstack_notify": openstack_notify.measure,
    "bus_route": bus_route.measure,
    "bus_and_rest": bus_and_rest.measure,
    "bus_and_oslo": bus_and_oslo.measure,
    "bus_failover": bus_failover.measure,
}


def main(names: list[str]) -> int:
    """Measure the rows named, or all; 1 if one of them does not reach its limit."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-", dir=Path(__file__).parent) as folder:
        for name in names or list(ROWS):
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            figures += ROWS[name](Path(folder) / name)
    print(write(figures, Path(__file__).parent / "out"))
    return 0 if all(one.reached for one in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
