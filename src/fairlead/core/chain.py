# SPDX-License-Identifier: Apache-2.0
"""The receiver's rules 1 to 6 of Chained Resend (design, section 6), as pure decisions.

`decide` says, from what the inbox holds and what a delivery carries, whether the delivery is

    stale      an older generation or epoch: somebody newer has spoken; nothing of it counts
    duplicate  applied before, or settled before: acknowledged again
    chain      an earlier event of this key that the relay still owes is missing: not applied
    apply      the next one: the handler runs

and `conclude` says what the inbox holds afterwards. Why it holds: for a < b of a key, b carries `prev` ≥ a
while a is unsettled, so b is not applied before a; a copy of a that comes later is at or below what is
applied.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec.structs import replace

from fairlead.core.stamps import FenceStamps, Stamps

Ruling = Literal["stale", "duplicate", "chain", "apply"]


# gc=False, as of whatever a delivery brings along: it is in no cycle, and thousands are held at once
class Memory(msgspec.Struct, frozen=True, gc=False):
    """What an inbox holds of one channel, and of one key in it.

    Attributes:
        generation, epoch: the newest pair seen; (0, 0) for a channel never heard of.
        seq: the last `flseq` of that epoch.
        floor: everything at or below is settled in that generation.
        applied: the last position of the key applied in that generation, 0 for none (or pruned: see `floor`).
    """

    generation: int = 0
    epoch: int = 0
    seq: int = 0
    floor: int = 0
    applied: int = 0

    @property
    def settled(self) -> int:
        """Everything of the key up to here is done with: what an answer reports as `applied`."""
        return max(self.applied, self.floor)


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What to do with a delivery.

    Attributes:
        ruling: see the module.
        memory: what the inbox holds after rules 1 and 2; unchanged when stale.
    """

    ruling: Ruling
    memory: Memory


def decide(memory: Memory, stamps: Stamps) -> Decision:
    """Rules 1 to 4, in their order. The caller holds the key's lock since before it read `memory`."""
    if is_stale(memory, stamps):
        return Decision("stale", memory)
    memory = entered(memory, stamps)
    if stamps.seq is not None:
        memory = replace(memory, seq=max(memory.seq, stamps.seq))
    if stamps.pos <= memory.settled:
        return Decision("duplicate", memory)
    if stamps.prev > memory.settled:
        return Decision("chain", memory)
    return Decision("apply", memory)


def is_stale(memory: Memory, stamps: FenceStamps) -> bool:
    """Rule 1, first half: whether the inbox has seen a newer (generation, epoch)."""
    return (stamps.generation, stamps.epoch) < (memory.generation, memory.epoch)


def entered(memory: Memory, stamps: FenceStamps) -> Memory:
    """Rule 1, second half: a newer generation starts everything afresh, a newer epoch only `seq`."""
    if stamps.generation > memory.generation:
        return Memory(stamps.generation, stamps.epoch)
    if stamps.epoch > memory.epoch:
        return replace(memory, epoch=stamps.epoch, seq=0)
    return memory


def conclude(memory: Memory, stamps: FenceStamps, *, applied: bool = False) -> Memory:
    """Rules 5 and 6: what the inbox holds at the commit; it may forget every key at or below `floor`.

    Args:
        memory: of the decision, which was not stale.
        stamps: of the delivery.
        applied: whether the handler ran to its end.
    """
    position = stamps.pos if applied and isinstance(stamps, Stamps) else memory.applied
    return replace(memory, applied=max(memory.applied, position), floor=max(memory.floor, stamps.floor))
