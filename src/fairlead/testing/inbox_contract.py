# SPDX-License-Identifier: Apache-2.0
"""The suite that every inbox passes unchanged.

    class TestMyInbox(InboxContract):
        def open(self, place: Path) -> Inbox:
            return MyInbox(place / "inbox")

`open` is called several times for one place: it must then open the same inbox again, as another process does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.core.chain import Memory
from fairlead.core.channel import ChannelId
from fairlead.errors import InboxBusy, InboxError, LockLost
from fairlead.sdk.inbox.port import Inbox, Transaction, memory_of, together

CHANNEL = ChannelId("console", 5)
OTHER_CHANNEL = ChannelId("console", 6)
DEADLINE_SECONDS = 30.0


class InboxContract:
    """Subclass it, name the subclass `Test…`, and say how to open the inbox."""

    def open(self, place: Path) -> Inbox:
        """Open the inbox that lives in a directory; a lock that is not free may wait for half a second."""
        raise NotImplementedError

    @pytest.fixture
    def inbox(self, tmp_path: Path) -> Iterator[Inbox]:
        inbox = self.open(tmp_path)
        yield inbox
        inbox.close()

    @pytest.fixture
    def other(self, tmp_path: Path) -> Iterator[Inbox]:
        """The same inbox, opened once more."""
        inbox = self.open(tmp_path)
        yield inbox
        inbox.close()

    def test_a_channel_never_heard_of_holds_nothing(self, inbox: Inbox) -> None:
        assert read(inbox, "k") == Memory()

    def test_what_was_recorded_is_there_after_reopening(self, inbox: Inbox, other: Inbox) -> None:
        store(inbox, "k", Memory(7, 2, 3, 4, 9))
        assert read(inbox, "k") == read(other, "k") == Memory(7, 2, 3, 4, 9)

    def test_a_rollback_stores_nothing(self, inbox: Inbox) -> None:
        transaction = inbox.begin(CHANNEL, "k")
        transaction.record(Memory(7, 2, applied=9))
        transaction.rollback()
        assert read(inbox, "k") == Memory()

    def test_a_commit_without_a_record_stores_nothing(self, inbox: Inbox) -> None:
        inbox.begin(CHANNEL, "k").commit()
        assert read(inbox, "k") == Memory()

    def test_rollback_after_commit_does_nothing(self, inbox: Inbox) -> None:
        transaction = store(inbox, "k", Memory(7, 2, applied=9))
        transaction.rollback()
        transaction.rollback()
        assert read(inbox, "k").applied == 9

    def test_keys_of_a_channel_share_its_fence_and_floor_but_not_what_is_applied(self, inbox: Inbox) -> None:
        store(inbox, "k", Memory(7, 2, 3, 4, 9))
        assert read(inbox, "l") == Memory(7, 2, 3, 4, 0)

    def test_channels_share_nothing(self, inbox: Inbox) -> None:
        store(inbox, "k", Memory(7, 2, 3, 4, 9))
        assert read(inbox, "k", OTHER_CHANNEL) == Memory()

    def test_a_newer_generation_forgets_every_key_of_the_channel(self, inbox: Inbox) -> None:
        store(inbox, "k", Memory(7, 2, applied=9))
        store(inbox, "l", Memory(8, 1, applied=3))
        assert read(inbox, "k") == Memory(8, 1)
        assert read(inbox, "l").applied == 3

    def test_a_newer_generation_begins_a_key_again_at_a_lower_position(self, inbox: Inbox) -> None:
        store(inbox, "k", Memory(7, 2, applied=9))
        store(inbox, "k", Memory(8, 1, applied=3))
        assert read(inbox, "k") == Memory(8, 1, applied=3)

    def test_a_floor_forgets_the_keys_at_or_below_it(self, inbox: Inbox) -> None:
        store(inbox, "k", Memory(7, 2, applied=9))
        store(inbox, "l", Memory(7, 2, applied=11))
        store(inbox, "m", Memory(7, 2, floor=9, applied=12))
        assert [read(inbox, key).applied for key in "klm"] == [0, 11, 12]
        assert read(inbox, "k").settled == 9

    def test_nothing_goes_back_within_a_generation(self, inbox: Inbox) -> None:
        store(inbox, "k", Memory(7, 5, 6, 8, 9))
        store(inbox, "k", Memory(7, 4, 9, 3, 2))
        assert read(inbox, "k") == Memory(7, 5, 6, 8, 9)

    def test_a_record_of_an_older_generation_is_refused_and_stores_nothing(
        self, inbox: Inbox, other: Inbox
    ) -> None:
        late = inbox.begin(CHANNEL, "k")
        late.record(Memory(7, 2, applied=9))
        store(other, None, Memory(8, 1))
        with pytest.raises(LockLost):
            late.commit()
        late.rollback()
        assert read(inbox, "k") == Memory(8, 1)

    def test_a_fence_needs_no_lock_of_a_key(self, inbox: Inbox, other: Inbox) -> None:
        held = inbox.begin(CHANNEL, "k")
        store(other, None, Memory(7, 2, floor=4))
        held.rollback()
        assert read(inbox, "k") == Memory(7, 2, floor=4)

    def test_a_key_has_one_transaction_at_a_time_between_processes(self, inbox: Inbox, other: Inbox) -> None:
        held = inbox.begin(CHANNEL, "k")
        with pytest.raises(InboxBusy):
            other.begin(CHANNEL, "k")
        held.rollback()
        assert read(other, "k") == Memory()

    def test_a_key_has_one_transaction_at_a_time_within_a_process(self, inbox: Inbox) -> None:
        held = inbox.begin(CHANNEL, "k")
        with pytest.raises(InboxBusy):
            inbox.begin(CHANNEL, "k")
        held.commit()
        assert read(inbox, "k") == Memory()

    def test_other_keys_do_not_wait(self, inbox: Inbox, other: Inbox) -> None:
        held = inbox.begin(CHANNEL, "k")
        store(inbox, "l", Memory(7, 2, applied=3))
        store(other, "m", Memory(7, 2, applied=4))
        held.rollback()
        assert [read(inbox, key).applied for key in "klm"] == [0, 3, 4]

    def test_a_transaction_reads_after_it_has_the_lock(self, inbox: Inbox, other: Inbox) -> None:
        held = inbox.begin(CHANNEL, "k")
        held.record(Memory(7, 2, applied=9))
        seen: list[Memory] = []
        reader = threading.Thread(target=lambda: seen.append(read_patiently(other, "k")))
        reader.start()
        held.commit()
        reader.join(DEADLINE_SECONDS)
        assert seen == [Memory(7, 2, applied=9)]

    def test_many_threads_count_one_key_up_without_losing_a_step(self, inbox: Inbox, other: Inbox) -> None:
        def count(which: Inbox) -> None:
            for _ in range(5):
                transaction = begin_patiently(which, "k")
                memory = memory_of(transaction)
                transaction.record(Memory(7, 2, applied=memory.applied + 1))
                transaction.commit()

        threads = [threading.Thread(target=count, args=(which,)) for which in (inbox, other) * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_SECONDS)
        assert read(inbox, "k").applied == 20

    def test_many_keys_at_once_keep_what_each_recorded(self, inbox: Inbox, other: Inbox) -> None:
        def count(which: Inbox, key: str) -> None:
            for applied in range(1, 6):
                transaction = begin_patiently(which, key)
                transaction.record(Memory(7, 2, applied, floor=applied // 3, applied=applied * 10))
                transaction.commit()

        keys = [f"k{n}" for n in range(12)]
        threads = [
            threading.Thread(target=count, args=((inbox, other)[n % 2], key)) for n, key in enumerate(keys)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_SECONDS)
        assert [read(other, key) for key in keys] == [Memory(7, 2, 5, 1, 50)] * 12

    # -- several at once; an inbox that says nothing of it is asked one by one -------------------------------

    def test_what_began_together_is_stored_together(self, inbox: Inbox, other: Inbox) -> None:
        many = together(inbox)
        begun = many.begin_all([(CHANNEL, "k"), (OTHER_CHANNEL, "k"), (CHANNEL, "l"), (CHANNEL, None)])
        transactions = [one for one in begun if not isinstance(one, InboxError)]
        assert [memory_of(one) for one in transactions] == [Memory()] * 4
        for applied, one in enumerate(transactions[:3], 1):
            one.record(Memory(7, 2, applied=applied))
        transactions[3].record(Memory(7, 3))
        assert many.commit_all(transactions) == [None] * 4
        assert [read(other, "k"), read(other, "l")] == [Memory(7, 3, applied=1), Memory(7, 3, applied=3)]
        assert read(other, "k", OTHER_CHANNEL) == Memory(7, 2, applied=2)

    def test_one_that_is_locked_does_not_keep_the_others_from_beginning(
        self, inbox: Inbox, other: Inbox
    ) -> None:
        held = other.begin(CHANNEL, "k")
        begun = together(inbox).begin_all([(CHANNEL, "k"), (CHANNEL, "l")])
        assert isinstance(begun[0], InboxBusy)
        assert not isinstance(begun[1], InboxError)
        begun[1].rollback()
        held.rollback()
        assert read(inbox, "k") == read(inbox, "l") == Memory()

    def test_one_that_has_lost_its_lock_does_not_keep_the_others_from_being_stored(
        self, inbox: Inbox, other: Inbox
    ) -> None:
        many = together(inbox)
        begun = many.begin_all([(CHANNEL, "k"), (OTHER_CHANNEL, "l")])
        transactions = [one for one in begun if not isinstance(one, InboxError)]
        for one in transactions:
            one.record(Memory(7, 2, applied=9))
        store(other, None, Memory(8, 1))
        errors = many.commit_all(transactions)
        assert isinstance(errors[0], LockLost)
        assert errors[1] is None
        assert read(other, "k") == Memory(8, 1)
        assert read(other, "l", OTHER_CHANNEL).applied == 9

    def test_one_may_be_rolled_back_and_the_others_stored(self, inbox: Inbox) -> None:
        many = together(inbox)
        begun = many.begin_all([(CHANNEL, "k"), (CHANNEL, "l")])
        transactions = [one for one in begun if not isinstance(one, InboxError)]
        for one in transactions:
            one.record(Memory(7, 2, applied=9))
        transactions[0].rollback()
        assert many.commit_all(transactions[1:]) == [None]
        assert [read(inbox, "k").applied, read(inbox, "l").applied] == [0, 9]


def read(inbox: Inbox, key: str, channel: ChannelId = CHANNEL) -> Memory:
    """What an inbox holds of a key."""
    transaction = inbox.begin(channel, key)
    try:
        return memory_of(transaction)
    finally:
        transaction.rollback()


def store(inbox: Inbox, key: str | None, memory: Memory) -> Transaction:
    """Record and commit."""
    transaction = inbox.begin(CHANNEL, key)
    transaction.record(memory)
    transaction.commit()
    return transaction


def begin_patiently(inbox: Inbox, key: str) -> Transaction:
    """Begin, however long the key is locked."""
    while True:
        try:
            return inbox.begin(CHANNEL, key)
        except InboxBusy:
            continue


def read_patiently(inbox: Inbox, key: str) -> Memory:
    """Read, however long the key is locked."""
    transaction = begin_patiently(inbox, key)
    memory = memory_of(transaction)
    transaction.rollback()
    return memory
