# SPDX-License-Identifier: Apache-2.0
"""How hard properties are tried: in full, unless `make check` asks for an answer in seconds."""

from __future__ import annotations

import os

QUICK = os.environ.get("QUICK") == "1"


def examples(full: int) -> int:
    """How many examples a property gets: `full` as in `make test` and CI, or a tenth when in a hurry."""
    return max(5, full // 10) if QUICK else full
