# SPDX-License-Identifier: Apache-2.0
"""The receiver's rules, one by one and against a model that never forgets anything."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from fairlead.core.chain import Memory, conclude, decide, entered, is_stale
from fairlead.core.channel import ChannelId
from fairlead.core.stamps import FenceStamps, Stamps
from tests.effort import examples

CHANNEL = ChannelId("console", 5)
small = st.integers(0, 6)


def stamps(
    pos: int = 1,
    prev: int = 0,
    *,
    generation: int = 1,
    epoch: int = 1,
    floor: int = 0,
    seq: int | None = None,
) -> Stamps:
    return Stamps(CHANNEL, generation, epoch, floor, pos=pos, prev=prev, seq=seq)


memories = st.builds(Memory, generation=small, epoch=small, seq=small, floor=small, applied=small)
deliveries = st.builds(
    stamps,
    pos=st.integers(1, 9),
    prev=small,
    generation=small,
    epoch=small,
    floor=small,
    seq=st.none() | small,
)


def test_an_older_generation_is_stale_whatever_its_epoch() -> None:
    assert decide(Memory(2, 1), stamps(generation=1, epoch=9)).ruling == "stale"


def test_an_older_epoch_of_the_same_generation_is_stale() -> None:
    assert decide(Memory(2, 5), stamps(generation=2, epoch=4)).ruling == "stale"


def test_a_newer_generation_with_a_lower_epoch_is_not_stale_and_starts_afresh() -> None:
    decision = decide(Memory(1, 9, seq=7, floor=40, applied=41), stamps(pos=3, generation=2, epoch=1))
    assert decision.ruling == "apply"
    assert decision.memory == Memory(2, 1)


def test_a_newer_epoch_keeps_what_is_applied_and_starts_seq_afresh() -> None:
    decision = decide(Memory(1, 1, seq=7, floor=4, applied=9), stamps(pos=9, epoch=2, seq=1))
    assert decision.ruling == "duplicate"
    assert decision.memory == Memory(1, 2, seq=1, floor=4, applied=9)


def test_a_jump_of_seq_is_remembered_and_changes_nothing_else() -> None:
    decision = decide(Memory(1, 1, seq=2), stamps(pos=9, seq=6))
    assert (decision.ruling, decision.memory.seq) == ("apply", 6)


def test_an_older_seq_does_not_lower_the_last_one() -> None:
    assert decide(Memory(1, 1, seq=6, applied=9), stamps(pos=4, seq=2)).memory.seq == 6


def test_what_is_at_or_below_applied_or_floor_is_a_duplicate() -> None:
    assert decide(Memory(1, 1, applied=5), stamps(pos=5)).ruling == "duplicate"
    assert decide(Memory(1, 1, floor=5), stamps(pos=5)).ruling == "duplicate"
    assert decide(Memory(1, 1, floor=5), stamps(pos=6)).ruling == "apply"


def test_an_event_whose_owed_predecessor_is_missing_is_out_of_chain() -> None:
    assert decide(Memory(1, 1, applied=3), stamps(pos=9, prev=4)).ruling == "chain"
    assert decide(Memory(1, 1, applied=4), stamps(pos=9, prev=4)).ruling == "apply"
    assert decide(Memory(1, 1, floor=4), stamps(pos=9, prev=4)).ruling == "apply"


def test_a_failed_handler_leaves_applied_alone_but_keeps_the_fence_and_the_floor() -> None:
    decision = decide(Memory(1, 1, applied=3), stamps(pos=9, epoch=2, floor=2))
    assert conclude(decision.memory, stamps(pos=9, epoch=2, floor=2)) == Memory(1, 2, floor=2, applied=3)


def test_a_fence_raises_the_pair_and_the_floor_and_applies_nothing() -> None:
    fence = FenceStamps(CHANNEL, generation=1, epoch=3, floor=7)
    held = Memory(1, 2, seq=5, floor=6, applied=9)
    assert not is_stale(held, fence)
    assert conclude(entered(held, fence), fence) == Memory(1, 3, floor=7, applied=9)


@given(memories, deliveries)
def test_no_decision_ever_goes_back(held: Memory, delivery: Stamps) -> None:
    decision = decide(held, delivery)
    after = conclude(decision.memory, delivery, applied=decision.ruling == "apply")
    if decision.ruling == "stale":
        assert decision.memory == held
        return
    assert (after.generation, after.epoch) >= (held.generation, held.epoch)
    if after.generation == held.generation:
        assert after.floor >= held.floor
        assert after.applied >= held.applied
        assert after.settled >= held.settled


@given(memories, deliveries)
def test_the_same_delivery_again_is_a_duplicate_once_applied(held: Memory, delivery: Stamps) -> None:
    decision = decide(held, delivery)
    if decision.ruling == "apply":
        again = decide(conclude(decision.memory, delivery, applied=True), delivery)
        assert again.ruling == "duplicate"


class ChainAgainstNaiveModel(RuleBasedStateMachine):
    """A relay that owes a log to a receiver over a network that repeats, delays and reorders at will.

    The model keeps every position ever applied, per generation and key, and never prunes; the receiver keeps
    what `chain` keeps. Whatever copies arrive, what is applied must stay increasing and without a gap.
    """

    copies = Bundle("copies")

    @initialize()
    def begin(self) -> None:
        self.key_of: dict[int, str] = {}
        self.generation = self.epoch = 1
        self.low = 0
        self.settled: set[int] = set()
        self.channel = Memory()
        self.rows: dict[str, int] = {}
        self.model: dict[tuple[int, str], list[int]] = {}
        self.start = {1: 1}

    def _floor(self) -> int:
        while self.low + 1 in self.settled:
            self.low += 1
        return self.low

    @rule(key=st.sampled_from("abc"))
    def accept(self, key: str) -> None:
        self.key_of[len(self.key_of) + 1] = key

    @rule(target=copies, pick=st.integers(0, 30))
    def send(self, pick: int) -> tuple[str, Stamps] | None:
        owed = [pos for pos in self.key_of if pos > self.low and pos not in self.settled]
        if not owed:
            return None
        pos = owed[pick % len(owed)]
        key = self.key_of[pos]
        prev = max((p for p in owed if p < pos and self.key_of[p] == key), default=0)
        return key, stamps(pos, prev, generation=self.generation, epoch=self.epoch, floor=self._floor())

    @rule()
    def change_owner(self) -> None:
        self.epoch += 1

    @rule(back=st.integers(0, 5))
    def replay(self, back: int) -> None:
        self.generation, self.epoch = self.generation + 1, 1
        self._floor()
        self.low = max(0, self.low - back)
        self.settled.clear()
        self.start[self.generation] = self.low + 1

    @rule(copy=copies, fails=st.booleans(), answered=st.booleans())
    def arrive(self, copy: tuple[str, Stamps] | None, fails: bool, answered: bool) -> None:
        if copy is None:
            return
        key, delivery = copy
        held = Memory(
            self.channel.generation, self.channel.epoch, 0, self.channel.floor, self.rows.get(key, 0)
        )
        decision = decide(held, delivery)
        if decision.ruling == "stale":
            return
        if decision.memory.generation > held.generation:
            self.rows.clear()
        applied = decision.ruling == "apply" and not fails
        if applied:
            self.apply(key, delivery)
        after = conclude(decision.memory, delivery, applied=applied)
        self.channel = after
        self.rows[key] = after.applied
        self.rows = {name: pos for name, pos in self.rows.items() if pos > after.floor}
        if answered and delivery.generation == self.generation:
            mine = {p for p, name in self.key_of.items() if name == key and p <= after.settled}
            self.settled |= {p for p in mine if p > self.low}

    def apply(self, key: str, delivery: Stamps) -> None:
        history = self.model.setdefault((delivery.generation, key), [])
        assert not history or history[-1] < delivery.pos, "applied out of order or twice"
        first = self.start[delivery.generation]
        owed = [p for p, name in self.key_of.items() if name == key and first <= p < delivery.pos]
        assert [p for p in owed if p not in history] == [], "applied before an earlier one that is owed"
        history.append(delivery.pos)

    @invariant()
    def what_settled_was_applied(self) -> None:
        for pos in self.settled:
            applied = self.model.get((self.generation, self.key_of[pos]), [])
            assert pos in applied, f"{pos} settled in generation {self.generation} but was never applied"


TestChainAgainstNaiveModel = ChainAgainstNaiveModel.TestCase
TestChainAgainstNaiveModel.settings = settings(
    max_examples=examples(60), stateful_step_count=40, deadline=None
)
