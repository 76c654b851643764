# SPDX-License-Identifier: Apache-2.0
"""strace on a live process: to watch its system calls, or to let one of them fail."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.waiting import until


@contextmanager
def straced(pid: int, place: Path, *options: str) -> Iterator[Path]:
    """Attach to every thread of `pid` until the block ends; yields the file that the trace goes to.

    Args:
        options: of strace: `-e trace=…`, `-e inject=…`.
    """
    trace, said = place / "strace.out", place / "strace.log"
    command = ["strace", "-f", "-p", str(pid), "-o", str(trace), *options]
    with said.open("wb") as output:
        tracer = subprocess.Popen(command, stderr=output, start_new_session=True)
    try:
        until(lambda: "attached" in said.read_text() or tracer.poll() is not None, "strace is attached")
        assert tracer.poll() is None, f"strace cannot attach (root may): {said.read_text()}"
        yield trace
    finally:
        tracer.terminate()  # it detaches; the process goes on
        tracer.wait()
