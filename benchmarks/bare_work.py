# SPDX-License-Identifier: Apache-2.0
"""How long the same little piece of Python takes while something else is measured: what the machine adds.

    python -m benchmarks.bare_work

Does it a hundred times a second until its standard input ends, then prints the milliseconds of each. A
machine that shares its processors stops for moments; who waits then tells nothing of what was measured.
"""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

TIMES_A_SECOND = 100
STEPS = 4000  # a fifth of a millisecond


def _work() -> float:
    """Milliseconds for a fixed number of steps."""
    begun, total = time.perf_counter(), 0
    for step in range(STEPS):
        total += step
    return (time.perf_counter() - begun) * 1000


@contextlib.contextmanager
def bare_work() -> Iterator[Callable[[], list[float]]]:
    """Do it beside what is measured; what is yielded ends it and gives the milliseconds, in rising order."""
    command = [sys.executable, "-m", "benchmarks.bare_work"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def taken() -> list[float]:
            output, _ = process.communicate()
            return sorted(json.loads(output))

        try:
            yield taken
        finally:
            process.kill()


def main() -> None:
    took: list[float] = []
    begun = time.monotonic()
    while not select.select(
        [sys.stdin], [], [], max(0.0, begun + len(took) / TIMES_A_SECOND - time.monotonic())
    )[0]:
        took.append(_work())
    print(json.dumps(took))


if __name__ == "__main__":
    main()
