# SPDX-License-Identifier: Apache-2.0
"""What a channel's lanes ask to be stored, as a value (design, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead.core.channel import Hold, Progress, Skip


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a flush has to store, and which lanes wait for it."""

    progress: Progress
    holds: tuple[Hold, ...]
    released: tuple[str, ...]
    skips: tuple[Skip, ...]
    waiting: tuple[str, ...]
