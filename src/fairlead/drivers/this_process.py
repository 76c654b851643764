# SPDX-License-Identifier: Apache-2.0
"""Which process this is: a pid alone does not tell, for the system gives it again, to a descendant too."""

from __future__ import annotations

import os

Process = tuple[int, int]


class _Forks:
    seen = 0


def this_process() -> Process:
    """The pid, and how many forks lead here; no ancestor has both."""
    return os.getpid(), _Forks.seen


def _count() -> None:
    _Forks.seen += 1


os.register_at_fork(after_in_child=_count)
